"""Bounds, priors and starts from the data's own scale: what these frames at this q can show at all.

A rate is seen by what its integral does: as a decay exponent q²·∫J dt, or as a phase ½·q·L·∫γ̇ dt or q·∫v dt. Below
FAINTEST over the whole window nothing has happened when the measurement ends; above FASTEST within one frame all is
over before the second one. Between the two, a factor of a million and more with a thousand frames, any
laboratory's rate may lie. An amplitude is stated at t = 1 s, which may be far from the data's times: its range is that
of the rate at the middle of the window, times t_ref^(−p) for every exponent p that is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hpcxpcs.config.parameters import Parameter
from hpcxpcs.config.prior import Prior

FAINTEST: Mapping[str, float] = {"decay": 1e-3, "phase": 1e-2}
"""Smallest change over the window that counts. With 10⁷ pairs of noise 0.01 at contrast 0.15 a decay exponent of
10⁻³ is 7 standard errors; a phase enters squared (1 − X²/3), so 10⁻² is fainter than that."""

FASTEST: Mapping[str, float] = {"decay": 30.0, "phase": 100.0}
"""Largest change within one frame that counts. exp(−30) is nothing at any contrast; a phase is seen through its cosine
with the angle, which is 0.05 and less within 3 degrees of the vorticity direction."""

EXPONENTS: Mapping[str, float] = {"reference_transport": 5.0, "sample_transport": 5.0}
"""Largest exponent of a rate where it is not 2: published two-component packages allow 5."""

PERIOD = 180.0
"""Degrees: a flow and its reverse look alike, because shapes depend on the square or the cosine of the phase."""

ANGLE_REACH = 135.0
"""Default bounds of phi0 in degrees: one period and 45 degrees on either side, so that no direction lies at a bound."""

OFFSET_REACH, OFFSET_SPREAD = 10.0, 2.0
"""Bounds and prior width of the constant part of a rate, in units of the rate. A rate that is nowhere negative has a
constant part below itself; with a negative one of ten times the rate, both parts agree to a tenth, and what comes of
A·t^p − B as they grow further is a logarithm of time, not a power law with a constant."""

GROWTH_REACH = 100.0
"""Largest growth of the logarithm of the sample fraction over the window: a change within one frame of a hundred."""


LOG_RATIO_REACH = math.log(1000.0)
"""Largest logarithm of the ratio of a rate in two data sets that are fitted together: beyond a factor of a thousand one
of them shows nothing where the other shows all. Its prior, a factor e either way, is wide next to what data tell."""

DIFFERENCE, DIFFERENCE_OF_ANGLES = (2.0, 0.5), (90.0, 30.0)
"""Largest difference between two data sets, and width of its prior, of an exponent and of a direction in degrees."""


@dataclass(frozen=True)
class DataScale:
    """q (1/Å), gap (Å), time between frames (s), and the first and last time (s) that enter the likelihood."""

    q: float
    gap: float
    dt: float
    first: float
    last: float

    @property
    def window(self) -> float:
        """Duration (s) of the data."""
        return self.last - self.first

    @property
    def reference(self) -> float:
        """Geometric middle (s) of the time range, where value and slope of a rate are least correlated."""
        return math.sqrt(self.first * self.last)

    def factor(self, rate: str) -> float:
        """What turns the integral of a rate into a decay exponent (q²) or a phase (½qL for shear, q for velocity)."""
        if rate == "shear_rate":
            return 0.5 * self.q * self.gap
        return self.q if rate == "velocity" else self.q**2

    def visible(self, rate: str) -> tuple[float, float]:
        """Smallest and largest value that a rate can have in the middle of the window and be seen."""
        kind = "phase" if rate in ("shear_rate", "velocity") else "decay"
        factor = self.factor(rate)
        return FAINTEST[kind] / (factor * self.window), FASTEST[kind] / (factor * self.dt)

    def record(self) -> dict[str, float]:
        """The scale as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Extent:
    """Bounds and prior of a parameter in its unit."""

    lower: float
    upper: float
    prior: Prior


@dataclass(frozen=True)
class Exponent:
    """What is allowed and believed of the exponent of a rate: its interval, and centre and width of its prior."""

    lower: float
    upper: float
    centre: float
    width: float


def extent_of(parameter: Parameter, scale: DataScale, exponent: Exponent | None = None) -> Extent:
    """Default bounds and prior of a parameter; an amplitude needs the exponent of its rate."""
    if parameter.kind == "amplitude":
        if exponent is None:
            raise ValueError(f"the range of {parameter.name} depends on the exponent of its rate")
        return _amplitude(scale, parameter.rate, exponent)
    if parameter.kind == "offset":
        return offset_within(math.inf, scale.visible(parameter.rate)[1])
    if parameter.kind == "growth":
        fastest = GROWTH_REACH / scale.window
        return Extent(-fastest, fastest, _normal(0.0, 0.5 * fastest))
    if parameter.kind == "instant":
        earliest, latest = scale.first - scale.window, scale.last + scale.window
        return Extent(earliest, latest, _normal(0.5 * (earliest + latest), scale.window))
    return dimensionless(parameter)


def offset_within(rate: float, fastest: float) -> Extent:
    """Bounds and prior of the constant part of a rate whose size is known, at most those of any that can be seen."""
    reach, spread = min(OFFSET_REACH * rate, fastest), min(OFFSET_SPREAD * rate, 0.5 * fastest)
    return Extent(-reach, reach, _normal(0.0, spread))


def dimensionless(parameter: Parameter) -> Extent:
    """Default bounds and prior of what has the same meaning in every laboratory: exponents, fractions, angles."""
    if parameter.kind == "exponent":
        reach = EXPONENTS.get(parameter.rate, 2.0)
        return Extent(-reach, reach, _normal(0.0, 1.0))
    if parameter.kind == "fraction":
        return Extent(0.0, 1.0, Prior("uniform"))
    if parameter.kind == "angle":
        return Extent(-ANGLE_REACH, ANGLE_REACH, Prior("uniform"))
    if parameter.kind == "log_ratio":
        return Extent(-LOG_RATIO_REACH, LOG_RATIO_REACH, _normal(0.0, 1.0))
    if parameter.kind == "difference":
        reach, spread = DIFFERENCE_OF_ANGLES if parameter.unit == "degree" else DIFFERENCE
        return Extent(-reach, reach, _normal(0.0, spread))
    raise ValueError(f"the range of {parameter.name} depends on the data")


def needs_data(parameter: Parameter) -> bool:
    """Whether default bounds and prior of a parameter come from the data."""
    return parameter.kind in ("amplitude", "offset", "growth", "instant")


def _amplitude(scale: DataScale, rate: str, exponent: Exponent) -> Extent:
    """Bounds: the visible rates, carried to t = 1 s with every exponent. Prior: lognormal; a rate in the middle of the
    window whose logarithm covers the visible range with two standard deviations, carried to t = 1 s with an
    exponent of its prior, so that it says nothing about the exponent that the exponent's own prior does not."""
    slowest, fastest = scale.visible(rate)
    log_t = math.log(scale.reference)
    carried = [math.exp(-p * log_t) for p in (exponent.lower, exponent.upper)]
    centre = 0.5 * math.log(slowest * fastest) - exponent.centre * log_t
    spread = math.hypot(0.25 * math.log(fastest / slowest), exponent.width * log_t)
    return Extent(slowest * min(carried), fastest * max(carried), _lognormal(math.exp(centre), spread))


def _normal(mu: float, sigma: float) -> Prior:
    return Prior("truncated_normal", (("mu", mu), ("sigma", sigma)))


def _lognormal(median: float, sigma: float) -> Prior:
    return Prior("lognormal", (("median", median), ("sigma", sigma)))
