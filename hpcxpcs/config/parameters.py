"""The one table of model parameters: names, units, defaults, how each scales with the data, and descriptions.

Bounds and priors of what has a dimension are not numbers here: `scale.py` makes them from the scale of the data.
Defaults are "no effect": a parameter that is neither active nor given a value is held there, and one without
such a value (None) has to be given one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hpcxpcs.config.problems import suggestion

__all__ = [
    "ALIASES",
    "MODEL_NAMES",
    "PARAMETER_ALIASES",
    "Parameter",
    "ParameterKind",
    "all_parameter_names",
    "find_parameter",
    "model_named",
    "own_parameters",
    "own_problem",
    "parameter_named",
    "parameters_of",
    "scaling_parameters",
]

ParameterKind = Literal[
    "amplitude", "exponent", "offset", "fraction", "growth", "instant", "angle", "level", "log_ratio", "difference"
]
"""What a parameter is: the three coefficients of a rate A·t^p + B, those of the sample fraction, an azimuth, or
contrast and offset, which follow from the data in closed form without bounds or prior; and by what a data set of a
joint fit differs from the first."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: symbol is plain Unicode; default is in `unit`.

    `rate` names the rate of an amplitude, exponent or offset. zero_when_fixed: may be fixed at 0, which switches its
    term off, although the bounds exclude 0.
    """

    name: str
    symbol: str
    unit: str
    default: float | None
    kind: ParameterKind
    group: str
    description: str
    rate: str = ""
    zero_when_fixed: bool = False


_TRANSPORT = "Å²/s^(1+alpha)"
_TRANSPORT_REF = "Å²/s^(1+alpha_ref)"
_TRANSPORT_SAMPLE = "Å²/s^(1+alpha_sample)"

# name, symbol, unit, default, kind, group, description, rate
_TABLE = (
    Parameter("D0", "D₀", _TRANSPORT, None, "amplitude", "diffusion",
              "transport coefficient at t = 1 s, in J(t) = D0 t^alpha + D_offset", "diffusion"),
    Parameter("alpha", "α", "", 0.0, "exponent", "diffusion",
              "time exponent of the transport coefficient; 0 = stationary", "diffusion"),
    Parameter("D_offset", "D_off", "Å²/s", 0.0, "offset", "diffusion",
              "constant part of the transport coefficient", "diffusion"),
    Parameter("gamma_dot_t0", "γ̇₀", "1/s^(1+beta)", 0.0, "amplitude", "shear",
              "shear rate at t = 1 s, in rate(t) = gamma_dot_t0 t^beta + gamma_dot_t_offset", "shear_rate",
              zero_when_fixed=True),
    Parameter("beta", "β", "", 0.0, "exponent", "shear",
              "time exponent of the shear rate; 0 = steady shear", "shear_rate"),
    Parameter("gamma_dot_t_offset", "γ̇_off", "1/s", 0.0, "offset", "shear",
              "constant part of the shear rate", "shear_rate"),
    Parameter("D0_ref", "D₀_ref", _TRANSPORT_REF, None, "amplitude", "reference",
              "transport coefficient of the reference component at t = 1 s", "reference_transport"),
    Parameter("alpha_ref", "α_ref", "", 0.0, "exponent", "reference",
              "time exponent of the reference transport coefficient", "reference_transport"),
    Parameter("D_offset_ref", "D_off_ref", "Å²/s", 0.0, "offset", "reference",
              "constant part of the reference transport coefficient", "reference_transport"),
    Parameter("D0_sample", "D₀_sample", _TRANSPORT_SAMPLE, None, "amplitude", "sample",
              "transport coefficient of the sample component at t = 1 s", "sample_transport"),
    Parameter("alpha_sample", "α_sample", "", 0.0, "exponent", "sample",
              "time exponent of the sample transport coefficient", "sample_transport"),
    Parameter("D_offset_sample", "D_off_sample", "Å²/s", 0.0, "offset", "sample",
              "constant part of the sample transport coefficient", "sample_transport"),
    Parameter("v0", "v₀", "Å/s^(1+beta)", 0.0, "amplitude", "velocity",
              "velocity between the components at t = 1 s, in v(t) = v0 t^beta + v_offset", "velocity",
              zero_when_fixed=True),
    Parameter("beta", "β", "", 0.0, "exponent", "velocity",
              "time exponent of the velocity; 0 = steady flow", "velocity"),
    Parameter("v_offset", "v_off", "Å/s", 0.0, "offset", "velocity",
              "constant part of the velocity", "velocity"),
    Parameter("f0", "f₀", "", 0.5, "fraction", "fraction",
              "amplitude of the sample fraction x(t) = f0 exp(f1 (t - f2)) + f3, clipped to 0..1"),
    Parameter("f1", "f₁", "1/s", 0.0, "growth", "fraction",
              "growth rate of the sample fraction; 0 = constant fraction"),
    Parameter("f2", "f₂", "s", 0.0, "instant", "fraction",
              "time at which the exponential of the sample fraction is 1"),
    Parameter("f3", "f₃", "", 0.0, "fraction", "fraction", "constant part of the sample fraction"),
    Parameter("phi0", "φ₀", "degree", 0.0, "angle", "angle", "azimuth of the flow direction, modulo 180 degrees"),
    Parameter("contrast", "contrast", "", 0.5, "level", "scaling",
              "speckle contrast of an angle, in c2 = offset + contrast f"),
    Parameter("offset", "offset", "", 1.0, "level", "scaling",
              "baseline of an angle, in c2 = offset + contrast f"),
)  # fmt: skip

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "static": ("diffusion",),
    "laminar_flow": ("diffusion", "shear", "angle"),
    "two_component": ("reference", "sample", "velocity", "fraction", "angle"),
    "static_ref": ("reference",),
    "static_both": ("reference", "sample"),
}
MODEL_NAMES = tuple(_GROUPS)
ALIASES: Mapping[str, str] = {
    "static_isotropic": "static",
    "static_anisotropic": "static",
    "laminar": "laminar_flow",
    "heterodyne": "two_component",
}
PARAMETER_ALIASES: Mapping[str, str] = {
    "gamma_dot_0": "gamma_dot_t0",
    "gamma_dot_offset": "gamma_dot_t_offset",
    "phi_0": "phi0",
    "angle_phi0": "phi0",
    "phi0_het": "phi0",
    "D0_reference": "D0_ref",
    "alpha_reference": "alpha_ref",
    "D_offset_reference": "D_offset_ref",
    "velocity": "v0",
    "v_0": "v0",
    "v_beta": "beta",
    "velocity_offset": "v_offset",
    "fraction_0": "f0",
    "fraction_1": "f1",
    "fraction_2": "f2",
    "fraction_3": "f3",
}


def _in_group(group: str) -> tuple[Parameter, ...]:
    return tuple(parameter for parameter in _TABLE if parameter.group == group)


def parameters_of(model: str) -> tuple[Parameter, ...]:
    """The physical parameters of a model (canonical name) in canonical order."""
    return tuple(parameter for group in _GROUPS[model] for parameter in _in_group(group))


MAY_BE_OWN = ("amplitude", "exponent", "angle")
"""Kinds of parameters that every data set of a joint fit may have of its own; the constant part of a rate goes with its
amplitude, and fractions are one component's share of one sample."""


def own_problem(name: str, model: str, held: Collection[str]) -> str:
    """Why a parameter of a model cannot differ between data sets, with others `held` fixed; empty when it can."""
    try:
        parameter = next(one for one in parameters_of(model) if one.name == parameter_named(name, model))
    except ValueError as error:
        return str(error)
    if parameter.kind not in MAY_BE_OWN:
        allowed = ", ".join(one.name for one in parameters_of(model) if one.kind in MAY_BE_OWN)
        return f"cannot differ between data sets; {allowed} can"
    if parameter.name in held:
        return "is fixed, and free per data set; keep one of the two"
    offsets = [one.name for one in parameters_of(model) if one.kind == "offset" and one.rate == parameter.rate]
    if parameter.kind == "exponent" and not set(offsets) <= set(held):
        return f"can differ between data sets where {offsets[0]} is fixed: no rate may be negative in any of them"
    return ""


def own_parameters(model: str, free: Iterable[str], sets: int) -> tuple[Parameter, ...]:
    """By what data sets 2, 3, … differ from the first, for every parameter that may be, and is, free per set."""
    found: list[Parameter] = []
    for name in free:
        parameter = find_parameter(name, model)
        if parameter is None or parameter.kind not in MAY_BE_OWN:
            continue
        for number in range(2, sets + 1):
            if parameter.kind == "amplitude":
                words = f"ln of {parameter.name} in data set {number} over that in set 1"
                found.append(_own(parameter, number, "ln", "", "log_ratio", words))
            else:
                words = f"{parameter.name} in data set {number} minus that in set 1"
                found.append(_own(parameter, number, "delta", parameter.unit, "difference", words))
    return tuple(found)


def _own(of: Parameter, number: int, start: str, unit: str, kind: ParameterKind, words: str) -> Parameter:
    symbol = f"{start} {of.symbol} {number}"
    return Parameter(f"{start}_{of.name}_{number}", symbol, unit, 0.0, kind, of.group, words)


def scaling_parameters() -> tuple[Parameter, ...]:
    """Contrast and offset, in this order."""
    return _in_group("scaling")


def all_parameter_names() -> tuple[str, ...]:
    """The names of the physical parameters of all models, each once."""
    return tuple(dict.fromkeys(parameter.name for model in MODEL_NAMES for parameter in parameters_of(model)))


def model_named(spelling: object) -> str:
    """The canonical model name of a name or alias; ValueError with a suggestion when there is none."""
    if isinstance(spelling, str):
        name = spelling.strip().lower().replace("-", "_")
        name = ALIASES.get(name, name)
        if name in MODEL_NAMES:
            return name
    hint = suggestion(str(spelling), (*MODEL_NAMES, *ALIASES))
    raise ValueError(f"is not a model ({', '.join(MODEL_NAMES)}){hint}")


def find_parameter(spelling: str, model: str) -> Parameter | None:
    """The parameter of the model with this name or alias, if there is one."""
    name = PARAMETER_ALIASES.get(spelling, spelling)
    return next((parameter for parameter in parameters_of(model) if parameter.name == name), None)


def parameter_named(spelling: str, model: str) -> str:
    """The canonical name of a parameter of the model; ValueError that says what the model has instead."""
    if (found := find_parameter(spelling, model)) is not None:
        return found.name
    name = PARAMETER_ALIASES.get(spelling, spelling)
    names = [parameter.name for parameter in parameters_of(model)]
    if name in {parameter.name for parameter in scaling_parameters()}:
        raise ValueError("is not a physical parameter: contrast and offset belong to the section scaling")
    has = f"is not a parameter of {model} ({', '.join(names)})"
    owners = [other for other in MODEL_NAMES if name in {p.name for p in parameters_of(other)}]
    if owners:
        raise ValueError(f"{has}; {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it")
    raise ValueError(f"{has}{suggestion(spelling, names)}")
