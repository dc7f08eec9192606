"""The items of a campaign: which files, q, windows and models are meant, what is pooled, and their manifest."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcxpcs.answer.campaign import Label
from hpcxpcs.config import Config
from hpcxpcs.config.campaign import Joint, JointSet
from hpcxpcs.config.document import parse_value, read_document
from hpcxpcs.config.load import varied
from hpcxpcs.config.parameters import model_named
from hpcxpcs.config.problems import suggestion
from hpcxpcs.data.formats import open_file
from hpcxpcs.data.select import SAME_Q, nearest_q, rings
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.files.places import folder_name

Frames = tuple[int, int]
Combination = tuple[str, tuple[tuple[str, Any], ...]]
"""A model, and the keys that are set besides."""


@dataclass(frozen=True)
class Member:
    """One of the data sets of a pooled item: its file with its stamp, q (1/Å; None: the configuration's), and label."""

    file: Path
    stamp: tuple[int, int]
    q: float | None
    label: str

    def record(self) -> list[Any]:
        """The member as JSON values."""
        return [str(self.file), list(self.stamp), self.q, self.label]


@dataclass(frozen=True)
class Item:
    """One fit: the file, what is selected of it, and which `variant` of the configuration it is fitted with.

    A pooled item has `members`, whose first one's file it names, and parameters that are `free` in each of them.

    `q` (1/Å) and `frames` are None where the configuration says them. `cost` is the number of pairs of frames, 0 where
    the file could not be read; `stamp` is size and time of change (ns) of the file when it was looked at.
    """

    name: str
    labels: Mapping[str, Label]
    file: Path
    variant: int
    q: float | None = None
    frames: Frames | None = None
    cost: float = 0.0
    stamp: tuple[int, int] = (0, 0)
    members: tuple[Member, ...] = ()
    free: Mapping[str, str] = field(default_factory=dict)
    analysis: str = "twotime"

    def configure(self, variants: Sequence[Config] | Mapping[int, Config]) -> Config:
        """The configuration that a single fit of this item would have."""
        config = variants[self.variant]
        place = {"file_path": str(self.file), "data_folder_path": None, "data_file_name": None}
        data = config.experimental_data.model_copy(update=place)
        analyzer = config.analyzer_parameters
        if self.q is not None:
            scattering = analyzer.scattering.model_copy(update={"wavevector_q": self.q})
            analyzer = analyzer.model_copy(update={"scattering": scattering})
        if self.frames is not None:
            window = {"start_frame": self.frames[0], "end_frame": self.frames[1]}
            analyzer = analyzer.model_copy(update=window)
        sets = tuple(JointSet(file=str(one.file), q=one.q, label=one.label) for one in self.members)
        joint = Joint.model_validate({"sets": sets, "free": dict(self.free)}) if sets else None
        update = {"experimental_data": data, "analyzer_parameters": analyzer, "campaign": None, "joint": joint}
        return config.model_copy(update=update)


@dataclass(frozen=True)
class FileContent:
    """What a file offers: rings of q (1/Å) with their numbers of angles, and frames; none where it can't be read."""

    stamp: tuple[int, int]
    q: tuple[float, ...] = ()
    angles: tuple[int, ...] = ()
    frames: int = 0

    def cost(self, q: float | None, frames: Frames | None) -> float:
        """Pairs of frames of the ring nearest to q, all of them where there is one only."""
        if not self.q:
            return 0.0
        ring = 0 if q is None else self.q.index(nearest_q(self.q, q))
        count = self.frames if frames is None else frames[1] - frames[0] + 1
        return 0.5 * self.angles[ring] * count * (count - 1.0)


def look_into(path: Path, file_format: str) -> FileContent:
    """What is in a file; one that cannot be read has nothing, and its item will say why."""
    try:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
    except OSError:
        return FileContent((0, 0))
    try:
        with open_file(path, file_format) as layout:
            every = [info.q for info in layout.bins]
            found = tuple(rings(every))
            angles = tuple(sum(abs(one - q) <= SAME_Q * abs(q) for one in every) for q in found)
            return FileContent(stamp, found, angles, int(layout.n_frames))
    except (DataError, OSError):
        return FileContent(stamp)


G2_COST = 1.0
"""Cost of a file of g2, whose bins are all fitted by one program: none of matrices."""


def items_of(config: Config) -> tuple[Config, list[Item]]:
    """All items of a campaign, and its configuration with the variants that they refer to; ConfigError if it is empty.

    Every file is opened once, for its q and its frames; no matrix is read.
    """
    settled, found = single_items(config)
    pooled = list(_pooled(settled, found))
    _refuse_same_names(settled, pooled)
    return settled, pooled


def _pooled(config: Config, items: Sequence[Item]) -> Iterator[Item]:
    """Items that differ in labels of campaign.pool alone as one; a file that can't be read stays alone and fails so."""
    assert config.campaign is not None
    pool = config.campaign.pool
    known = list(dict.fromkeys(name for item in items for name in item.labels))
    for name in pool:
        if name not in known or name in NOT_POOLED:
            can = [one for one in known if one not in NOT_POOLED]
            why = "cannot be pooled" if name in known else f"is no label of these items{suggestion(name, known)}"
            raise ConfigError(f'{at(config, "pool")}: "{name}" {why}; there are {", ".join(can)}')
    groups: dict[str, list[Item]] = {}
    for item in items:
        shared = {name: value for name, value in item.labels.items() if name not in pool}
        alone = item.name if not pool or not item.cost else ""
        groups.setdefault(json.dumps([alone, item.variant, shared]), []).append(item)
    for group in groups.values():
        yield group[0] if not pool or not group[0].cost else _joined(config, group)


NOT_POOLED = ("first_frame", "last_frame", "model", "sets")
"""Labels over which items are not pooled: a joint fit has one model, and frames at equal times."""


def _joined(config: Config, group: Sequence[Item]) -> Item:
    """Several items as one joint fit; a single one as itself, under the name that it would have with others."""
    assert config.campaign is not None
    pool, first = config.campaign.pool, group[0]
    told = pool if config.campaign.pool_free_by is None else config.campaign.pool_free_by
    labels: dict[str, Label] = {name: value for name, value in first.labels.items() if name not in pool}
    words = [_word(name, value) for name, value in labels.items() if name != "last_frame"]
    labels["sets"] = len(group)
    members = tuple(
        Member(item.file, item.stamp, item.q, ", ".join(_said(name, item.labels[name]) for name in told))
        for item in sorted(group, key=lambda item: (item.q or 0.0, item.name))
    )
    alone = len(group) == 1
    return replace(
        first,
        name=folder_name("_".join(words) or "pooled"),
        labels=labels,
        file=members[0].file,
        q=first.q if alone or "q" not in pool else None,
        cost=sum(item.cost for item in group),
        members=() if alone else members,
        free={} if alone else dict(config.campaign.pool_free),
    )


def _said(name: str, value: Label) -> str:
    """A label in words."""
    return f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"


def _word(name: str, value: Label) -> str:
    """What a label adds to the name of an item."""
    return str(value) if name in ("model", "file") else _said(name, value).replace(" ", "", 1)


def single_items(config: Config) -> tuple[Config, list[Item]]:
    """The items as they are before any are pooled, and the configuration with their variants."""
    campaign = config.campaign
    assert campaign is not None, "only a campaign has items"
    if campaign.manifest is not None:
        return _listed(config)
    files = list(_matching(config) if isinstance(campaign.files, str) else _named(config))
    found = [item for file in files for item in _of_file(config, file)]
    _refuse_absent_q(config, files, found)
    _refuse_same_names(config, found)
    _refuse_unknown_group(config, found)
    return config, found


def at(config: Config, key: str) -> str:
    """Where a key of the campaign stands, for messages: `FILE:LINE: campaign.KEY`."""
    name = f"campaign.{key}"
    if config.source is None:
        return name
    lines = read_document(config.source).lines
    line = lines.get(("campaign", key), lines.get(("campaign",)))
    return f"{config.source}:{line}: {name}" if line is not None else f"{config.source}: {name}"


@dataclass(frozen=True)
class _NamedFile:
    """A file with the name and the labels that its path gives it."""

    path: Path
    name: str
    labels: Mapping[str, Label]
    content: FileContent


_PART = re.compile(r"\{(\w+)(?::([dg]))?\}")
_KINDS = {"d": (r"[+-]?\d+", int), "g": (r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", float), None: (r"[^/]+?", str)}
TAKEN = ("q", "first_frame", "last_frame", "model", "file", "sets")
"""Labels that items have without being told."""


def _matching(config: Config) -> Iterator[_NamedFile]:
    """The files that match the pattern, in the order of their paths."""
    pattern = str(config.campaign.files) if config.campaign else ""
    expression, parts = _expression(config, pattern)
    whole = config.base / Path(pattern).expanduser()
    wild = _PART.sub("*", str(whole))
    fixed = next(parent for parent in Path(wild).parents if not glob.has_magic(str(parent)))
    matched = 0
    for path in sorted(fixed.glob(Path(wild).relative_to(fixed).as_posix())):
        found = expression.fullmatch(str(path))
        if found is None or not path.is_file():
            continue
        matched += 1
        labels = {name: kind(found[name]) for name, kind in parts.items()}
        own = path.relative_to(fixed).with_suffix("").as_posix().replace("/", "_")
        yield _NamedFile(path, own, labels or {"file": own}, look_into(path, config.experimental_data.format))
    if matched == 0:
        there = sorted(one.name for one in fixed.glob("*"))[:3] if fixed.is_dir() else []
        seen = f"there are {', '.join(there)}, …" if there else "it is empty" if fixed.is_dir() else "it does not exist"
        raise ConfigError(f'{at(config, "files")}: "{pattern}" matches no file; the folder is {fixed}, and {seen}')


def _expression(config: Config, pattern: str) -> tuple[re.Pattern[str], dict[str, Any]]:
    """A pattern as a regular expression over absolute paths, and how to read each of its named parts."""
    parts: dict[str, Any] = {}
    text, whole = "", str(config.base / Path(pattern).expanduser())
    for piece in re.split(r"(\{[^}]*\}|\*\*/|\*|\?|\[[^\]]*\])", whole):
        named = _PART.fullmatch(piece)
        if named is not None:
            name, (inner, kind) = named[1], _KINDS[named[2]]
            if name in parts or name in TAKEN:
                why = "occurs twice" if name in parts else "is a label that every item has"
                raise ConfigError(f"{at(config, 'files')}: {{{name}}} {why}; give the part another name")
            parts[name] = kind
            text += f"(?P<{name}>{inner})"
        elif piece.startswith("{"):
            raise ConfigError(
                f"{at(config, 'files')}: {piece} is no named part; write {{name}}, {{name:d}} or {{name:g}}"
            )
        else:
            wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
            text += wild.get(piece, piece if piece.startswith("[") else re.escape(piece))
    return re.compile(text), parts


def _named(config: Config) -> Iterator[_NamedFile]:
    """The files of a list."""
    assert config.campaign is not None
    for text in config.campaign.files:
        path = (config.base / Path(text).expanduser()).absolute()
        if not path.exists():
            raise ConfigError(f"{at(config, 'files')}: {path} does not exist")
        yield _NamedFile(path, path.stem, {"file": path.stem}, look_into(path, config.experimental_data.format))


def _of_file(config: Config, file: _NamedFile) -> Iterator[Item]:
    """The items of one file: every q, window and variant."""
    campaign = config.campaign
    assert campaign is not None
    for q in _wanted_q(config, file):
        for frames in _windows(config, file):
            for variant, one in enumerate(config.variants):
                labels: dict[str, Label] = dict(file.labels)
                words = [file.name]
                if q is not None:
                    labels["q"] = q
                    words.append(f"q{q:.6g}")
                if frames is not None:
                    labels |= {"first_frame": frames[0], "last_frame": frames[1]}
                    words.append(f"f{frames[0]}-{frames[1]}")
                if campaign.models is not None:
                    labels["model"] = one.analysis_mode
                    words.append(one.analysis_mode)
                for key, value in _varied_values(config, variant):
                    labels[key] = value if isinstance(value, str | int | float) else json.dumps(value)
                    words.append(f"{key.rpartition('.')[2]}={labels[key]}")
                stamp, name = file.content.stamp, folder_name("_".join(words))
                cost = G2_COST if campaign.analysis == "g2" else file.content.cost(q, frames)
                yield Item(name, labels, file.path, variant, q, frames, cost, stamp, analysis=campaign.analysis)


def _varied_values(config: Config, variant: int) -> Iterator[tuple[str, Any]]:
    """The keys that vary and their values in a variant, which are counted with the last key running fastest."""
    assert config.campaign is not None
    found = []
    for key, values in reversed(config.campaign.vary.items()):
        variant, which = divmod(variant, len(values))
        found.append((key, values[which]))
    return reversed(found)


def _wanted_q(config: Config, file: _NamedFile) -> Sequence[float | None]:
    """The q of a file that are fitted; of one that cannot be read one item tells why."""
    assert config.campaign is not None
    asked = config.campaign.q
    if asked is None:
        return (None,)
    if isinstance(asked, tuple):
        return asked
    if not file.content.q:
        return (None,)
    if asked == "all":
        return file.content.q
    low, high = asked.get("min", 0.0), asked.get("max", float("inf"))
    return [q for q in file.content.q if low <= q <= high]


def _windows(config: Config, file: _NamedFile) -> Sequence[Frames | None]:
    """The windows of a file; ConfigError for one that is longer than the file."""
    assert config.campaign is not None
    asked, count = config.campaign.windows, file.content.frames
    if asked is None:
        return (None,)
    if isinstance(asked, tuple):
        longest = max(last for _, last in asked)
        if count and longest > count:
            raise ConfigError(
                f"{at(config, 'windows')}: a window ends with frame {longest}, and {file.path} has {count} frames"
            )
        return asked
    if count == 0:
        return (None,)
    if asked["frames"] > count:
        raise ConfigError(
            f"{at(config, 'windows')}: windows of {asked['frames']} frames are longer than {file.path}, "
            f"which has {count}"
        )
    starts = range(1, count - asked["frames"] + 2, asked["step"])
    return [(first, first + asked["frames"] - 1) for first in starts]


def _refuse_absent_q(config: Config, files: Sequence[_NamedFile], items: Sequence[Item]) -> None:
    """Refuse a q that no file has, and a range without any; one that only some files lack is theirs to tell."""
    assert config.campaign is not None
    asked = config.campaign.q
    if not items:
        raise ConfigError(f"{at(config, 'q')}: no file has a q between {asked.get('min', 0):g} and {asked.get('max')}")
    if not isinstance(asked, tuple):
        return
    there = sorted({q for file in files for q in file.content.q})
    tolerance = config.data_filtering.q_tolerance
    for q in asked:
        if there and min(abs(one - q) for one in there) > tolerance * q:
            raise ConfigError(
                f"{at(config, 'q')}: {q:g} 1/Å is in no file (data_filtering.q_tolerance allows {tolerance:.0%}); "
                f"there are {', '.join(f'{one:.4g}' for one in there[:12])}{', …' if len(there) > 12 else ''}"
            )


def _refuse_same_names(config: Config, items: Iterable[Item]) -> None:
    known: dict[str, Item] = {}
    for item in items:
        other = known.setdefault(item.name, item)
        if other is not item:
            key = "files" if other.file != item.file else "windows"
            raise ConfigError(
                f"{at(config, key)}: two items are called {item.name} ({other.file} and {item.file}): list them in a "
                "manifest under names of their own ('hpcxpcs campaign manifest' makes one)"
            )


def _refuse_unknown_group(config: Config, items: Sequence[Item]) -> None:
    assert config.campaign is not None
    labels = list(dict.fromkeys(name for item in items for name in item.labels))
    for name in config.campaign.group_by:
        if name not in labels:
            raise ConfigError(
                f'{at(config, "group_by")}: "{name}" is no label of these items{suggestion(name, labels)}; '
                f"they have {', '.join(labels)}"
            )


COLUMNS = ("use", "name", "file", "q", "first_frame", "last_frame", "model")
LABEL, SET = "label:", "set:"
"""What columns of a manifest begin with that hold labels, and values of keys."""


def manifest_text(config: Config, items: Sequence[Item]) -> str:
    """The items as CSV, to be edited and named as `campaign.files: {manifest: FILE}`."""
    labels = list(dict.fromkeys(name for item in items for name in item.labels if name not in TAKEN))
    keys = list(config.campaign.vary) if config.campaign else []
    labels = [name for name in labels if name not in keys]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *(LABEL + name for name in labels), *(SET + key for key in keys)])
    for item in items:
        model = config.variants[item.variant].analysis_mode
        first, last = item.frames or ("", "")
        row: list[Label] = [
            "yes",
            item.name,
            str(item.file),
            "" if item.q is None else repr(item.q),
            first,
            last,
            model,
        ]
        row += [item.labels.get(name, "") for name in labels]
        writer.writerow([*row, *(item.labels.get(key, "") for key in keys)])
    return stream.getvalue()


def _listed(config: Config) -> tuple[Config, list[Item]]:
    """The items of a manifest, and the configuration with a variant for every model and setting in it."""
    assert config.campaign is not None and config.campaign.manifest is not None
    path = (config.base / Path(config.campaign.manifest).expanduser()).absolute()
    for key in ("q", "windows", "models", "vary"):
        if getattr(config.campaign, key):
            raise ConfigError(f"{at(config, key)}: the manifest {path} says this of every item; leave it out here")
    combinations: dict[str, Combination] = {}
    contents: dict[Path, FileContent] = {}
    items = []
    for line, row in _rows(path):
        combination = _combination(config, path, line, row)
        key = json.dumps(combination)
        combinations.setdefault(key, combination)
        file = (path.parent / Path(row["file"]).expanduser()).absolute()
        content = contents.get(file) or look_into(file, config.experimental_data.format)
        contents[file] = content
        item = _item_of_row(path, line, row, file, content, list(combinations).index(key))
        of_g2 = config.campaign.analysis == "g2"
        items.append(replace(item, analysis="g2", cost=G2_COST) if of_g2 else item)
    if not items:
        raise ConfigError(f"{path}: no row has yes in the column use: there is nothing to fit")
    twice = [name for name, count in Counter(item.name for item in items).items() if count > 1]
    if twice:
        raise ConfigError(f"{path}: two rows are called {twice[0]}: every item needs a name of its own")
    _refuse_unknown_group(config, items)
    variants = varied(config, list(combinations.values()))
    made = variants[0].of_campaign(config.campaign, variants, config.written)
    return made.located(config.source, config.base), items


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a manifest that are to be used, with their lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the manifest cannot be read: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or []
    for name in columns:
        if name not in COLUMNS and not name.startswith((LABEL, SET)):
            known = ", ".join(COLUMNS)
            raise ConfigError(
                f'{path}:1: "{name}" is no column of a manifest{suggestion(name, COLUMNS)}; known are {known}, '
                f"{LABEL}NAME for labels and {SET}KEY for keys of the configuration"
            )
    for name in ("name", "file"):
        if name not in columns:
            raise ConfigError(f"{path}:1: the column {name} is missing")
    for row in reader:
        if None in row or None in row.values():
            raise ConfigError(f"{path}:{reader.line_num}: has another number of columns than the first line")
        used = row.get("use", "yes").strip().lower()
        if used not in ("yes", "no", "true", "false", "1", "0", ""):
            raise ConfigError(f'{path}:{reader.line_num}: use is "{row["use"]}"; yes or no is needed')
        if used in ("yes", "true", "1"):
            yield reader.line_num, {name: value.strip() for name, value in row.items()}


def _combination(config: Config, path: Path, line: int, row: Mapping[str, str]) -> Combination:
    """The model of a row, and the keys that it sets."""
    given = {name.removeprefix(SET): value for name, value in row.items() if name.startswith(SET) and value}
    try:
        model = model_named(row.get("model") or config.analysis_mode)
    except ValueError as error:
        raise ConfigError(f'{path}:{line}: model: "{row["model"]}" {error}') from None
    return model, tuple((key, parse_value(value)) for key, value in given.items())


def _item_of_row(path: Path, line: int, row: Mapping[str, str], file: Path, content: FileContent, variant: int) -> Item:
    def number(name: str, kind: type) -> Any:
        text = row.get(name, "")
        try:
            return kind(text) if text else None
        except ValueError:
            raise ConfigError(f'{path}:{line}: {name} is "{text}", which is no {kind.__name__}') from None

    q, first, last = number("q", float), number("first_frame", int), number("last_frame", int)
    if (first is None) != (last is None):
        raise ConfigError(f"{path}:{line}: first_frame and last_frame go together")
    frames = None if first is None or last is None else (first, last)
    if frames is not None and not (1 <= frames[0] < frames[1] and (not content.frames or frames[1] <= content.frames)):
        raise ConfigError(f"{path}:{line}: frames {first} to {last} are not in {file}, which has {content.frames}")
    if not row["name"]:
        raise ConfigError(f"{path}:{line}: the item has no name")
    labels: dict[str, Label] = {}
    for name, text in row.items():
        if name.startswith((LABEL, SET)) and text:
            value = parse_value(text) if _is_number(text) else text
            labels[name.partition(":")[2]] = value
    labels |= {} if q is None else {"q": q}
    labels |= {} if frames is None else {"first_frame": frames[0], "last_frame": frames[1]}
    labels |= {"model": row["model"]} if row.get("model") else {}
    cost = content.cost(q, frames)
    return Item(folder_name(row["name"]), labels or {"file": file.stem}, file, variant, q, frames, cost, content.stamp)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def recorded_item(item: Item, digest: str) -> dict[str, Any]:
    """An item as the plan of its run keeps it; `digest` is that of everything that decides its answer."""
    return {
        "name": item.name,
        "labels": dict(item.labels),
        "file": str(item.file),
        "variant": item.variant,
        "q": item.q,
        "frames": None if item.frames is None else list(item.frames),
        "cost": item.cost,
        "stamp": list(item.stamp),
        "digest": digest,
        **({"analysis": item.analysis} if item.analysis != "twotime" else {}),
        **({"members": [one.record() for one in item.members], "free": dict(item.free)} if item.members else {}),
    }


def item_from_record(record: Mapping[str, Any]) -> Item:
    """What `recorded_item` has kept."""
    return Item(
        record["name"],
        record["labels"],
        Path(record["file"]),
        record["variant"],
        record["q"],
        None if record["frames"] is None else tuple(record["frames"]),
        record["cost"],
        tuple(record["stamp"]),
        tuple(Member(Path(file), tuple(stamp), q, label) for file, stamp, q, label in record.get("members", ())),
        record.get("free", {}),
        record.get("analysis", "twotime"),
    )


def digest_of(item: Item, settings: Mapping[str, Any]) -> str:
    """Digest of everything that decides an item's answer: its file with its stamp, selection, and `settings`."""
    content = {**recorded_item(replace(item, variant=0, cost=0.0, labels={}), ""), "settings": settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
