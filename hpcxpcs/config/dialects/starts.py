"""Start values, and which parameters vary, of older configurations: flat and grouped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcxpcs.config.dialects.bounds import (
    ORIGIN,
    SCALING,
    is_foreign,
    note_entry,
    parameter_or_none,
    read_limits,
    stretch_over,
    translate_bounds,
)
from hpcxpcs.config.dialects.heterodyne_keys import GROUPS
from hpcxpcs.config.dialects.priors import prior_from_params
from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
from hpcxpcs.config.parameters import parameter_named, parameters_of
from hpcxpcs.config.problems import KeyPath, Problem, dotted

_INITIAL = "initial_parameters"
_KEYS = ("value", "min", "max", "vary", "prior", "prior_params")
_AND_SO_ON = "..."
"""What homodyne's document writes at the end of a list for all that is left out."""
HELD_AT: Mapping[str, float] = {"D0": 1e3, "gamma_dot_t0": 0.01, "D0_ref": 1e4, "D0_sample": 1e4, "v0": 1e3}
"""Default amplitudes of the older programs, at which they hold what is not active and has no value."""
_NO_START = "contrast and offset follow from the data in closed form; they need no start"


@dataclass
class _Parameters:
    """What is known so far of all parameters, by name, each with its place in the old file."""

    start: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)
    fixed: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)
    scaling: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)


def translate_parameters(work: Work, model: str) -> None:
    """Bounds, starts, fixed and active parameters."""
    entries = translate_bounds(work, model)
    known = _Parameters()
    _flat(work, model, known)
    _fixed(work, model, known)
    if work.dialect == "heterodyne":
        _grouped(work, model, known, entries)
    if entries:
        work.new.setdefault("parameter_space", {})["bounds"] = entries
        work.origins.setdefault(ORIGIN, ORIGIN if work.given(*ORIGIN) is not None else ("parameters",))
    _write_starts(work, model, known)
    _active(work, model, known)
    _write_scaling(work, known)


def _flat(work: Work, model: str, known: _Parameters) -> None:
    """`parameter_names` with `values`; null starts from the data."""
    names_at, values_at = (_INITIAL, "parameter_names"), (_INITIAL, "values")
    section = work.section(_INITIAL)
    names, values = section.get("parameter_names"), section.get("values")
    if names is None and values is None:
        return
    if names is not None and not isinstance(names, list):
        work.refuse(names_at, "must be a list of parameter names")
        return
    if values is not None and not isinstance(values, list):
        work.refuse(values_at, "must be null, or a list with one number per parameter name")
        return
    listed, rest = _listed(names, model), ""
    if values and values[-1] == _AND_SO_ON:
        values = [*values[:-1], *[None] * (len(listed) - len(values) + 1)]
        rest = f"{_AND_SO_ON} stands for null: a start from the data"
    if values is not None and len(values) != len(listed):
        work.refuse(
            values_at, f"has {len(values)} values for {len(listed)} parameter names; give one for each"
        )
        return
    for index, name in enumerate(listed):
        here = (*names_at, min(index, len(names) - 1)) if names is not None else values_at
        if not isinstance(name, str):
            work.refuse(here, "is not a parameter name")
        elif name in SCALING or is_foreign(name, model):
            continue
        elif name in known.start:
            work.refuse(here, "is named more than once; keep one")
        else:
            place: KeyPath = (
                (*values_at, min(index, len(section["values"]) - 1)) if values is not None else here
            )
            known.start[_canonical(work, name, model, here)] = (values[index] if values else None, place)
    if "parameter_names" in section:
        work.tell(
            names_at,
            Fate.KEPT,
            why="; ".join(_about_names(names, listed)),
        )
    if "values" in section:
        work.tell(values_at, Fate.KEPT, why="null: starts come from the data" if values is None else rest)


def _listed(names: list[Any] | None, model: str) -> list[Any]:
    """The parameter names of the flat form; `...` at the end stands for all others of the model."""
    table = [one.name for one in parameters_of(model)]
    if names is None:
        return table
    if not names or names[-1] != _AND_SO_ON:
        return names
    given = [
        parameter.name if (parameter := parameter_or_none(str(one), model)) else one for one in names[:-1]
    ]
    return [*names[:-1], *(name for name in table if name not in given)]


def _about_names(names: list[Any] | None, listed: list[Any]) -> Iterator[str]:
    if names and names[-1] == _AND_SO_ON:
        yield f"{_AND_SO_ON} stands for the other parameters"
    if any(one in listed for one in SCALING):
        yield "without contrast and offset"


def _canonical(work: Work, name: str, model: str, place: KeyPath) -> str:
    try:
        return parameter_named(name, model)
    except ValueError as error:
        work.problems.append(Problem(place, str(error), name))
        return name


def _fixed(work: Work, model: str, known: _Parameters) -> None:
    """`fixed_parameters`, a mapping to values or a list of names that are held at their start."""
    origin = (_INITIAL, "fixed_parameters")
    given = work.given(*origin)
    if given is None or given == [] or given == {}:
        return
    if isinstance(given, list):
        pairs = [(name, _start_of(work, name, model, (*origin, i), known), i) for i, name in enumerate(given)]
    elif isinstance(given, dict):
        pairs = [(name, value, name) for name, value in given.items()]
    else:
        work.refuse(origin, "must be a mapping such as {phi0: 0.0}")
        return
    for name, value, key in pairs:
        place = (*origin, key)
        if name in SCALING:
            known.scaling[name] = (value, place)
        elif isinstance(name, str) and not is_foreign(name, model):
            known.fixed[_canonical(work, name, model, place)] = (value, place)
    work.tell(origin, Fate.KEPT, why="here it is obeyed: these are held at their values")


def _start_of(work: Work, name: Any, model: str, place: KeyPath, known: _Parameters) -> Any:
    """The start value that a parameter of a list of fixed ones is held at."""
    parameter = parameter_or_none(name, model) if isinstance(name, str) else None
    value = known.start.get(parameter.name, (None, ()))[0] if parameter else None
    if value is None:
        work.refuse(place, "is fixed, but has no value; write a mapping such as {phi0: 0.0}")
    return value


def _grouped(work: Work, model: str, known: _Parameters, entries: list[dict[str, Any]]) -> None:
    """`parameters.{group}.{name}`, which wins over the flat form and over groups in analyzer_parameters."""
    sections = {
        "analyzer_parameters": work.given("analyzer_parameters"),
        "parameters": work.section("parameters"),
    }
    groups = [
        (section, group, members)
        for section, found in sections.items()
        if isinstance(found, dict)
        for group, members in found.items()
        if section == "parameters" or group in GROUPS
    ]
    for section, group, members in groups:
        if group not in GROUPS:
            work.tell((section, group), Fate.UNKNOWN, why="unknown group", changes_answer=True)
            continue
        if members is not None and not isinstance(members, dict):
            work.refuse((section, group), "must be a section of parameters")
            continue
        for name, keys in (members or {}).items():
            place = (section, group, name)
            if not isinstance(keys, dict):
                work.refuse(place, "must be a section such as {value: 1.0e4, vary: true}")
            elif name in SCALING:
                _one_scaling(work, name, keys, place, known)
            elif is_foreign(name, model):
                work.tell(place, Fate.DROPPED, why=f"{model} has no parameter {name}")
            else:
                _one(work, _canonical(work, name, model, place), keys, place, model, known, entries)


def _one(
    work: Work,
    name: str,
    keys: dict[str, Any],
    place: KeyPath,
    model: str,
    known: _Parameters,
    entries: list[dict[str, Any]],
) -> None:
    value, vary = keys.get("value"), keys.get("vary", True)
    _unknown_keys(work, keys, place)
    if vary is False and value is None:
        work.refuse(place, "does not vary and has no value; give the value it is held at")
    elif vary is False:
        known.fixed[name] = (value, (*place, "value"))
        known.start.pop(name, None)
    elif vary is not True:
        work.refuse((*place, "vary"), "must be true or false")
    elif value is not None:
        known.start[name] = (value, (*place, "value"))
        known.fixed.pop(name, None)
    for key, fate, to in (
        ("value", Fate.RENAMED, f"{_INITIAL}.{'values' if vary is not False else 'fixed_parameters'}"),
        ("vary", Fate.REPLACED, f"{_INITIAL}.fixed_parameters"),
    ):
        if key in keys:
            work.tell((*place, key), fate, to)
    entry = _bounds_of(work, name, keys, place, model)
    if entry:
        _merge(work, entries, {"name": name, **entry}, place)


def _bounds_of(work: Work, name: str, keys: dict[str, Any], place: KeyPath, model: str) -> dict[str, Any]:
    """min, max and prior of one parameter."""
    made = {key: keys[key] for key in ("min", "max") if keys.get(key) is not None}
    if len(made) == 1:
        work.refuse(place, "has only one of min and max; give both or neither")
    params = keys.get("prior_params") or {}
    parameter = parameter_or_none(name, model)
    limits = read_limits(made, parameter) if parameter else None
    if not isinstance(params, dict):
        work.refuse((*place, "prior_params"), "must be a section such as {loc: 1.0e4, scale: 1.0e4}")
    elif keys.get("prior") is not None and limits:
        try:
            made["prior"] = prior_from_params(keys["prior"], params, *limits)
            stretch_over(made, limits)
        except ValueError as error:
            work.refuse((*place, "prior"), str(error))
    elif params and keys.get("prior") is None:
        work.refuse((*place, "prior_params"), "has no prior it belongs to; name one, such as prior: normal")
    for key in ("min", "max", "prior", "prior_params"):
        if key in keys:
            work.tell((*place, key), Fate.RENAMED, dotted(ORIGIN))
    return made


def _merge(work: Work, entries: list[dict[str, Any]], entry: dict[str, Any], place: KeyPath) -> None:
    for index, other in enumerate(entries):
        if other["name"] == entry["name"]:
            entries[index] = {**other, **entry}
            note_entry(work, index, place)
            return
    entries.append(entry)
    note_entry(work, len(entries) - 1, place)


def _one_scaling(work: Work, name: str, keys: dict[str, Any], place: KeyPath, known: _Parameters) -> None:
    if keys.get("vary") is False and keys.get("value") is not None:
        known.scaling[name] = (keys["value"], (*place, "value"))
        work.tell((*place, "value"), Fate.RENAMED, f"scaling.constant.{name}")
    for key in keys:
        if key in _KEYS and not work.is_told((*place, key)):
            work.tell((*place, key), Fate.DROPPED, why=_NO_START)
    _unknown_keys(work, keys, place)


def _unknown_keys(work: Work, keys: dict[str, Any], place: KeyPath) -> None:
    for key in keys:
        if key not in (*_KEYS, "unit", "description"):
            why = f"unknown; a parameter has {', '.join(_KEYS)}"
            work.tell((*place, key), Fate.UNKNOWN, why=why, changes_answer=True)


def _write_starts(work: Work, model: str, known: _Parameters) -> None:
    if known.fixed:
        work.new.setdefault(_INITIAL, {})["fixed_parameters"] = {n: v for n, (v, _) in known.fixed.items()}
        for name, (_, place) in known.fixed.items():
            work.origins[(_INITIAL, "fixed_parameters", name)] = place
    section = work.new.setdefault(_INITIAL, {})
    table = [one.name for one in parameters_of(model)]
    names = [*known.start, *(name for name in table if name not in known.start and name in known.fixed)]
    if not known.start:
        return
    section["parameter_names"] = names
    values = [known.start[name][0] if name in known.start else known.fixed[name][0] for name in names]
    section["values"] = None if all(value is None for value in values) else values
    for index, name in enumerate(names):
        place = known.start[name][1] if name in known.start else known.fixed[name][1]
        work.origins[(_INITIAL, "parameter_names", index)] = place
        work.origins[(_INITIAL, "values", index)] = place


def _active(work: Work, model: str, known: _Parameters) -> None:
    """`active_parameters`, obeyed whether values are given or not."""
    origin = (_INITIAL, "active_parameters")
    active = work.given(*origin)
    if active is None:
        return
    if not isinstance(active, list):
        work.refuse(origin, "must be null, or a list of parameter names")
        return
    kept = [
        (i, one) for i, one in enumerate(active) if one not in SCALING and not is_foreign(str(one), model)
    ]
    work.new.setdefault(_INITIAL, {})["active_parameters"] = [one for _, one in kept]
    for new, (old, _) in enumerate(kept):
        work.origins[(_INITIAL, "active_parameters", new)] = (*origin, old)
    varied = {_name_or_itself(str(one), model) for _, one in kept}
    for name, value in HELD_AT.items():
        if parameter_or_none(name, model) and name not in varied and name not in (*known.start, *known.fixed):
            work.new[_INITIAL].setdefault("fixed_parameters", {})[name] = value
            work.origins[(_INITIAL, "fixed_parameters", name)] = origin
    why = "here it is obeyed: all others are held at their start value, or at the default of that program"
    work.tell(origin, Fate.KEPT, why=why)


def _name_or_itself(name: str, model: str) -> str:
    parameter = parameter_or_none(name, model)
    return name if parameter is None else parameter.name


def _write_scaling(work: Work, known: _Parameters) -> None:
    """Contrast and offset that are held: both are scaling.constant; one alone has no counterpart."""
    if not known.scaling:
        return
    if set(known.scaling) == set(SCALING):
        for name, (value, place) in known.scaling.items():
            work.put(("scaling", "constant", name), value, place)
        work.put(("scaling", "mode"), "constant", known.scaling["contrast"][1], rank=9)
        return
    name, (_, place) = next(iter(known.scaling.items()))
    why = f"{name} alone cannot be held; hold contrast and offset, or neither"
    work.tell(place, Fate.DROPPED, why=why, changes_answer=True)
