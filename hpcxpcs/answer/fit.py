"""What a point fit is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hpcxpcs.answer.joint import JointSets
from hpcxpcs.answer.thresholds import LARGEST_RATIO, NOT_SPECKLE, WHITE
from hpcxpcs.arrays import Flags, Floats


@dataclass(frozen=True)
class PointSettings:
    """Choices of a point fit; the configuration documents each (noise is σ per pair, None = from the data).

    `own` are (parameter, "own" or "hierarchical") that are free per data set of a joint fit.
    """

    scaling: str = "auto"
    fourier_order: int = 2
    contrast: float | None = None
    offset: float | None = None
    noise: float | None = None
    sample_noise_scale: bool = True
    multi_start: int = 8
    cmaes: bool = False
    max_iterations: int = 200
    tolerance: float = 1e-8
    robust: bool = True
    seed: int = 42
    compression_tolerance: float = 0.05
    noise_model: str = "auto"
    photons: float | None = None
    pixels: float | None = None
    own: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StartRecord:
    """One start that was followed: ½χ² on the scouted pairs where it ended, parameters (p,), outcome in words."""

    cost: float
    values: Floats
    status: str


@dataclass(frozen=True)
class SearchReport:
    """What became of the starts; 0 where a fit was stored before this was counted.

    `asked` is the number in the settings; of candidates `screened` by their cost alone the best were `followed` by
    minimisation on the scouted pairs, with those that a model's symmetries add, and ended in `minima` distinct ones.
    """

    asked: int = 0
    screened: int = 0
    followed: int = 0
    minima: int = 0


@dataclass(frozen=True)
class CompressionReport:
    """How the pairs were represented and what that costs in log-likelihood.

    `error` is the standard deviation, `largest_error` the extreme, of the difference in log-likelihood (nats) between
    raw pairs and moments over `checked_points` parameter sets spread over the posterior, using `checked_pairs` pairs.
    `constant` is ln of the mean of exp(raw pairs − moments) over draws of a posterior: NaN where there were none.
    """

    provider: str
    cells: int
    nodes: int
    pairs: int
    error: float
    largest_error: float
    tolerance: float
    checked_pairs: int
    checked_points: int
    rounds: int
    constant: float = np.nan

    @property
    def within_tolerance(self) -> bool:
        """Whether the error is no larger than was allowed."""
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class ScalingEstimate:
    """Contrast and offset of every angle (n_phi,) with standard errors; widths are the learned spreads."""

    mode: str
    contrast: Floats
    offset: Floats
    contrast_uncertainty: Floats
    offset_uncertainty: Floats
    robust_contrast_uncertainty: Floats | None
    robust_offset_uncertainty: Floats | None
    widths: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Alternative:
    """The fit with one of two degenerate parameters held at 0: values and standard errors (p,), NaN where held.

    `change` is its χ² minus that of the fit with both. Of a weighed fit without a parameter that the data clearly need,
    values are where the likelihood around the fit with both leads, and χ² is that of all squares there.
    """

    pair: tuple[str, str]
    correlation: float
    held: str
    values: Floats
    uncertainty: Floats
    change: float


@dataclass(frozen=True)
class Exchange:
    """The solution in which the two components have each other's names, and what decided against it.

    `decided_by` is data, order, priors or settings (fixed values and bounds); `difference` is its χ² minus that of the
    quoted solution in units of the noise (∞: there is none), `values` (p,) its parameters, `indifferent` says that the
    data do not tell the two apart.
    """

    decided_by: str
    difference: float
    values: Floats
    indifferent: bool
    words: str


@dataclass(frozen=True)
class NoiseParts:
    """Variances per angle (n_phi,): of pairs each on its own, of pairs with a common frame, and smooth.

    `smooth_ratio` is the smooth part over what the other two imply (shared²/white): `measured_ratio`, as sure as that
    many `products` of eigenvectors make it, all angles together, drawn towards 1 where these are few; above 1 speckles
    are larger than a pixel. `photons` (n_phi,) are n̄, from the diagonal, the configuration or the noise
    (`photons_from`), and `pixels` (n_phi,) the P that follows, NaN where there is no sign of speckle; `counted_photons`
    and `counted_pixels` (n_phi,) what the file says of them, empty where it does not. `variance` (n_phi,) is that of a
    residual, all parts together, and `expected_chi_squared` the reduced χ² that follows for the σ of the fit, which
    leaves out what is smooth (1 where the residuals may be a misfit). `errors_from` says whether robust errors rest on
    "speckle", or on scores clustered by "frames" or "angles", `seen` by how many standard deviations shared noise
    shows.

    `model` says for which noise the fit is best: "independent", or "speckle" (then of squares of `width` frames);
    `why` why not for speckle. `levels` (3,) are the variances of whitened residuals over those expected, where noise is
    mostly smooth, shared and independent; `spectrum` (3, bins) has, by expected variance over white, that found over
    that expected and the number of elements. `alone` and `alone_robust` (p,) are the errors, as if independent and
    robust, of the fit for independent noise.
    """

    white: Floats
    shared: Floats
    smooth: Floats
    smooth_ratio: float
    measured_ratio: float
    products: float
    photons: Floats
    pixels: Floats
    variance: Floats
    expected_chi_squared: float = 1.0
    errors_from: str = "speckle"
    model: str = "independent"
    why: str = ""
    photons_from: str = "noise"
    seen: float = 0.0
    width: int = 1
    levels: Floats = field(default_factory=lambda: np.full(3, np.nan))
    spectrum: Floats = field(default_factory=lambda: np.zeros((3, 0)))
    alone: Floats = field(default_factory=lambda: np.zeros(0))
    alone_robust: Floats = field(default_factory=lambda: np.zeros(0))
    counted_photons: Floats = field(default_factory=lambda: np.zeros(0))
    counted_pixels: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def is_white(self) -> bool:
        """Whether the whitened residuals have the variances that the noise of speckles lets expect."""
        found = self.levels[np.isfinite(self.levels)]
        return bool(found.size and np.all((found > WHITE[0]) & (found < WHITE[1])))

    @property
    def like_speckle(self) -> bool:
        """Whether the smooth part is not too small for the shared one."""
        return bool((1.0 - self.measured_ratio) * np.sqrt(0.5 * self.products) < NOT_SPECKLE)

    @property
    def explains_residuals(self) -> bool:
        """Whether what the residuals share is noise of speckles, as far as one can tell, and not a misfit."""
        return self._shared_like_speckle and self.measured_ratio < LARGEST_RATIO

    @property
    def may_be_speckle(self) -> bool:
        """Whether the smooth part is not larger than that of speckles by more than it is unsure of."""
        unsure = NOT_SPECKLE * np.sqrt(2.0 / max(self.products, 1e-3))
        return self._shared_like_speckle and bool(self.measured_ratio < LARGEST_RATIO * (1.0 + unsure))

    @property
    def _shared_like_speckle(self) -> bool:
        return self.errors_from == "speckle" and bool(np.any(self.shared > 0.0))


@dataclass(frozen=True)
class Asymmetry:
    """95 % intervals (f, 2) of the free parameters from the fit coordinates, which of them are lopsided (f,), and
    whether even the fit coordinates see no parabola."""

    intervals: Floats
    lopsided: np.ndarray
    curved: bool

    def widened(self, centre: Floats, factor: Floats) -> Asymmetry:
        """The same with intervals stretched about centre (f,) by factor (f,): robust over model-based errors."""
        return replace(self, intervals=centre[:, None] + (self.intervals - centre[:, None]) * factor[:, None])


@dataclass(frozen=True)
class PointFit:
    """Estimate, errors and the evidence for trusting them; arrays over parameters are (p,) in canonical order.

    `covariance` belongs to `covariance_names`: the free parameters, then contrast[a] and offset[a] of every angle.
    Uncertainties are NaN for parameters that are fixed or at a bound. `priors` and `origins` (where min, max and prior
    come from: configuration, data or table) are by name; `data_scale` is what those from the data follow from.
    `rested` are constant parts of rates held at 0 because the data do not tell them from the rest.
    `mirrored` says that a flow of another direction fits as well (empty: none does). `exchange` is None for models of
    one component, `noise` without robust errors and where the data bring errors of their own. `noise_freedom` are the
    degrees of freedom that σ rests on, ∞ where it was given. `joint` are the data sets of a joint fit.
    """

    model: str
    conventions: dict[str, str]
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Floats
    free: Flags
    lower: Floats
    upper: Floats
    priors: dict[str, dict[str, str | float]]
    origins: dict[str, dict[str, str]]
    data_scale: dict[str, float]
    at_bound: Flags
    uncertainty: Floats
    robust_uncertainty: Floats | None
    scaling: ScalingEstimate
    covariance: Floats
    covariance_names: tuple[str, ...]
    robust_covariance: Floats | None
    sigma: Floats
    sigma_source: str
    noise_scale: float
    chi_squared: float
    degrees_of_freedom: float
    chi_squared_per_angle: Floats
    pairs: Floats
    status: str
    message: str
    iterations: int
    evaluations: int
    seconds: float
    recovery_actions: tuple[str, ...]
    starts: tuple[StartRecord, ...]
    flags: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    rested: tuple[str, ...]
    mirrored: str
    gradient_balance: dict[str, float]
    condition_number: float
    compression: CompressionReport
    timings: dict[str, float]
    search: SearchReport = SearchReport()
    exchange: Exchange | None = None
    noise: NoiseParts | None = None
    noise_freedom: float = np.inf
    joint: JointSets | None = None

    @property
    def reduced_chi_squared(self) -> float:
        """χ² per degree of freedom."""
        return self.chi_squared / max(self.degrees_of_freedom, 1.0)

    def place(self, name: str) -> int | None:
        """Where a parameter is among all of them, None for one that the model does not have."""
        return self.names.index(name) if name in self.names else None

    @property
    def free_names(self) -> tuple[str, ...]:
        """The parameters that were fitted."""
        return self.covariance_names[: int(np.count_nonzero(self.free))]

    @property
    def ok(self) -> bool:
        """Whether the fit converged inside its bounds."""
        return self.status.startswith("converged")
