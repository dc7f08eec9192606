"""What older configurations say about parameters: bounds, priors, starts, and which ones vary; flat and grouped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcxpcs.config.dialects.work import Fate, Work
from hpcxpcs.config.parameters import find_parameter, parameter_named, parameters_of
from hpcxpcs.config.prior import PRIOR_VALUES
from hpcxpcs.config.problems import KeyPath, Problem, dotted
from hpcxpcs.config.values import read_number

_INITIAL = "initial_parameters"
_NAMES: KeyPath = (_INITIAL, "parameter_names")
_VALUES: KeyPath = (_INITIAL, "values")
_FIXED: KeyPath = (_INITIAL, "fixed_parameters")
_BOUNDS: KeyPath = ("parameter_space", "bounds")
_GROUPS = ("reference", "sample", "velocity", "fraction", "angle", "scaling")
_SCALING = ("contrast", "offset")
_KEYS = ("value", "min", "max", "vary", "prior", "prior_params")
_ENTRY, _OLD_ENTRY = ("name", "min", "max", "prior"), ("type", "prior_mu", "prior_sigma")
_LABELS = ("unit", "log_space", "description")
_AND_SO_ON = "..."
"""What homodyne's document writes at the end of a list for all that is left out."""

_TRANSPORT = {"D0": (100.0, 1e5), "alpha": (-2.0, 2.0), "D_offset": (-1e5, 1e5)}
_COMPONENT = {"D0": (100.0, 1e6), "alpha": (-5.0, 5.0), "D_offset": (-1e5, 1e5)}
_PUBLISHED: Mapping[str, tuple[float, float]] = {
    **_TRANSPORT,
    "gamma_dot_t0": (1e-6, 0.5),
    "beta": (-2.0, 2.0),
    "gamma_dot_t_offset": (-0.1, 0.1),
    "phi0": (-10.0, 10.0),
    **{f"{name}_{part}": limits for part in ("ref", "sample") for name, limits in _COMPONENT.items()},
    "v0": (1e-6, 1e4),
    "v_offset": (-100.0, 100.0),
    "f0": (0.0, 1.0),
    "f1": (-10.0, 10.0),
    "f2": (-1e4, 1e4),
    "f3": (0.0, 1.0),
}
"""Default bounds of the older programs, which a prior without stated moments refers to."""

_HELD_AT: Mapping[str, float] = {"D0": 1e3, "gamma_dot_t0": 0.01, "D0_ref": 1e4, "D0_sample": 1e4, "v0": 1e3}
"""Default amplitudes of the older programs, at which they hold what is not active and has no value."""


@dataclass
class _Parameters:
    """What is known so far of the parameters of a model: entries of bounds, and by name values and their places."""

    work: Work
    model: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    start: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)
    fixed: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)
    scaling: dict[str, tuple[Any, KeyPath]] = field(default_factory=dict)

    def is_foreign(self, name: str) -> bool:
        """Whether a parameter belongs to the whole two-component model, of which a reduced one is fitted."""
        reduced = self.model in ("static_ref", "static_both")
        return reduced and not find_parameter(name, self.model) and bool(find_parameter(name, "two_component"))

    def canonical(self, name: str, place: KeyPath) -> str:
        """Our name of a parameter; one that the model does not have is refused."""
        try:
            return parameter_named(name, self.model)
        except ValueError as error:
            self.work.problems.append(Problem(place, str(error), name))
            return name

    def ours(self, name: str) -> str:
        """Our name of a parameter, or a name that the model does not have as it is."""
        parameter = find_parameter(name, self.model)
        return parameter.name if parameter else name

    def merge(self, entry: dict[str, Any], place: KeyPath) -> None:
        """Add an entry of bounds, and remember where it comes from; it wins over an earlier one of its name."""
        names = [other["name"] for other in self.entries]
        index = names.index(entry["name"]) if entry["name"] in names else len(names)
        self.entries[index : index + 1] = [{**self.entries[index], **entry} if index < len(names) else entry]
        self.work.origins[(*_BOUNDS, index)] = place


def translate_parameters(work: Work, model: str) -> None:
    """Bounds, starts, fixed and active parameters."""
    known = _Parameters(work, model)
    _bounds(known)
    _flat(known)
    _fixed(known)
    if work.dialect == "heterodyne":
        _grouped(known)
    if known.entries:
        work.new.setdefault("parameter_space", {})["bounds"] = known.entries
        work.origins.setdefault(_BOUNDS, _BOUNDS if work.given(*_BOUNDS) is not None else ("parameters",))
    _write_starts(known)
    _active(known)
    _write_scaling(known)


def _bounds(known: _Parameters) -> None:
    """`parameter_space.bounds`, a list of entries."""
    work = known.work
    entries = work.given(*_BOUNDS)
    if entries is None:
        return
    if not isinstance(entries, list):
        work.refuse(_BOUNDS, "must be a list of entries such as {name: D0, min: 100, max: 1.0e5}")
        return
    for index, entry in enumerate(entries):
        place = (*_BOUNDS, index)
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            work.refuse(place, "must be an entry with a name, such as {name: D0, min: 100, max: 1.0e5}")
        elif entry["name"] in _SCALING:
            work.drop(place, "contrast and offset follow from the data in closed form, without bounds or priors")
        elif known.is_foreign(entry["name"]):
            work.drop(place, f"{known.model} has no parameter {entry['name']}")
        else:
            known.entries.append(_entry(known, entry, place))
            work.origins[(*_BOUNDS, len(known.entries) - 1)] = place
    why = "type, prior_mu and prior_sigma become prior; unit and log_space are labels"
    work.tell(_BOUNDS, Fate.REPLACED, dotted(_BOUNDS), why)


def _entry(known: _Parameters, entry: dict[str, Any], place: KeyPath) -> dict[str, Any]:
    """One entry, whose type and moments become its prior."""
    made = {key: entry[key] for key in _ENTRY if entry.get(key) is not None}
    for key in entry:
        if key not in (*_ENTRY, *_OLD_ENTRY, *_LABELS):
            known.work.disown((*place, key), "unknown in an entry of bounds")
    kind, mu, sigma = (entry.get(key) for key in _OLD_ENTRY)
    limits = _limits(known, entry["name"], made)
    if (kind is None and mu is None and sigma is None) or limits is None:
        return made
    try:
        _set_prior(made, _prior_from_moments(kind or "TruncatedNormal", mu, sigma, *limits), limits)
    except ValueError as error:
        known.work.refuse((*place, "type") if kind is not None else place, str(error))
    return made


def _limits(known: _Parameters, name: str, entry: dict[str, Any]) -> tuple[float, float] | None:
    """Bounds as written, or the published ones; None when name or bounds are in error, which their check tells."""
    parameter = find_parameter(name, known.model)
    if parameter is None:
        return None
    usual = _PUBLISHED[parameter.name]
    try:
        lower = read_number(entry.get("min", usual[0]))
        upper = read_number(entry.get("max", usual[1]))
    except ValueError:
        return None
    return (lower, upper) if lower < upper else None


def _set_prior(entry: dict[str, Any], prior: dict[str, Any], limits: tuple[float, float]) -> None:
    """Give an entry its prior, and state the bounds of one whose shape is stretched over them."""
    entry["prior"] = prior
    if prior["type"] == "beta_scaled":
        entry.setdefault("min", limits[0])
        entry.setdefault("max", limits[1])


def _flat(known: _Parameters) -> None:
    """`parameter_names` with `values`; null starts from the data."""
    work, section = known.work, known.work.section(_INITIAL)
    names, values = section.get("parameter_names"), section.get("values")
    if names is None and values is None:
        return
    if names is not None and not isinstance(names, list):
        work.refuse(_NAMES, "must be a list of parameter names")
        return
    if values is not None and not isinstance(values, list):
        work.refuse(_VALUES, "must be null, or a list with one number per parameter name")
        return
    listed, rest = _listed(known, names), ""
    if values and values[-1] == _AND_SO_ON:
        values = [*values[:-1], *[None] * (len(listed) - len(values) + 1)]
        rest = f"{_AND_SO_ON} stands for null: a start from the data"
    if values is not None and len(values) != len(listed):
        work.refuse(_VALUES, f"has {len(values)} values for {len(listed)} parameter names; give one for each")
        return
    for index, name in enumerate(listed):
        here = (*_NAMES, min(index, len(names) - 1)) if names is not None else _VALUES
        if not isinstance(name, str):
            work.refuse(here, "is not a parameter name")
        elif name in _SCALING or known.is_foreign(name):
            continue
        elif name in known.start:
            work.refuse(here, "is named more than once; keep one")
        else:
            place = (*_VALUES, min(index, len(section["values"]) - 1)) if values is not None else here
            known.start[known.canonical(name, here)] = (values[index] if values else None, place)
    if "parameter_names" in section:
        others = f"{_AND_SO_ON} stands for the other parameters" if names and names[-1] == _AND_SO_ON else ""
        scaling = "without contrast and offset" if any(one in listed for one in _SCALING) else ""
        work.tell(_NAMES, Fate.KEPT, why="; ".join(filter(None, (others, scaling))))
    if "values" in section:
        work.tell(_VALUES, Fate.KEPT, why="null: starts come from the data" if values is None else rest)


def _listed(known: _Parameters, names: list[Any] | None) -> list[Any]:
    """The parameter names of the flat form; `...` at the end stands for all others of the model."""
    table = [one.name for one in parameters_of(known.model)]
    if names is None:
        return table
    if not names or names[-1] != _AND_SO_ON:
        return names
    given = [known.ours(str(one)) for one in names[:-1]]
    return [*names[:-1], *(name for name in table if name not in given)]


def _fixed(known: _Parameters) -> None:
    """`fixed_parameters`, a mapping to values or a list of names that are held at their start."""
    given = known.work.given(*_FIXED)
    if given is None or given == [] or given == {}:
        return
    if isinstance(given, list):
        pairs = [(name, _start_of(known, name, (*_FIXED, i)), i) for i, name in enumerate(given)]
    elif isinstance(given, dict):
        pairs = [(name, value, name) for name, value in given.items()]
    else:
        known.work.refuse(_FIXED, "must be a mapping such as {phi0: 0.0}")
        return
    for name, value, key in pairs:
        place = (*_FIXED, key)
        if name in _SCALING:
            known.scaling[name] = (value, place)
        elif isinstance(name, str) and not known.is_foreign(name):
            known.fixed[known.canonical(name, place)] = (value, place)
    known.work.tell(_FIXED, Fate.KEPT, why="here it is obeyed: these are held at their values")


def _start_of(known: _Parameters, name: Any, place: KeyPath) -> Any:
    """The start value that a parameter of a list of fixed ones is held at."""
    value, _ = known.start.get(known.ours(name), (None, ())) if isinstance(name, str) else (None, ())
    if value is None:
        known.work.refuse(place, "is fixed, but has no value; write a mapping such as {phi0: 0.0}")
    return value


def _grouped(known: _Parameters) -> None:
    """`parameters.{group}.{name}`, which wins over the flat form and over groups in analyzer_parameters."""
    work = known.work
    beside = work.given("analyzer_parameters")
    beside = {group: beside[group] for group in beside if group in _GROUPS} if isinstance(beside, dict) else {}
    for section, groups in (("analyzer_parameters", beside), ("parameters", work.section("parameters"))):
        for group, members in groups.items():
            if group not in _GROUPS:
                work.disown((section, group), "unknown group")
            elif members is not None and not isinstance(members, dict):
                work.refuse((section, group), "must be a section of parameters")
            else:
                for name, keys in (members or {}).items():
                    _member(known, name, keys, (section, group, name))


def _member(known: _Parameters, name: str, keys: Any, place: KeyPath) -> None:
    """One parameter of a group."""
    if not isinstance(keys, dict):
        known.work.refuse(place, "must be a section such as {value: 1.0e4, vary: true}")
    elif name in _SCALING:
        _one_scaling(known, name, keys, place)
    elif known.is_foreign(name):
        known.work.drop(place, f"{known.model} has no parameter {name}")
    else:
        _one(known, known.canonical(name, place), keys, place)


def _one(known: _Parameters, name: str, keys: dict[str, Any], place: KeyPath) -> None:
    work, value, vary = known.work, keys.get("value"), keys.get("vary", True)
    _unknown_keys(known, keys, place)
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
    if "value" in keys:
        work.tell((*place, "value"), Fate.RENAMED, dotted(_FIXED if vary is False else _VALUES))
    if "vary" in keys:
        work.tell((*place, "vary"), Fate.REPLACED, dotted(_FIXED))
    entry = _bounds_of(known, name, keys, place)
    if entry:
        known.merge({"name": name, **entry}, place)


def _bounds_of(known: _Parameters, name: str, keys: dict[str, Any], place: KeyPath) -> dict[str, Any]:
    """min, max and prior of one parameter."""
    work = known.work
    made = {key: keys[key] for key in ("min", "max") if keys.get(key) is not None}
    if len(made) == 1:
        work.refuse(place, "has only one of min and max; give both or neither")
    kind, params = keys.get("prior"), keys.get("prior_params") or {}
    limits = _limits(known, name, made)
    if not isinstance(params, dict):
        work.refuse((*place, "prior_params"), "must be a section such as {loc: 1.0e4, scale: 1.0e4}")
    elif kind is not None and limits:
        try:
            _set_prior(made, _prior_from_params(kind, params, *limits), limits)
        except ValueError as error:
            work.refuse((*place, "prior"), str(error))
    elif params and kind is None:
        work.refuse((*place, "prior_params"), "has no prior it belongs to; name one, such as prior: normal")
    for key in ("min", "max", "prior", "prior_params"):
        if key in keys:
            work.tell((*place, key), Fate.RENAMED, dotted(_BOUNDS))
    return made


def _one_scaling(known: _Parameters, name: str, keys: dict[str, Any], place: KeyPath) -> None:
    work = known.work
    if keys.get("vary") is False and keys.get("value") is not None:
        known.scaling[name] = (keys["value"], (*place, "value"))
        work.tell((*place, "value"), Fate.RENAMED, f"scaling.constant.{name}")
    for key in keys:
        if key in _KEYS and not work.is_told((*place, key)):
            why = "contrast and offset follow from the data in closed form; they need no start"
            work.drop((*place, key), why)
    _unknown_keys(known, keys, place)


def _unknown_keys(known: _Parameters, keys: dict[str, Any], place: KeyPath) -> None:
    for key in keys:
        if key not in (*_KEYS, "unit", "description"):
            known.work.disown((*place, key), f"unknown; a parameter has {', '.join(_KEYS)}")


def _write_starts(known: _Parameters) -> None:
    origins, section = known.work.origins, known.work.new.setdefault(_INITIAL, {})
    if known.fixed:
        section["fixed_parameters"] = {name: value for name, (value, _) in known.fixed.items()}
        for name, (_, place) in known.fixed.items():
            origins[(*_FIXED, name)] = place
    if not known.start:
        return
    held = [one.name for one in parameters_of(known.model) if one.name in known.fixed]
    listed = {**{name: known.fixed[name] for name in held}, **known.start}
    names = [*known.start, *(name for name in held if name not in known.start)]
    values = [listed[name][0] for name in names]
    section["parameter_names"] = names
    section["values"] = None if all(value is None for value in values) else values
    for index, name in enumerate(names):
        origins[(*_NAMES, index)] = origins[(*_VALUES, index)] = listed[name][1]


def _active(known: _Parameters) -> None:
    """`active_parameters`, obeyed whether values are given or not."""
    work = known.work
    origin: KeyPath = (_INITIAL, "active_parameters")
    active = work.given(*origin)
    if active is None:
        return
    if not isinstance(active, list):
        work.refuse(origin, "must be null, or a list of parameter names")
        return
    kept = [(i, one) for i, one in enumerate(active) if one not in _SCALING and not known.is_foreign(str(one))]
    section = work.new[_INITIAL]
    section["active_parameters"] = [one for _, one in kept]
    for new, (old, _) in enumerate(kept):
        work.origins[(*origin, new)] = (*origin, old)
    stated = {*(known.ours(str(one)) for _, one in kept), *known.start, *known.fixed}
    for name, value in _HELD_AT.items():
        if name not in stated and find_parameter(name, known.model):
            section.setdefault("fixed_parameters", {})[name] = value
            work.origins[(*_FIXED, name)] = origin
    why = "here it is obeyed: all others are held at their start value, or at the default of that program"
    work.tell(origin, Fate.KEPT, why=why)


def _write_scaling(known: _Parameters) -> None:
    """Contrast and offset that are held: both are scaling.constant; one alone has no counterpart."""
    work, held = known.work, known.scaling
    if set(held) == set(_SCALING):
        for name, (value, place) in held.items():
            work.put(("scaling", "constant", name), value, place)
        work.put(("scaling", "mode"), "constant", held["contrast"][1], rank=9)
    elif held:
        name, (_, place) = next(iter(held.items()))
        why = f"{name} alone cannot be held; hold contrast and offset, or neither"
        work.drop(place, why, changes_answer=True)


_PRIORS: Mapping[str, tuple[str, ...]] = {
    "normal": ("loc", "scale"),
    "truncated_normal": ("loc", "scale"),
    "lognormal": ("loc", "scale"),
    "half_normal": ("scale",),
    "exponential": ("rate",),
    "beta_scaled": ("concentration1", "concentration2"),
    "uniform": (),
}
"""heterodyne's names of the values of each kind of prior, in the order of ours."""
_OF_BETA = 2.0
"""Both exponents of a beta prior that was given no moments."""


def _prior_from_moments(name: object, mu: Any, sigma: Any, lower: float, upper: float) -> dict[str, Any]:
    """homodyne's short form, whose missing moments are the middle and a quarter of the range."""
    kind = _kind(name)
    if kind == "lognormal":
        raise ValueError("does not say whether its numbers are logarithms; write it as prior: {type: lognormal, …}")
    centre = 0.5 * (lower + upper) if mu is None else read_number(mu)
    width = 0.25 * (upper - lower) if sigma is None else read_number(sigma)
    if kind == "exponential":
        raise ValueError("has no rate; write it as prior: {type: exponential, rate: …}")
    if kind == "beta_scaled":
        moments = mu is not None and sigma is not None
        return _prior(kind, _beta(centre, width, lower, upper) if moments else (_OF_BETA, _OF_BETA))
    return _prior(kind, {"uniform": (), "half_normal": (width,)}.get(kind, (centre, width)))


def _prior_from_params(name: object, params: Mapping[str, Any], lower: float, upper: float) -> dict[str, Any]:
    """heterodyne's form {loc, scale, low, high, …}; its loc and scale of a lognormal are those of the logarithm."""
    kind = _kind(name)
    unknown = set(params) - {*_PRIORS[kind], "low", "high"}
    if unknown:
        takes = ", ".join(_PRIORS[kind]) or "low and high"
        plain = kind.replace("_", "")
        raise ValueError(f"has unknown values {', '.join(sorted(unknown))}; {plain} takes {takes}")
    for key, bound, limit in (("low", "min", lower), ("high", "max", upper)):
        if key in params and not math.isclose(read_number(params[key]), limit, rel_tol=1e-9, abs_tol=1e-12):
            raise ValueError(f"has {key} other than {bound} ({limit:g}); priors end at the bounds, change {bound}")
    default = {"loc": 0.5 * (lower + upper), "scale": 0.25 * (upper - lower), "rate": 1.0}
    default |= {"concentration1": _OF_BETA, "concentration2": _OF_BETA}
    if kind == "lognormal":
        default |= {"loc": 0.0, "scale": 1.0}
    if kind == "half_normal":
        default["scale"] = 1.0
    values = [read_number(params.get(key, default[key])) for key in _PRIORS[kind]]
    if kind == "lognormal":
        values[0] = _exp(values[0])
    return _prior(kind, values)


def _kind(name: object) -> str:
    """Our name of a prior; ValueError when no older program knew it."""
    plain = str(name).lower().replace("_", "").replace("-", "")
    for kind in _PRIORS:
        if kind.replace("_", "") == plain:
            return kind
    raise ValueError(f"is not a prior; known: {', '.join(_PRIORS)}")


def _prior(kind: str, values: Sequence[float]) -> dict[str, Any]:
    return {"type": kind, **dict(zip(PRIOR_VALUES[kind], values, strict=True))}


def _beta(mean: float, sd: float, lower: float, upper: float) -> tuple[float, float]:
    """Exponents of a beta distribution over the range with this mean and deviation; 2 and 2 when none has them."""
    width = upper - lower
    m, variance = (mean - lower) / width, (sd / width) ** 2
    if not 0.0 < variance < m * (1.0 - m):
        return _OF_BETA, _OF_BETA
    total = m * (1.0 - m) / variance - 1.0
    return max(m * total, 0.01), max((1.0 - m) * total, 0.01)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        raise ValueError("has a loc whose exponential is infinite; loc is the logarithm of the median") from None
