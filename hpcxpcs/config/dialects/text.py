"""The account of a translation for people: the table of its keys, and the commented file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hpcxpcs.config.dialects.translate import Translation
from hpcxpcs.config.dialects.work import NOT_THERE, TABLES, Fate, Record, Rule
from hpcxpcs.config.problems import KeyPath, dotted
from hpcxpcs.config.schema import Config

_LONGEST_VALUE = 28
_ABOUT = """\
# Configurations of homodyne and heterodyne

`hpcxpcs fit old.yaml` reads them as they are, YAML or JSON, and says so in one line. `hpcxpcs config migrate old.yaml`
shows what became of every key of that file, with its line and value; `-o new.yaml` writes it in the keys of this
program. Here are the rules for all keys that the programs' code, templates and documents have; `section.*` stands for
every other key of a section. `hpcxpcs config migrate --keys homodyne` prints the same.

* **kept**, **renamed**: name and meaning are ours, or the meaning is. **replaced by**: the value is translated.
* **dropped**: nothing of the kind is needed here, or nothing ever read it. What would change the answer is refused,
  unless `hpcxpcs config migrate old.yaml -o new.yaml --accept` leaves it behind.
* A key of unknown meaning in a section of the program is refused too; a section of your own is named in that one line.
* Where several keys become one of ours, the one that decided in the program decides, and the account names it.

What a file leaves unsaid: `conventions` names the program's formulas (`homodyne-2` for shear, `heterodyne-2` for two
components), `optimization.method` is `nlsq`, time begins at the first frame used, integrals are exact. Bounds that a
file states are kept; others are those of this program. `...` at the end of a list of parameter names stands for all
other parameters of the model, at the end of their values for starts from the data."""


def table(translation: Translation) -> Iterator[str]:
    """One aligned line per key: its line, the key, its value, what became of it, and why."""
    rows = [("line", "key", "value", "becomes")]
    rows += [(str(record.line or "-"), record.key, _value(record), _becomes(record)) for record in translation.records]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [row[0].rjust(widths[0]), row[1].ljust(widths[1]), row[2].ljust(widths[2]), row[3]]
        yield "  ".join(cells).rstrip()


def summary(translation: Translation) -> str:
    """How many keys met which fate."""
    counts = [(fate, sum(record.fate is fate for record in translation.records)) for fate in Fate]
    text = ", ".join(f"{count} {fate}" for fate, count in counts if count)
    return f"{translation.dialect}: {text}"


def rules(dialect: str) -> Iterator[str]:
    """The whole table of a dialect: every key it had, and what becomes of it."""
    known = TABLES[dialect]
    width = max(map(len, known))
    for key, rule in sorted(known.items()):
        becomes, remark = _fate(rule)
        yield f"{key.ljust(width)}  {becomes}{': ' if remark else ''}{remark}"


def page() -> str:
    """docs/old-configurations.md: the same tables for readers; a test compares the file with this text."""
    parts = [_ABOUT]
    for dialect, known in TABLES.items():
        parts += [f"\n## {dialect}\n\n| Key | Becomes | Remark |\n|---|---|---|"]
        for key, rule in sorted(known.items()):
            becomes, remark = _fate(rule, quote="`")
            parts.append(f"| `{key}` | {becomes} | {remark.replace('|', chr(92) + '|')} |")
    return "\n".join(parts) + "\n"


def _fate(rule: Rule, quote: str = "") -> tuple[str, str]:
    """What becomes of a key, and what there is to say about it."""
    accept = "" if rule.harmless is None else "other values change the answer and take --accept"
    becomes = f"{rule.fate} {quote}{rule.to}{quote}" if rule.to else str(rule.fate)
    return becomes, "; ".join(filter(None, (rule.why, accept)))


def migrated(translation: Translation) -> str:
    """Our YAML of a translation, with a comment where a value is not simply the old one."""
    notes = _notes(translation.records)
    source = translation.document.name
    head = [
        f"# Translated from {source}, a configuration of {translation.dialect}.",
        "# Keys that are not here have the default of this program; `hpcxpcs config new MODEL` shows them all.",
    ]
    data = translation.document.data
    ordered = {key: data[key] for key in ("schema_version", *Config.model_fields) if key in data}
    return "\n".join([*head, *_section(ordered, (), notes)]) + "\n"


def _becomes(record: Record) -> str:
    target = f" {record.to}" if record.to else ""
    mark = "  (CHANGES THE ANSWER)" if record.changes_answer else ""
    return f"{record.fate}{target}{': ' if record.why else ''}{record.why}{mark}"


def _value(record: Record) -> str:
    if record.value is NOT_THERE:
        return "-"
    text = json.dumps(record.value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _notes(records: tuple[Record, ...]) -> dict[str, list[str]]:
    """Comments by our dotted key, for values that are new or translated."""
    notes: dict[str, list[str]] = {}
    for record in records:
        if record.fate in (Fate.RENAMED, Fate.REPLACED) and record.to:
            origin = record.key if record.line is None else f"{record.key} (line {record.line})"
            why = f": {record.why}" if record.why else ""
            notes.setdefault(record.to.partition(":")[0], []).append(f"{origin}{why}")
    return notes


def _section(data: Mapping[str, Any], path: KeyPath, notes: Mapping[str, list[str]]) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in data.items():
        here = (*path, key)
        found = notes.get(dotted(here), [])
        yield from (f"{indent}# {line}" for line in (found if len(found) < 4 else found[:1]))
        name = _flow(key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _section(value, here, notes)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{name}:"
            yield from (f"{indent}  - {_flow(item)}" for item in value)
        else:
            yield f"{indent}{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value in YAML's one-line style."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...").strip()
