"""The parameter values that simulated data have unless the caller says otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hpcxpcs.config.parameters import Parameter, model_named, parameter_named, parameters_of
from hpcxpcs.config.scale import dimensionless
from hpcxpcs.errors import ConfigError

_DIFFUSION = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0}
_REFERENCE = {"D0_ref": 4.0e3, "alpha_ref": -0.3, "D_offset_ref": 200.0}
_SAMPLE = {"D0_sample": 2.0e4, "alpha_sample": -0.2, "D_offset_sample": 2.0e3}
_SHEAR = {"gamma_dot_t0": 9.0e-4, "beta": -0.3, "gamma_dot_t_offset": 1.0e-4, "phi0": -4.0}
_VELOCITY = {"v0": 1.0e3, "beta": -0.2, "v_offset": 20.0}
_FRACTION = {"f0": 0.4, "f1": -0.02, "f2": 1.0, "f3": 0.2}

TRUTH: Mapping[str, Mapping[str, float]] = {
    "static": _DIFFUSION,
    "laminar_flow": _DIFFUSION | _SHEAR,
    "two_component": _REFERENCE | _SAMPLE | _VELOCITY | _FRACTION | {"phi0": 3.0},
    "static_ref": _REFERENCE,
    "static_both": _REFERENCE | _SAMPLE,
}
"""By model, in Å and s. At q = 0.0054 Å⁻¹, dt = 0.1 s and a gap of 2e6 Å every parameter is identified, but
f2, which f0 can always replace; and after the first frame the shear phase grows by less than 1 rad per frame.
"""


def canonical_model(spelling: str) -> str:
    """The model behind a name or alias; an unknown name is refused with the nearest known one."""
    try:
        return model_named(spelling)
    except ValueError as error:
        raise ConfigError(f"model: {spelling!r} {error}") from error


def true_parameters(model: str, changes: Mapping[str, float]) -> dict[str, float]:
    """The physical parameters of a model in canonical order: TRUTH with `changes`, of any laboratory's size."""
    table = {parameter.name: parameter for parameter in parameters_of(model)}
    values = {name: TRUTH[model][name] for name in table}
    for spelling, value in changes.items():
        try:
            name = parameter_named(spelling, model)
        except ValueError as error:
            raise ConfigError(f"parameter {spelling!r} {error}") from error
        _check(table[name], value)
        values[name] = float(value)
    return values


def _check(parameter: Parameter, value: float) -> None:
    """Refuse what no data could show: amplitudes below 0, fractions outside 0..1, absurd exponents and directions."""
    lower, upper = 0.0, math.inf
    if parameter.kind in ("offset", "growth", "instant"):
        lower = -math.inf
    elif parameter.kind == "angle":
        lower, upper = -360.0, 360.0
    elif parameter.kind != "amplitude":
        found = dimensionless(parameter)
        lower, upper = found.lower, found.upper
    positive = parameter.kind == "amplitude" and not parameter.zero_when_fixed
    if not lower <= value <= upper or not math.isfinite(value) or (positive and value == 0.0):
        limits = "must be positive" if positive else f"is outside of {lower:g} ... {upper:g}"
        raise ConfigError(f"parameter {parameter.name} = {value:g} {limits} {parameter.unit}".rstrip())
