"""What is possible but hardly meant: one table of ranges for settings, start values, bounds and fitted values.

What is impossible is refused by the sections of the configuration. Nothing here stops a run: callers decide what to
tell. What is fast or slow depends on the data: rates are judged where their scale is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcxpcs.config.parameters import MODEL_NAMES, parameters_of
from hpcxpcs.config.problems import KeyPath, dotted
from hpcxpcs.config.resolve import ParameterChoice, ResolvedParameter, parameter_choices
from hpcxpcs.config.scale import DataScale, Exponent, dimensionless, extent_of, needs_data
from hpcxpcs.config.schema import Config

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Most severe first."""


@dataclass(frozen=True)
class Range:
    """Values from low to high are usual; `below` and `above` say what others mean; None tells nothing.

    `positive`: low itself is not usual.
    """

    low: float
    high: float
    unit: str
    below: str | None = None
    above: str | None = None
    severity: Severity = "warning"
    positive: bool = False

    def words(self, value: float) -> str | None:
        """What a value means when it is outside."""
        if value < self.low or (self.positive and value == self.low):
            return self.below
        return self.above if value > self.high else None


@dataclass(frozen=True)
class Remark:
    """One thing worth a look: `subject` is a key or a parameter."""

    severity: Severity
    subject: str
    value: float
    text: str

    def __str__(self) -> str:
        """Return the remark as a sentence."""
        return f"{self.subject} = {self.value:g}: {self.text}"


@dataclass(frozen=True)
class Plausibility:
    """All remarks, most severe first."""

    remarks: tuple[Remark, ...]

    def of(self, severity: Severity) -> tuple[str, ...]:
        """The remarks of one severity as sentences."""
        return tuple(str(remark) for remark in self.remarks if remark.severity == severity)

    def at_least(self, severity: Severity) -> tuple[str, ...]:
        """The remarks of this severity and worse as sentences."""
        return tuple(text for one in SEVERITIES[: SEVERITIES.index(severity) + 1] for text in self.of(one))


_INF = math.inf
_NO_NUMBER = "is no finite number"
_FROZEN = "there is no diffusion at or below 0"
_STEEP = "the coefficient changes this steeply only in a transient; is the time origin right?"
_RISING = "faster than ballistic motion (1); is the sample driven?"

_D0 = Range(0.0, _INF, "Å²/s^(1+alpha)", _FROZEN, positive=True)
_ALPHA = Range(-1.5, 1.0, "", _STEEP, _RISING)
_D_OFFSET = Range(0.0, _INF, "Å²/s", "a negative constant part slows down what the other part does", None, "info")

PARAMETER_RANGES: Mapping[str, tuple[Range, ...]] = {
    **dict.fromkeys(("D0", "D0_ref", "D0_sample"), (_D0,)),
    **dict.fromkeys(("alpha", "alpha_ref", "alpha_sample"), (_ALPHA,)),
    **dict.fromkeys(("D_offset", "D_offset_ref", "D_offset_sample"), (_D_OFFSET,)),
    "gamma_dot_t0": (
        Range(0.0, _INF, "1/s^(1+beta)", "a negative rate only turns the flow round; its sign is not seen"),
    ),
    "beta": (Range(-2.0, 2.0, "", "only a transient is this steep", "flow hardly accelerates like this"),),
    "v0": (
        Range(0.0, _INF, "Å/s^(1+beta)", "a negative velocity only turns the flow round; its sign is not seen"),
    ),
    "f0": (Range(0.0, 1.0, "", "a fraction is not negative", "a fraction is at most 1"),),
    "f3": (Range(0.0, 1.0, "", "a fraction is not negative", "a fraction is at most 1"),),
    "phi0": (Range(-360.0, 360.0, "degree", "more than a full turn", "more than a full turn"),),
    "contrast": (
        Range(0.0, 1.0, "", "a contrast is not negative", "a contrast is at most 1"),
        Range(0.1, _INF, "", "a weak contrast: error bars follow it", None, "info"),
    ),
    "offset": (Range(0.5, 1.5, "", "c2 should level off at 1", "c2 should level off at 1"),),
}  # fmt: skip

SETTING_RANGES: Mapping[KeyPath, Range] = {
    ("analyzer_parameters", "scattering", "wavevector_q"): Range(
        1e-4,
        1.0,
        "1/Å",
        "smaller than XPCS reaches; is it in 1/nm or 1/m?",
        "larger than XPCS reaches; is it in 1/nm?",
    ),
    ("analyzer_parameters", "dt"): Range(
        1e-6,
        1e3,
        "s",
        "shorter than frames of a detector; is it in s?",
        "longer than frames last; is it in s?",
    ),
    ("data_filtering", "q_tolerance"): Range(0.0, 0.5, "", None, "bins far from wavevector_q count as it"),
}
GAP = Range(1e5, 1e8, "Å", "less than 0.01 mm; is it in Å?", "more than 10 mm; is it in Å?")
TOO_FEW_FRAMES = 8
"""Windows of up to so many frames are refused when the data are read."""
FEWEST_FRAMES = Range(16, _INF, "frames", "few lags to tell a rate from a plateau")


@dataclass(frozen=True)
class _Together:
    """A condition on two parameters: `holds` says that there is something to tell about the first."""

    names: tuple[str, str]
    holds: Callable[[float, float], bool]
    text: str
    severity: Severity


_TOGETHER = (
    _Together(("f0", "f3"), lambda f0, f3: f0 + f3 > 1.0, "f0 + f3 is above 1: the fraction is cut at 1", "warning"),
    *(
        _Together((f"D_offset{part}", f"D0{part}"), lambda constant, d0: constant > 0.5 * abs(d0) > 0.0,
                  "more than half of D0: the two are hard to tell apart", "info")
        for part in ("", "_ref", "_sample")
    ),
)  # fmt: skip


def check_values(
    values: Mapping[str, float],
    errors: Mapping[str, float] | None = None,
    scale: DataScale | None = None,
) -> Plausibility:
    """Judge parameter values by name; with standard errors, only what is outside by more than three of them.

    With the scale of the data, also what of it these can show.
    """
    found = list(_about_values(values, errors or {}))
    if scale is not None:
        found += _against(scale, values, errors or {})
    return _by_severity(found)


PHYSICAL = 3.0
"""Standard errors by which a fitted value may be outside of its range without a word."""


def _about_values(values: Mapping[str, float], errors: Mapping[str, float]) -> Iterator[Remark]:
    for name, value in values.items():
        if not math.isfinite(value):
            yield Remark("error", name, value, _NO_NUMBER)
            continue
        error = errors.get(name, 0.0)
        reach = PHYSICAL * error if math.isfinite(error) else _INF
        for allowed in PARAMETER_RANGES.get(name, ()):
            nearest = min(max(value, allowed.low), allowed.high)
            words = allowed.words(value) if abs(value - nearest) > reach or reach == 0.0 else None
            if words is not None:
                yield Remark(allowed.severity, name, value, f"{words}{_usual(allowed)}")
    for pair in _TOGETHER:
        first, second = (values.get(name, math.nan) for name in pair.names)
        if pair.holds(first, second) and not errors:
            yield Remark(pair.severity, pair.names[0], first, pair.text)


def _usual(allowed: Range) -> str:
    """The range in words, a side without an end left out."""
    unit = f" {allowed.unit}" if allowed.unit else ""
    if math.isinf(allowed.high):
        return f" (usual: {allowed.low:g}{unit} and more)"
    return f" (usual: {allowed.low:g} … {allowed.high:g}{unit})"


def _against(scale: DataScale, values: Mapping[str, float], errors: Mapping[str, float]) -> Iterator[Remark]:
    """Remarks on rates (by their amplitudes), growth and instants that data of this scale cannot show."""
    table = {p.name: p for model in MODEL_NAMES for p in parameters_of(model) if p.name in values}
    exponents = {p.rate: values[p.name] for p in table.values() if p.kind == "exponent"}
    if "v0" in values and "beta" in values:
        exponents["velocity"] = values["beta"]
    for name, parameter in table.items():
        value = values[name]
        if parameter.kind == "amplitude" and value > 0.0:
            slowest, fastest = scale.visible(parameter.rate)
            power = scale.reference ** exponents.get(parameter.rate, 0.0)
            reach = PHYSICAL * errors.get(name, 0.0) * power
            range_ = f"these data show {slowest / power:.3g} … {fastest / power:.3g} {parameter.unit}"
            if value * power - reach > fastest:
                yield Remark("warning", name, value, f"all is over within one frame ({range_})")
            elif value * power + reach < slowest:
                yield Remark("info", name, value, f"hardly anything happens in the window ({range_})")
        elif parameter.kind in ("growth", "instant"):
            usual = extent_of(parameter, scale)
            if not usual.lower <= value <= usual.upper:
                text = f"far outside of these data (usual: {usual.lower:.3g} … {usual.upper:.3g} {parameter.unit})"
                yield Remark("warning", name, value, text)


def check_parameters(parameters: Sequence[ResolvedParameter], scale: DataScale) -> Plausibility:
    """Judge starts, fixed values and bounds of a configuration by the scale of its data."""
    given = {item.parameter.name: item.start for item in parameters if item.start is not None}
    found = [*_against(scale, given, {})]
    rates = {item.parameter.rate: item for item in parameters if item.parameter.kind == "exponent"}
    for item in parameters:
        name, parameter = item.parameter.name, item.parameter
        if parameter.kind != "amplitude" or item.fixed is not None or not {"min", "max"} & set(item.given):
            continue
        exponent = rates[parameter.rate]
        low, high = (exponent.lower, exponent.upper) if exponent.fixed is None else (exponent.fixed,) * 2
        usual = extent_of(parameter, scale, Exponent(low, high, low, 0.0))
        shown = f"(these data show {usual.lower:.3g} … {usual.upper:.3g} {parameter.unit})"
        if item.upper < usual.lower:
            text = f"nothing is seen below it {shown}"
            found.append(Remark("warning", f"upper bound of {name}", item.upper, text))
        if item.lower > usual.upper:
            text = f"nothing is seen above it {shown}"
            found.append(Remark("warning", f"lower bound of {name}", item.lower, text))
    return Plausibility(tuple(found))


def check_config(config: Config) -> Plausibility:
    """Judge what a configuration asks for, whatever the data: settings, start and fixed values, bounds."""
    parameters = parameter_choices(config)
    found = [*_about_settings(config), *_about_angles(config)]
    given = {item.parameter.name: item.start for item in parameters if item.start is not None}
    if config.scaling.constant is not None:
        given |= {"contrast": config.scaling.constant.contrast, "offset": config.scaling.constant.offset}
    held = {item.parameter.name for item in parameters if item.fixed is not None} | {"contrast", "offset"}
    for item in parameters:
        if item.fixed == 0 and item.parameter.zero_when_fixed:
            del given[item.parameter.name]
    for remark in check_values(given).remarks:
        kind = "fixed value" if remark.subject in held else "start value"
        found.append(Remark(remark.severity, f"{kind} of {remark.subject}", remark.value, remark.text))
    for item in parameters:
        if item.fixed is None:
            found += _about_bounds(item)
    return _by_severity(found)


def _by_severity(remarks: Iterable[Remark]) -> Plausibility:
    return Plausibility(tuple(sorted(remarks, key=lambda remark: SEVERITIES.index(remark.severity))))


def _about_settings(config: Config) -> Iterator[Remark]:
    ranges = dict(SETTING_RANGES)
    if config.analysis_mode == "laminar_flow":
        ranges["analyzer_parameters", "geometry", "stator_rotor_gap"] = GAP
    for path, allowed in ranges.items():
        value: object = config
        for part in path:
            value = getattr(value, str(part))
        words = allowed.words(value) if isinstance(value, int | float) else None
        if words is not None and isinstance(value, int | float):
            yield Remark(allowed.severity, dotted(path), float(value), f"{words}{_usual(allowed)}")
    frames = config.analyzer_parameters.end_frame - config.analyzer_parameters.start_frame + 1
    if TOO_FEW_FRAMES < frames < FEWEST_FRAMES.low:
        words = f"{FEWEST_FRAMES.below}{_usual(FEWEST_FRAMES)}"
        yield Remark("warning", "frames from start_frame to end_frame", frames, words)


def _about_angles(config: Config) -> Iterator[Remark]:
    for index, allowed in enumerate(config.data_filtering.phi_ranges):
        subject, width = f"data_filtering.phi_ranges[{index}]: max - min", allowed.max - allowed.min
        if width == 0:
            yield Remark("warning", subject, width, "only this very angle is selected; give a range around it")
        elif width > 360:
            yield Remark("info", subject, width, "more than a full turn selects every angle")


def _about_bounds(item: ParameterChoice) -> Iterator[Remark]:
    """Bounds that the configuration states beyond what is usual, and beyond those that any fit has without them."""
    name = item.parameter.name
    table = None if needs_data(item.parameter) else dimensionless(item.parameter)
    for allowed in PARAMETER_RANGES.get(name, ()):
        if allowed.severity != "warning":
            continue
        low = allowed.low if table is None else min(allowed.low, table.lower)
        high = allowed.high if table is None else max(allowed.high, table.upper)
        if allowed.above and "max" in item.given and item.upper is not None and item.upper > high:
            text = f"{allowed.above}{_usual(allowed)}"
            yield Remark("warning", f"upper bound of {name}", item.upper, text)
        if allowed.below and "min" in item.given and item.lower is not None and item.lower < low:
            text = f"{allowed.below}{_usual(allowed)}"
            yield Remark("warning", f"lower bound of {name}", item.lower, text)
