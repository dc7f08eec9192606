"""What a fit does with each parameter: bounds, prior, start or fixed value, from table and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hpcxpcs.config.parameter_sections import BoundEntry, InitialParameters, ParameterSpace
from hpcxpcs.config.parameters import Parameter, parameter_named, parameters_of
from hpcxpcs.config.prior import Prior
from hpcxpcs.config.problems import KeyPath, Problem, config_error

_FIXED: KeyPath = ("initial_parameters", "fixed_parameters")
_ACTIVE: KeyPath = ("initial_parameters", "active_parameters")
_VALUES: KeyPath = ("initial_parameters", "values")
_BOUNDS: KeyPath = ("parameter_space", "bounds")


class ParameterSettings(Protocol):
    """The parts of a configuration that decide about parameters."""

    @property
    def analysis_mode(self) -> str:
        """Canonical model name."""

    @property
    def parameter_space(self) -> ParameterSpace:
        """Bounds and priors."""

    @property
    def initial_parameters(self) -> InitialParameters:
        """Start values, fixed and active parameters."""


@dataclass(frozen=True)
class ResolvedParameter:
    """A parameter with its bounds, its prior, and either a fixed value or a start (None = from the data).

    All numbers are in the parameter's unit; a fixed parameter has start == fixed.
    """

    parameter: Parameter
    lower: float
    upper: float
    prior: Prior
    start: float | None
    fixed: float | None


def resolved_parameters(config: ParameterSettings) -> tuple[ResolvedParameter, ...]:
    """All parameters of the model in canonical order, as the fit treats them; ConfigError when impossible."""
    problems = parameter_problems(config)
    if problems:
        raise config_error(problems, lambda path: "", "the configuration")
    return _resolve(config)


def parameter_problems(config: ParameterSettings) -> list[Problem]:
    """Everything about bounds, starts, priors and fixed values that does not fit together."""
    problems = _name_problems(config)
    if problems:
        return problems
    resolved = _resolve(config)
    for item in resolved:
        problems += _bound_problems(config, item) or _value_problems(config, item)
    if all(item.fixed is not None for item in resolved):
        problems.append(Problem(_FIXED, "leaves nothing to fit: every parameter of the model is held"))
    return problems


def _resolve(config: ParameterSettings) -> tuple[ResolvedParameter, ...]:
    entries = {entry.name: entry for entry in config.parameter_space.bounds}
    starts = _starts(config)
    resolved = []
    for parameter in parameters_of(config.analysis_mode):
        entry = entries.get(parameter.name) or BoundEntry(name=parameter.name)
        fixed = _held_at(config.initial_parameters, parameter, starts.get(parameter.name))
        resolved.append(
            ResolvedParameter(
                parameter=parameter,
                lower=parameter.lower if entry.min is None else entry.min,
                upper=parameter.upper if entry.max is None else entry.max,
                prior=entry.prior or parameter.prior,
                start=starts.get(parameter.name) if fixed is None else fixed,
                fixed=fixed,
            )
        )
    return tuple(resolved)


def _starts(config: ParameterSettings) -> dict[str, float | None]:
    """Start value by parameter name; empty when all come from the data."""
    initial = config.initial_parameters
    names = initial.parameter_names or [parameter.name for parameter in parameters_of(config.analysis_mode)]
    return dict(zip(names, initial.values, strict=True)) if initial.values is not None else {}


def _held_at(initial: InitialParameters, parameter: Parameter, start: float | None) -> float | None:
    """The value a parameter is held at, or None when it varies."""
    if parameter.name in initial.fixed_parameters:
        return initial.fixed_parameters[parameter.name]
    if initial.active_parameters is None or parameter.name in initial.active_parameters:
        return None
    return parameter.default if start is None else start


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


def _bound_problems(config: ParameterSettings, item: ResolvedParameter) -> list[Problem]:
    """Empty ranges, and priors without mass inside the bounds."""
    path = _bound_path(config, item.parameter.name)
    if not item.lower < item.upper:
        text = f"leaves {item.parameter.name} an empty range: {item.lower:g} ... {item.upper:g}"
        return [Problem(path, text)]
    if item.fixed is None and not item.prior.covers(item.lower, item.upper):
        prior = ", ".join(f"{key}: {value}" for key, value in item.prior.to_mapping().items())
        text = (
            f"leaves no mass of the prior {{{prior}}} between {item.lower:g} and {item.upper:g}; give another"
        )
        return [Problem(path, text)]
    return []


def _bound_path(config: ParameterSettings, name: str) -> KeyPath:
    for index, entry in enumerate(config.parameter_space.bounds):
        if entry.name == name:
            return (*_BOUNDS, index)
    return _BOUNDS


def _value_problems(config: ParameterSettings, item: ResolvedParameter) -> list[Problem]:
    """Starts and fixed values outside the bounds, and parameters that are both fixed and active."""
    initial, name = config.initial_parameters, item.parameter.name
    problems = []
    active = initial.active_parameters or ()
    if name in initial.fixed_parameters and name in active:
        problems.append(
            Problem((*_ACTIVE, active.index(name)), "is fixed as well; keep one of the two", name)
        )
    value = item.start
    switched_off = value == 0 and item.fixed is not None and item.parameter.zero_when_fixed
    if value is None or switched_off or item.lower <= value <= item.upper:
        return problems
    outside = f"is outside the bounds {item.lower:g} ... {item.upper:g} of {name}"
    if name in initial.fixed_parameters:
        problems.append(Problem((*_FIXED, name), outside, value))
    elif _starts(config).get(name) is not None:
        names = initial.parameter_names or [
            parameter.name for parameter in parameters_of(config.analysis_mode)
        ]
        problems.append(Problem((*_VALUES, list(names).index(name)), outside, value))
    else:
        text = f"holds {name} at its default {value:g}, which {outside}; give it a value in fixed_parameters"
        problems.append(Problem(_ACTIVE, text))
    return problems
