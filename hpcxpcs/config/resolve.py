"""What a fit does with each parameter: bounds, prior, start or fixed value, from configuration and data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hpcxpcs.config.campaign import Joint
from hpcxpcs.config.parameter_sections import BoundEntry, InitialParameters, ParameterSpace
from hpcxpcs.config.parameters import Parameter, own_parameters, parameter_named, parameters_of
from hpcxpcs.config.prior import Prior, read_prior
from hpcxpcs.config.problems import KeyPath, Problem, config_error, dotted
from hpcxpcs.config.scale import DataScale, Exponent, Extent, dimensionless, extent_of, needs_data
from hpcxpcs.config.sections import AnalyzerParameters

_FIXED: KeyPath = ("initial_parameters", "fixed_parameters")
_ACTIVE: KeyPath = ("initial_parameters", "active_parameters")
_VALUES: KeyPath = ("initial_parameters", "values")
_BOUNDS: KeyPath = ("parameter_space", "bounds")

ROOM = 10.0
"""A start value lies at least this factor (an amplitude), or this many times its size, inside bounds from the data."""


class ParameterSettings(Protocol):
    """The parts of a configuration that decide about parameters."""

    @property
    def analysis_mode(self) -> str:
        """Canonical model name."""

    @property
    def analyzer_parameters(self) -> AnalyzerParameters:
        """Whether q is known, and whether times count in frames: what units depend on."""

    @property
    def parameter_space(self) -> ParameterSpace:
        """Bounds and priors."""

    @property
    def initial_parameters(self) -> InitialParameters:
        """Start values, fixed and active parameters."""

    @property
    def joint(self) -> Joint | None:
        """The data sets of a joint fit."""


@dataclass(frozen=True)
class ParameterChoice:
    """A parameter and what the configuration says of it; None is left to the data.

    What has no dimension has the bounds and the prior of the table unless `given` names min, max or prior. All numbers
    are in the parameter's unit; a fixed parameter has start == fixed.
    """

    parameter: Parameter
    lower: float | None
    upper: float | None
    prior: Prior | None
    start: float | None
    fixed: float | None
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedParameter:
    """A parameter with its bounds, its prior, and either a fixed value or a start (None = from the data).

    `given` names those of min, max and prior that the configuration states; the others come from the data, or from
    the table where they have no dimension. All numbers are in the parameter's unit; a fixed one has start == fixed.
    """

    parameter: Parameter
    lower: float
    upper: float
    prior: Prior
    start: float | None
    fixed: float | None
    given: tuple[str, ...] = ()

    def origins(self) -> dict[str, str]:
        """Where min, max and prior come from: configuration, data or table."""
        otherwise = "data" if needs_data(self.parameter) else "table"
        return {name: "configuration" if name in self.given else otherwise for name in ("min", "max", "prior")}


def parameter_choices(config: ParameterSettings) -> tuple[ParameterChoice, ...]:
    """All parameters of the model in canonical order, as the configuration has them; ConfigError when impossible."""
    problems = parameter_problems(config)
    if problems:
        raise config_error(problems, lambda path: "", "the configuration")
    return tuple(
        replace(
            choice,
            parameter=replace(choice.parameter, unit=unit_in(choice.parameter.unit, config.analyzer_parameters)),
        )
        for choice in _choices(config)
    )


def resolved_parameters(config: ParameterSettings, scale: DataScale) -> tuple[ResolvedParameter, ...]:
    """All parameters of the model in canonical order, as the fit of data of this scale treats them."""
    choices = parameter_choices(config)
    exponents = {choice.parameter.rate: _exponent(choice) for choice in choices if choice.parameter.kind == "exponent"}
    resolved = tuple(
        _resolved(choice, extent_of(choice.parameter, scale, exponents.get(choice.parameter.rate)))
        for choice in choices
    )
    problems = [problem for item in resolved for problem in _range_problems(config, item)]
    if problems:
        raise config_error(problems, lambda path: "", "the configuration")
    return resolved


def parameter_problems(config: ParameterSettings) -> list[Problem]:
    """Everything about bounds, starts, priors and fixed values that does not fit together, whatever the data."""
    problems = _name_problems(config)
    if problems:
        return problems
    choices = _choices(config)
    for item in choices:
        problems += _choice_problems(config, item) or _value_problems(config, item)
    if all(item.fixed is not None for item in choices):
        problems.append(Problem(_FIXED, "leaves nothing to fit: every parameter of the model is held"))
    return problems


def recorded(parameters: Iterable[ResolvedParameter]) -> list[dict[str, Any]]:
    """Parameters as JSON values, from which `from_record` makes them again, bit by bit."""
    return [
        {
            "name": item.parameter.name,
            "unit": item.parameter.unit,
            "bounds": [item.lower, item.upper],
            "prior": item.prior.to_mapping(),
            "start": item.start,
            "fixed": item.fixed,
            "given": list(item.given),
        }
        for item in parameters
    ]


def from_record(model: str, record: Sequence[Mapping[str, Any]]) -> tuple[ResolvedParameter, ...]:
    """The parameters of a model (canonical name) that `recorded` has written."""
    return tuple(
        ResolvedParameter(
            parameter=replace(parameter, unit=entry["unit"]),
            lower=float(entry["bounds"][0]),
            upper=float(entry["bounds"][1]),
            prior=read_prior(entry["prior"]),
            start=entry["start"],
            fixed=entry["fixed"],
            given=tuple(entry["given"]),
        )
        for parameter, entry in zip(_of_record(model, record), record, strict=True)
    )


def _of_record(model: str, record: Sequence[Mapping[str, Any]]) -> list[Parameter]:
    """The parameters of a record in its order, those of single data sets after those of the model."""
    known = parameters_of(model)
    sets = 1 + max((int(entry["name"].rpartition("_")[2]) - 1 for entry in record[len(known) :]), default=0)
    own = {one.name: one for parameter in known for one in own_parameters(model, [parameter.name], sets)}
    return [*known, *(own[entry["name"]] for entry in record[len(known) :])]


def _choices(config: ParameterSettings) -> tuple[ParameterChoice, ...]:
    entries = {entry.name: entry for entry in config.parameter_space.bounds}
    starts = _starts(config)
    choices = []
    for parameter in parameters_of(config.analysis_mode):
        entry = entries.get(parameter.name) or BoundEntry(name=parameter.name)
        fixed = _held_at(config.initial_parameters, parameter, starts.get(parameter.name))
        start = starts.get(parameter.name) if fixed is None else fixed
        stated = {"min": entry.min, "max": entry.max, "prior": entry.prior}
        given = tuple(name for name, value in stated.items() if value is not None)
        choice = ParameterChoice(parameter, entry.min, entry.max, entry.prior, start, fixed, given)
        choices.append(choice if needs_data(parameter) else _filled(choice, dimensionless(parameter)))
    if config.joint is not None:
        for own in own_parameters(config.analysis_mode, config.joint.free, config.joint.count):
            choices.append(_filled(ParameterChoice(own, None, None, None, 0.0, None), dimensionless(own)))
    return tuple(choices)


def held_parameters(config: ParameterSettings) -> tuple[str, ...]:
    """The names of the parameters that do not vary."""
    return tuple(choice.parameter.name for choice in _choices(config) if choice.fixed is not None)


def _filled(choice: ParameterChoice, table: Extent) -> ParameterChoice:
    """A choice with what it leaves open taken from the table."""
    found = _resolved(choice, table)
    return replace(choice, lower=found.lower, upper=found.upper, prior=found.prior)


def unit_in(unit: str, analyzer: AnalyzerParameters) -> str:
    """A unit of the table where times count in frames, or where q is unknown and rates are q²D or q·v."""
    if analyzer.scattering.wavevector_q == "unknown":
        unit = re.sub("Å²?/", "1/", unit)
    return re.sub(r"\bs\b", "frame", unit) if analyzer.dt == "frames" else unit


def _exponent(choice: ParameterChoice) -> Exponent:
    """What the exponent of a rate may be, from its fixed value or its bounds and prior."""
    if choice.fixed is not None:
        return Exponent(choice.fixed, choice.fixed, choice.fixed, 0.0)
    found = _resolved(choice, dimensionless(choice.parameter))
    if found.prior.kind in ("normal", "truncated_normal"):
        centre, width = found.prior.value("mu"), found.prior.value("sigma")
    else:
        centre, width = 0.5 * (found.lower + found.upper), 0.25 * (found.upper - found.lower)
    return Exponent(found.lower, found.upper, min(max(centre, found.lower), found.upper), width)


def _resolved(choice: ParameterChoice, default: Extent) -> ResolvedParameter:
    """A choice with what it leaves open taken from the default extent, which makes room for a start value."""
    lowest, highest = _around(choice, default)
    lower = lowest if choice.lower is None else choice.lower
    upper = highest if choice.upper is None else choice.upper
    return ResolvedParameter(
        parameter=choice.parameter,
        lower=lower,
        upper=upper,
        prior=choice.prior or default.prior.centred_within(lower, upper),
        start=choice.start,
        fixed=choice.fixed,
        given=choice.given,
    )


def _around(choice: ParameterChoice, default: Extent) -> tuple[float, float]:
    """The default bounds, widened about a start value where they come from the data."""
    start = choice.start
    lies_inside = start is None or default.lower <= start <= default.upper
    if start is None or lies_inside or start == 0.0 or not needs_data(choice.parameter):
        return default.lower, default.upper
    if choice.parameter.kind == "amplitude":
        nearest, farthest = (start / ROOM, start * ROOM) if start > 0.0 else (start * ROOM, start / ROOM)
    else:
        nearest, farthest = start - ROOM * abs(start), start + ROOM * abs(start)
    return min(default.lower, nearest), max(default.upper, farthest)


def _starts(config: ParameterSettings) -> dict[str, float | None]:
    """Start value by parameter name; empty when all come from the data."""
    initial = config.initial_parameters
    names = initial.parameter_names or [parameter.name for parameter in parameters_of(config.analysis_mode)]
    return dict(zip(names, initial.values, strict=True)) if initial.values is not None else {}


def _held_at(initial: InitialParameters, parameter: Parameter, start: float | None) -> float | None:
    """The value a parameter is held at, or None when it varies (or is to be held and has none)."""
    if parameter.name in initial.fixed_parameters:
        return initial.fixed_parameters[parameter.name]
    if _is_active(initial, parameter):
        return None
    return parameter.default if start is None else start


def _is_active(initial: InitialParameters, parameter: Parameter) -> bool:
    return initial.active_parameters is None or parameter.name in initial.active_parameters


def _name_problems(config: ParameterSettings) -> list[Problem]:
    """Names that the model does not have, and values whose number differs from that of the names."""
    initial = config.initial_parameters
    named: list[tuple[KeyPath, str]] = [
        ((*_BOUNDS, index, "name"), entry.name) for index, entry in enumerate(config.parameter_space.bounds)
    ]
    for key in ("parameter_names", "active_parameters"):
        names = getattr(initial, key) or ()
        named += [(("initial_parameters", key, index), name) for index, name in enumerate(names)]
    named += [((*_FIXED, name), name) for name in initial.fixed_parameters]
    problems = []
    for path, name in named:
        try:
            parameter_named(name, config.analysis_mode)
        except ValueError as error:
            problems.append(Problem(path, str(error), name))
    expected = len(initial.parameter_names or parameters_of(config.analysis_mode))
    if initial.values is not None and len(initial.values) != expected:
        problems.append(Problem(_VALUES, f"must have length {expected}, one value per parameter name"))
    return problems


def _choice_problems(config: ParameterSettings, choice: ParameterChoice) -> list[Problem]:
    """What is wrong with the bounds of one parameter before any data are seen, or with its being held."""
    initial, parameter = config.initial_parameters, choice.parameter
    if choice.fixed is None and not _is_active(initial, parameter) and parameter.name not in initial.fixed_parameters:
        text = f"holds {parameter.name}, which has no neutral value; give it one in fixed_parameters"
        return [Problem(_ACTIVE, text)]
    if not needs_data(parameter):
        return _range_problems(config, _resolved(choice, dimensionless(parameter)))
    if choice.lower is not None and choice.upper is not None:
        extent = Extent(choice.lower, choice.upper, choice.prior or Prior("uniform"))
        return _range_problems(config, _resolved(choice, extent))
    return []


def _range_problems(config: ParameterSettings, item: ResolvedParameter) -> list[Problem]:
    """Empty ranges, and priors without mass inside the bounds."""
    path = _bound_path(config, item.parameter.name)
    if not item.lower < item.upper:
        origins = item.origins()
        text = (
            f"leaves {item.parameter.name} an empty range: min {item.lower:g} ({origins['min']}), "
            f"max {item.upper:g} ({origins['max']})"
        )
        return [Problem(path, text)]
    if item.fixed is None and not item.prior.covers(item.lower, item.upper):
        prior = ", ".join(f"{key}: {value}" for key, value in item.prior.to_mapping().items())
        text = f"leaves no mass of the prior {{{prior}}} between {item.lower:g} and {item.upper:g}; give another"
        return [Problem(path, text)]
    return []


def _bound_path(config: ParameterSettings, name: str) -> KeyPath:
    for index, entry in enumerate(config.parameter_space.bounds):
        if entry.name == name:
            return (*_BOUNDS, index)
    return _BOUNDS


def _value_problems(config: ParameterSettings, choice: ParameterChoice) -> list[Problem]:
    """Starts and fixed values outside the bounds, and parameters that are both fixed and active."""
    initial, name = config.initial_parameters, choice.parameter.name
    problems = []
    active = initial.active_parameters or ()
    if name in initial.fixed_parameters and name in active:
        problems.append(Problem((*_ACTIVE, active.index(name)), "is fixed as well; keep one of the two", name))
    outside = _outside(choice)
    if outside is None:
        return problems
    value = choice.start
    if name in initial.fixed_parameters:
        problems.append(Problem((*_FIXED, name), outside, value))
    elif _starts(config).get(name) is not None:
        names = initial.parameter_names or [parameter.name for parameter in parameters_of(config.analysis_mode)]
        problems.append(Problem((*_VALUES, list(names).index(name)), outside, value))
    else:
        text = f"holds {name} at its default {value:g}, which {outside}; give it a value in fixed_parameters"
        problems.append(Problem(_ACTIVE, text))
    return problems


def _outside(choice: ParameterChoice) -> str | None:
    """In words, that a start or fixed value is outside the bounds that are known without data; None when it is not."""
    value = choice.start
    switched_off = value == 0 and choice.fixed is not None and choice.parameter.zero_when_fixed
    if value is None or switched_off:
        return None
    lower, upper, name = choice.lower, choice.upper, choice.parameter.name
    if lower is not None and upper is not None and not lower <= value <= upper:
        return f"is outside the bounds {lower:g} ... {upper:g} of {name}"
    if lower is not None and value < lower:
        return f"is below {lower:g}, min of {name} in {dotted(_BOUNDS)}"
    if upper is not None and value > upper:
        return f"is above {upper:g}, max of {name} in {dotted(_BOUNDS)}"
    if choice.parameter.kind == "amplitude" and value <= 0 and lower is None:
        return f"is not positive, as {name} must be"
    return None
