"""A configuration of an older program as a document of ours, and what became of each of its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.heterodyne_keys import HETERODYNE
from hpcxpcs.config.dialects.homodyne_keys import HOMODYNE
from hpcxpcs.config.dialects.logs import translate_logging
from hpcxpcs.config.dialects.measurement import translate_measurement
from hpcxpcs.config.dialects.preparation import translate_preparation
from hpcxpcs.config.dialects.rules import Fate, Record, Rule, rule_for
from hpcxpcs.config.dialects.starts import translate_parameters
from hpcxpcs.config.dialects.work import NOT_THERE, Work
from hpcxpcs.config.document import Document
from hpcxpcs.config.numbers import read_number
from hpcxpcs.config.parameters import MODEL_NAMES, model_named
from hpcxpcs.config.posterior_sections import PerShardMcmc
from hpcxpcs.config.problems import KeyPath, Problem, dotted

TABLES: Mapping[str, Mapping[str, Rule]] = {"homodyne": HOMODYNE, "heterodyne": HETERODYNE}
"""The rules of every dialect, by dotted key."""
SCALING_MODES = {"constant_averaged": "constant"}
_TYPO = 0.8
_ANY_SHARE = 0.999
"""Share of divergent draws that accepts practically every chain: ours is less than 1."""
_NLSQ = "optimization.nlsq"


@dataclass(frozen=True)
class Translation:
    """Our document, whose values know their old keys, the records in the order of the file, and what is wrong."""

    dialect: str
    document: Document
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]

    @property
    def changes(self) -> int:
        """How many keys did not simply stay."""
        return sum(record.fate is not Fate.KEPT for record in self.records)


def translated(old: Document, dialect: str, base: Path | None) -> Translation:
    """Translate a document; base is the folder that relative paths start from, None for the working directory."""
    work = Work(old, dialect, base)
    model = _model(work)
    translate_measurement(work)
    translate_preparation(work)
    translate_logging(work)
    if model is not None:
        translate_parameters(work, model)
        _conventions(work, model)
    _scaling(work)
    _starts(work)
    _method(work)
    _divergences(work)
    _everything_else(work)
    work.new = {"schema_version": 1, **work.new}
    lines = {new: old.lines[origin] for new, origin in work.origins.items() if origin in old.lines}
    document = Document(work.new, old.name, {**old.lines, **lines}, origins=work.origins)
    ordered = sorted(work.records, key=lambda record: (record.line is None, record.line or 0))
    return Translation(dialect, document, tuple(ordered), tuple(work.problems))


def _model(work: Work) -> str | None:
    """The model by its old name; None, and refused, when it is none."""
    origin, mode = _mode(work)
    name = _model_name(mode, work.dialect)
    if name is None:
        known = ", ".join(MODEL_NAMES)
        if mode is None:
            work.problems.append(Problem((), f"analysis_mode is missing; give one of {known}"))
        else:
            work.refuse(origin, f"is not a model; give one of {known}")
        return None
    work.put(("analysis_mode",), name, origin)
    if work.at(*origin) is NOT_THERE:
        work.tell_absent("analysis_mode", f"analysis_mode: {name}", "heterodyne took it for granted")
    else:
        fate = Fate.KEPT if origin == ("analysis_mode",) and mode == name else Fate.RENAMED
        work.tell(origin, fate, "" if fate is Fate.KEPT else "analysis_mode")
    return name


def _mode(work: Work) -> tuple[KeyPath, Any]:
    """Where the model is named, and how."""
    places: list[KeyPath] = [("analysis_mode",), ("optimization", "nlsq", "analysis_mode")]
    if work.dialect == "homodyne":
        places = [("analysis_mode",), ("parameter_space", "model")]
    for origin in places:
        if (value := work.given(*origin)) is not None:
            return origin, value
    return places[0], "two_component" if work.dialect == "heterodyne" else None


def _model_name(mode: Any, dialect: str) -> str | None:
    try:
        return model_named(mode)
    except ValueError:
        text = mode.lower() if isinstance(mode, str) and dialect == "homodyne" else ""
        return "laminar_flow" if "laminar" in text else "static" if "static" in text else None


def _conventions(work: Work, model: str) -> None:
    """Name the formulas of the older program, so that parameters keep their meaning."""
    origin: KeyPath = ("analysis_mode",)
    if model == "laminar_flow":
        work.put(("conventions", "shear_law"), "homodyne-2", origin)
        why = "its sinc⁴ with rates 2.22 times larger; couette is the physical law"
        work.tell_absent("(formula)", "conventions.shear_law: homodyne-2", why)
    elif work.dialect == "heterodyne":
        work.put(("conventions", "heterodyne"), "heterodyne-2", origin)
        why = "its cos(phi + phi0) and soft clip; physical has cos(phi - phi0)"
        work.tell_absent("(formula)", "conventions.heterodyne: heterodyne-2", why)
        why = "the first frame is t = 0; it was t = dt: amplitudes at 1 s refer to a time one frame later"
        work.tell_absent("(time)", "analyzer_parameters.time_origin: window", why)
    work.put(("analyzer_parameters", "time_origin"), "window", origin)
    work.put(("conventions", "integrator"), "exact", origin)
    why = "the same integral without its error near t = 0; trapezoid is that program's sum, for method nlsq"
    work.tell_absent("(integral)", "conventions.integrator: exact", why)


def _scaling(work: Work) -> None:
    """One of the old per-angle modes: that of the method used, or of nlsq."""
    nlsq: KeyPath = ("optimization", "nlsq", "per_angle_mode")
    if work.dialect == "homodyne":
        nlsq = ("optimization", "nlsq", "anti_degeneracy", "per_angle_mode")
    cmc: list[KeyPath] = [("optimization", "cmc", "per_angle_mode")]
    if work.dialect == "heterodyne":
        cmc.append(("optimization", "cmc", "per_angle", "per_angle_mode"))
    plain: list[KeyPath] = []
    if work.dialect == "heterodyne":
        plain = [("scaling", "mode"), ("analysis", "scaling_mode"), ("scaling_mode",)]
    asked = next((value for place in _methods(work) if (value := work.given(*place)) is not None), None)
    by_cmc = asked not in (None, "nlsq")
    places = [*cmc, nlsq, *plain] if by_cmc else [nlsq, *plain, *cmc]
    winner = next((place for place in places if work.given(*place) is not None), None)
    for place in places:
        if work.at(*place) is NOT_THERE:
            continue
        if place != winner:
            why = f"{dotted(winner)} wins" if winner else "is null"
            work.tell(place, Fate.DROPPED, why=why)
            continue
        mode = work.given(*place)
        ours = SCALING_MODES.get(mode, mode) if isinstance(mode, str) else mode
        if not work.put(("scaling", "mode"), ours, place):
            work.tell(place, Fate.DROPPED, why="contrast and offset are held, which wins")
            continue
        why = "per angle with a learned spread; averaged and individual are its two ends"
        work.tell(place, Fate.REPLACED, f"scaling.mode: {ours}", why if ours == "auto" else "")
    if work.new.get("scaling", {}).get("mode") != "constant":
        return
    if "constant" in work.new["scaling"]:
        work.tell_absent("(scaling)", "scaling.constant", "contrast and offset are held at their values")


def _starts(work: Work) -> None:
    """The number of starts counts only when multi-start was on."""
    if work.dialect == "homodyne":
        enabled = work.given("optimization", "nlsq", "multi_start", "enable")
        origin: KeyPath = ("optimization", "nlsq", "multi_start", "n_starts")
    else:
        enabled = work.given("optimization", "nlsq", "multistart")
        origin = ("optimization", "nlsq", "multistart_n")
    if work.given(*origin) is not None and enabled is not True:
        work.tell(origin, Fate.DROPPED, why="multi-start was off; ours always starts from several places")


def _methods(work: Work) -> tuple[KeyPath, ...]:
    """Where the method is named, the place that decides first."""
    short: tuple[KeyPath, ...] = (("analysis", "method"), ("method",))
    return (("optimization", "method"), *(short if work.dialect == "heterodyne" else ()))


def _method(work: Work) -> None:
    """Both programs fit by nlsq unless told otherwise."""
    if all(work.given(*place) is None for place in _methods(work)):
        work.put(("optimization", "method"), "nlsq", ("optimization",))
        work.tell_absent("optimization.method", "optimization.method: nlsq", f"{work.dialect} began with it")


def _divergences(work: Work) -> None:
    """A number of divergent draws as their share of a shard's draws."""
    section: KeyPath = ("optimization", "cmc")
    places: list[KeyPath] = [(*section, "validation", "max_divergences"), (*section, "max_divergences")]
    for place in places if work.dialect == "heterodyne" else []:
        if work.given(*place) is None:
            continue
        try:
            count = read_number(work.given(*place))
            draws = math.prod(_sampler(work, key) for key in ("num_samples", "num_chains"))
        except ValueError as error:
            work.refuse(place, f"{error}; give the number of divergent draws of a shard")
            continue
        share = min(count / draws, _ANY_SHARE) if draws > 0 else count
        target = ("optimization", "cmc", "validation", "max_divergence_rate")
        if work.put(target, share, place, rank=-1):
            why = f"{count:g} of the {draws:g} draws of a shard"
            work.tell(place, Fate.REPLACED, f"{dotted(target)}: {share:.3g}", why)
        else:
            work.tell(place, Fate.DROPPED, why=f"{dotted(work.origins[target])} wins")


def _sampler(work: Work, key: str) -> float:
    """A number of NUTS as it will be: the flat key, the nested one, or the default."""
    for place in ((key,), ("per_shard_mcmc", key)):
        if (value := work.given("optimization", "cmc", *place)) is not None:
            return read_number(value)
    return float(getattr(PerShardMcmc(), key))


def _everything_else(work: Work) -> None:
    """Every key that has not been dealt with, by the table."""
    table = TABLES[work.dialect]
    for path in work.leaves():
        if work.is_told(path):
            continue
        key = dotted(path)
        value = work.given(*path)
        rule = rule_for(table, key)
        if _is_section(table, key):
            if value is None or value == {}:
                work.tell(path, Fate.DROPPED, why="is empty")
            else:
                work.refuse(path, "must be a section of keys")
            continue
        if rule is None:
            _unknown(work, path, table)
        elif rule.fate is Fate.DROPPED:
            work.tell(path, Fate.DROPPED, why=rule.why, changes_answer=not rule.harmless(value))
        else:
            _translate(work, path, rule, value)


def _is_section(table: Mapping[str, Rule], key: str) -> bool:
    return any(known.startswith(f"{key}.") for known in table) and key not in table


def _translate(work: Work, path: KeyPath, rule: Rule, value: Any) -> None:
    """Put a value to its new place; what a section has put there already is left alone."""
    to = rule.to or dotted(path)
    target: KeyPath = tuple(to.split("."))
    fate = rule.fate
    if value is None and fate is not Fate.KEPT and rule.read(None) is None:
        work.tell(path, Fate.DROPPED, why="is null, which means the default")
        return
    if value is None and fate is Fate.KEPT and target[0] not in ("initial_parameters", "parameter_space"):
        work.tell(path, Fate.DROPPED, why="is null, which means the default")
        return
    if target[0] in ("initial_parameters", "parameter_space"):
        work.tell(path, fate, rule.to, rule.why)
        return
    ours = rule.read(value)
    if not work.put(target, ours, path, rule.rank):
        work.tell(path, Fate.DROPPED, why=f"{dotted(work.origins[target])} wins")
        return
    if ours == value and to == dotted(path):
        work.tell(path, Fate.KEPT)
    else:
        shown = f"{to}: {ours}" if fate is Fate.REPLACED else rule.to
        work.tell(path, fate, shown, "" if fate is Fate.KEPT else rule.why)


def _unknown(work: Work, path: KeyPath, table: Mapping[str, Rule]) -> None:
    """A key of no known meaning: in a section of the program, or named like one of its keys, it was meant to matter."""
    names = [str(part) for part in path]
    depth = next(i for i in range(len(names)) if i == len(names) - 1 or not _beside(table, names[: i + 1]))
    close = get_close_matches(names[depth], _beside(table, names[:depth]), n=1, cutoff=_TYPO)
    elsewhere = sorted(key for key in table if key.rpartition(".")[2] == names[-1])
    meant = close or elsewhere[:1] if depth == len(names) - 1 else close
    why = "of unknown meaning; " + (f"did you mean {meant[0]}?" if meant else "nothing is done with it")
    work.tell(path, Fate.UNKNOWN, why=why, changes_answer=bool(meant) or depth > 0, aloud=True)


def _beside(table: Mapping[str, Rule], section: list[str]) -> set[str]:
    """The names that a section of the table has; empty when there is no such section."""
    length = len(section)
    keys = (key.split(".") for key in table)
    return {parts[length] for parts in keys if len(parts) > length and parts[:length] == section}
