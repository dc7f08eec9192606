"""A configuration of an older program as a document of ours, and what became of each of its keys."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.measurement import translate_logging, translate_measurement
from hpcxpcs.config.dialects.parameters import translate_parameters
from hpcxpcs.config.dialects.preparation import translate_preparation
from hpcxpcs.config.dialects.work import NOT_THERE, TABLES, Fate, Record, Rule, Work, rule_for, said
from hpcxpcs.config.document import Document
from hpcxpcs.config.parameters import MODEL_NAMES, model_named
from hpcxpcs.config.problems import NO_VALUE, KeyPath, Problem, config_error, dotted
from hpcxpcs.config.sections import PerShardMcmc
from hpcxpcs.config.values import read_number

_TYPO = 0.8
_ANY_SHARE = 0.999
"""Share of divergent draws that accepts practically every chain: ours is less than 1."""
_MODE: KeyPath = ("analysis_mode",)
_NLSQ: KeyPath = ("optimization", "nlsq")
_CMC: KeyPath = ("optimization", "cmc")
_METHOD: KeyPath = ("optimization", "method")


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
    elif work.at(*origin) is NOT_THERE:
        work.assume("analysis_mode", _MODE, name, "heterodyne took it for granted", origin)
    elif origin == _MODE and mode == name:
        work.keep(_MODE, name)
    else:
        work.rename(origin, _MODE, name)
    return name


def _mode(work: Work) -> tuple[KeyPath, Any]:
    """Where the model is named, and how."""
    other = ("parameter_space", "model") if work.dialect == "homodyne" else (*_NLSQ, "analysis_mode")
    for origin in (_MODE, other):
        if (value := work.given(*origin)) is not None:
            return origin, value
    return _MODE, "two_component" if work.dialect == "heterodyne" else None


def _model_name(mode: Any, dialect: str) -> str | None:
    try:
        return model_named(mode)
    except ValueError:
        text = mode.lower() if isinstance(mode, str) and dialect == "homodyne" else ""
        return "laminar_flow" if "laminar" in text else "static" if "static" in text else None


def _conventions(work: Work, model: str) -> None:
    """Name the formulas of the older program, so that parameters keep their meaning."""
    time_origin = ("analyzer_parameters", "time_origin")
    if model == "laminar_flow":
        why = "its sinc⁴ with rates 2.22 times larger; couette is the physical law"
        work.assume("(formula)", ("conventions", "shear_law"), "homodyne-2", why, _MODE)
    elif work.dialect == "heterodyne":
        why = "its cos(phi + phi0) and soft clip; physical has cos(phi - phi0)"
        work.assume("(formula)", ("conventions", "heterodyne"), "heterodyne-2", why, _MODE)
        why = "the first frame is t = 0; it was t = dt: amplitudes at 1 s refer to a time one frame later"
        work.tell_absent("(time)", said(time_origin, "window"), why)
    work.put(time_origin, "window", _MODE)
    why = "the same integral without its error near t = 0; trapezoid is that program's sum, for method nlsq"
    work.assume("(integral)", ("conventions", "integrator"), "exact", why, _MODE)


def _scaling(work: Work) -> None:
    """One of the old per-angle modes: that of the method used, or of nlsq."""
    by_fit: list[KeyPath] = [(*_NLSQ, "anti_degeneracy", "per_angle_mode")]
    by_cmc: list[KeyPath] = [(*_CMC, "per_angle_mode")]
    if work.dialect == "heterodyne":
        by_fit = [
            (*_NLSQ, "per_angle_mode"),
            ("scaling", "mode"),
            ("analysis", "scaling_mode"),
            ("scaling_mode",),
        ]
        by_cmc.append((*_CMC, "per_angle", "per_angle_mode"))
    places = [*by_fit, *by_cmc] if _asked_method(work) in (None, "nlsq") else [*by_cmc, *by_fit]
    winner = next((place for place in places if work.given(*place) is not None), None)
    for place in places:
        if work.at(*place) is NOT_THERE:
            continue
        if place != winner:
            work.drop(place, f"{dotted(winner)} wins" if winner else "is null")
            continue
        mode = work.given(*place)
        ours = "constant" if mode == "constant_averaged" else mode
        if not work.put(("scaling", "mode"), ours, place):
            work.drop(place, "contrast and offset are held, which wins")
            continue
        why = "per angle with a learned spread; averaged and individual are its two ends"
        work.tell(place, Fate.REPLACED, f"scaling.mode: {ours}", why if ours == "auto" else "")
    scaling = work.new.get("scaling", {})
    if scaling.get("mode") == "constant" and "constant" in scaling:
        work.tell_absent("(scaling)", "scaling.constant", "contrast and offset are held at their values")


def _starts(work: Work) -> None:
    """The number of starts counts only when multi-start was on."""
    switch, origin = (*_NLSQ, "multistart"), (*_NLSQ, "multistart_n")
    if work.dialect == "homodyne":
        switch, origin = (*_NLSQ, "multi_start", "enable"), (*_NLSQ, "multi_start", "n_starts")
    if work.given(*origin) is not None and work.given(*switch) is not True:
        work.drop(origin, "multi-start was off; ours always starts from several places")


def _asked_method(work: Work) -> Any:
    """The method that the file names, by the place that decides first; None when it names none."""
    short: tuple[KeyPath, ...] = (("analysis", "method"), ("method",)) if work.dialect == "heterodyne" else ()
    return next((value for place in (_METHOD, *short) if (value := work.given(*place)) is not None), None)


def _method(work: Work) -> None:
    """Both programs fit by nlsq unless told otherwise."""
    if _asked_method(work) is None:
        work.assume(dotted(_METHOD), _METHOD, "nlsq", f"{work.dialect} began with it", ("optimization",))


def _divergences(work: Work) -> None:
    """A number of divergent draws as their share of a shard's draws."""
    for place in ((*_CMC, "validation", "max_divergences"), (*_CMC, "max_divergences")):
        given = work.given(*place)
        if given is None or work.dialect != "heterodyne":
            continue
        try:
            count = read_number(given)
            draws = math.prod(_sampler(work, key) for key in ("num_samples", "num_chains"))
        except ValueError as error:
            work.refuse(place, f"{error}; give the number of divergent draws of a shard")
            continue
        share = min(count / draws, _ANY_SHARE) if draws > 0 else count
        why = f"{count:g} of the {draws:g} draws of a shard"
        work.replace(place, (*_CMC, "validation", "max_divergence_rate"), share, why, rank=-1)


def _sampler(work: Work, key: str) -> float:
    """A number of NUTS as it will be: the flat key, the nested one, or the default."""
    for place in ((key,), ("per_shard_mcmc", key)):
        if (value := work.given(*_CMC, *place)) is not None:
            return read_number(value)
    return float(getattr(PerShardMcmc(), key))


def _everything_else(work: Work) -> None:
    """Every key that has not been dealt with, by the table."""
    table = TABLES[work.dialect]
    for path in work.leaves():
        if work.is_told(path):
            continue
        key, value = dotted(path), work.given(*path)
        rule = rule_for(table, key)
        if key not in table and any(known.startswith(f"{key}.") for known in table):
            if value is None or value == {}:
                work.drop(path, "is empty")
            else:
                work.refuse(path, "must be a section of keys")
        elif rule is None:
            _unknown(work, path, table)
        elif rule.fate is Fate.DROPPED:
            work.drop(path, rule.why, changes_answer=not rule.may_go(value))
        else:
            _translate(work, path, rule, value)


def _translate(work: Work, path: KeyPath, rule: Rule, value: Any) -> None:
    """Put a value to its new place; what a section has put there already is left alone."""
    to = rule.to or dotted(path)
    target: KeyPath = tuple(to.split("."))
    ours = rule.read(value)
    is_there = target[0] in ("initial_parameters", "parameter_space")
    if value is None and ours is None and not (is_there and rule.fate is Fate.KEPT):
        work.drop(path, "is null, which means the default")
    elif is_there:
        work.tell(path, rule.fate, rule.to, rule.why)
    elif not work.put(target, ours, path, rule.rank):
        work.drop(path, f"{dotted(work.origins[target])} wins")
    elif ours == value and to == dotted(path):
        work.tell(path, Fate.KEPT)
    else:
        work.tell(path, rule.fate, f"{to}: {ours}" if rule.fate is Fate.REPLACED else rule.to, rule.why)


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


def from_old(document: Document, base: Path | None, dialect: str, *, accept: bool = False) -> Translation:
    """The translation of an old document; ConfigError when it is not to be had.

    Without `accept` a dropped key that would change the answer is an error.
    """
    translation = translated(document, dialect, base)
    problems = [*translation.problems, *([] if accept else answer_changes(translation, document))]
    if problems:
        ordered = sorted(problems, key=lambda problem: document.lines.get(problem.path, 0))
        raise config_error(ordered, document.place, document.name or "the configuration")
    return translation


def answer_changes(translation: Translation, document: Document) -> list[Problem]:
    """What would go and change the answer, each with the remedy."""
    command = f"{_migrating(document)} -o NEW --accept"
    by_key = {dotted(path): path for path in document.lines}
    problems = []
    for record in translation.records:
        if record.changes_answer:
            stays = record.fate in (Fate.RENAMED, Fate.REPLACED)
            verb = "is" if record.fate is Fate.UNKNOWN else "has no counterpart that gives the same answer:"
            way = "take what is nearest with" if stays else "leave it behind with"
            text = f"{verb} {record.why}; take it out, or {way} `{command}`"
            path = by_key.get(record.key, tuple(record.key.split(".")))
            value = NO_VALUE if isinstance(record.value, (dict, list)) else record.value
            problems.append(Problem(path, text, value))
    return problems


def warning(translation: Translation, document: Document) -> str:
    """One line that says what was read and how to see what became of it."""
    name = document.name or "the mapping"
    gone = sum(record.fate is Fate.DROPPED for record in translation.records)
    prefix = {Fate.UNKNOWN: "", Fate.DROPPED: "dropped: ", Fate.REPLACED: "not given: "}
    aloud = [f"; {one.key} is {prefix[one.fate]}{one.why}" for one in translation.records if one.aloud]
    return (
        f"{name} is a configuration of {translation.dialect}, read with {translation.changes} changes "
        f"({gone} keys are not needed){''.join(aloud)}; `{_migrating(document)}` shows them"
    )


def _migrating(document: Document) -> str:
    """The command that accounts for every key of a file."""
    return f"hpcxpcs config migrate {shlex.quote(document.name) if document.name else 'OLD'}"
