"""What a posterior is once it is finished: draws, what they say, and every reason to trust them or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import CompressionReport
from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.arrays import Flags, Floats


@dataclass(frozen=True)
class Marginals:
    """Mean, standard deviation and median (m,) of m quantities; hdi (m,2) is the narrowest interval."""

    mean: Floats
    std: Floats
    median: Floats
    hdi: Floats


def marginals(draws: Floats, probability: float) -> Marginals:
    """What draws (C,S,m) say about each of m quantities; the interval holds `probability` of them."""
    from arviz_stats.base.array import array_stats

    flat = np.asarray(draws, dtype=float).reshape(-1, np.shape(draws)[-1])
    return Marginals(
        mean=flat.mean(axis=0),
        std=flat.std(axis=0, ddof=1),
        median=np.median(flat, axis=0),
        hdi=np.asarray(array_stats.hdi(flat, prob=probability, axis=0)),
    )


@dataclass(frozen=True)
class ParameterSummary(Marginals):
    """One number per sampled parameter (n,), in its unit; `hdi` (n,2) holds `hdi_probability` of the posterior.

    On the route `consensus`, `r_hat` is the worst of the combined shards and `ess_bulk`, `ess_tail` are those of the
    importance weights; on the route `importance` so are these, and `r_hat` is NaN; on the route `exact` they are those
    of the chains. `z` is (mean − point_value)/std.
    """

    hdi_probability: float
    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    mcse_mean: Floats
    prior_std: Floats
    contraction: Floats
    point_value: Floats
    z: Floats

    @property
    def fewest_effective(self) -> float:
        """Effective draws that every number rests on, in the tails too."""
        return float(min(np.min(self.ess_bulk), np.min(self.ess_tail)))


@dataclass(frozen=True)
class SampleStatistics:
    """One real run of c chains and s draws, named by `label` ("shard 3" or "exact"), as the sampler recorded it.

    `draws` (c,s,n) are physical values in the order of the posterior's names: what traces and ranks are drawn from,
    as combined draws have none. `energy` (nats), `acceptance`, `num_steps` and `diverging` are (c,s); `bfmi` and
    `step_size` are (c,).
    """

    label: str
    draws: Floats
    energy: Floats
    acceptance: Floats
    num_steps: Floats
    diverging: Flags
    bfmi: Floats
    step_size: Floats

    @property
    def divergences(self) -> int:
        """Number of divergent draws."""
        return int(np.count_nonzero(self.diverging))


@dataclass(frozen=True)
class ShardRecord:
    """How one shard was sampled: worst r_hat and ess over its parameters, lowest bfmi over its chains.

    `weight` is the power of its likelihood in the posterior, below 1 where a robust one found that it contradicts the
    others; `distance` is how many standard deviations it lies from them, None unless it contradicts.

    `mean` and `std` (n,) are of the shard's own draws in physical values; `reasons` say why it was not accepted.
    """

    index: int
    pairs: int
    weight: float
    distance: float | None
    accepted: bool
    reasons: tuple[str, ...]
    r_hat: float
    ess: float
    divergences: int
    bfmi: float
    mean: Floats
    std: Floats
    attempts: int
    gradients: int
    seconds: float


@dataclass(frozen=True)
class Mixing:
    """How chains mixed, per parameter (d,): rank-normalised split R-hat, effective draws, Monte Carlo errors.

    The errors are of the mean and of the standard deviation, in the units of the parameter.
    """

    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    mcse_mean: Floats
    mcse_sd: Floats


@dataclass(frozen=True)
class Finding:
    """One diagnostic beyond its threshold: for one parameter, or for the run (None), and what to do about it."""

    name: str
    value: float
    threshold: float
    parameter: str | None
    recommendation: str


@dataclass(frozen=True)
class Judgement:
    """Whether all diagnostics pass; `failed` ones count, `remarks` are worth knowing and do not."""

    passed: bool
    failed: tuple[Finding, ...]
    remarks: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Modes:
    """`count` separate peaks (1 or 2) and the mixture that describes the draws best, of c = 1 or 2 normals.

    `weights` (c,), `means` (c,d), `covariances` (c,d,d); a skewed single peak has c = 2 and count = 1. `delta_bic` > 0
    speaks for two normals.
    """

    count: int
    weights: Floats
    means: Floats
    covariances: Floats
    delta_bic: float
    words: str


@dataclass(frozen=True)
class Round:
    """One weighing: Pareto shape, effective draws, and draws at which the log-posterior was not finite."""

    k_hat: float
    ess: float
    nonfinite: int


@dataclass(frozen=True)
class Certificate:
    """Verdict on a consensus of d coordinates (or a proposal alone), and `draws` (S,d) of the full-data posterior.

    `word` is "certified" (the consensus was right), "corrected" (it was off, the draws are right), "thin" (right, but
    fewer than 400 effective draws) or "rejected" (k_hat above its limit: the draws are no posterior). `mean_shift` (d,)
    is corrected mean − consensus mean in corrected standard deviations, `sd_ratio` (d,) corrected over consensus
    standard deviation; `parameter_ess` (d,) is that of each coordinate's mean. `log_posterior` (S,) in nats; `distinct`
    counts different draws; `rounds` hold every weighing: the verdict is about the best of them. `log_integral` is ln of
    the integral of the density over these coordinates, with its Monte Carlo error (nats). `notes` say in words what was
    limited or left out when shards were combined.
    """

    word: str
    reason: str
    k_hat: float
    limit: float
    ess: float
    parameter_ess: Floats
    mean_shift: Floats
    sd_ratio: Floats
    draws: Floats
    log_posterior: Floats
    distinct: int
    nonfinite: int
    evaluations: int
    rounds: tuple[Round, ...]
    log_integral: float
    log_integral_error: float
    notes: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the draws may be used as the full-data posterior."""
        return self.word in ("certified", "corrected")


@dataclass(frozen=True)
class Evidence:
    """ln of the evidence and its Monte Carlo error (nats), None where there is none; `words` say what holds or why not.

    Compared with that of other models of the same data, by its difference, it says which the data speak for.
    """

    value: float | None
    error: float | None
    words: str


@dataclass(frozen=True)
class Posterior:
    """Draws of C chains and S samples in physical values, and the evidence for trusting them.

    `names` (n,) are the free parameters in canonical order, then "noise_scale" if it was sampled; `draws` (C,S,n);
    `contrast` and `offset` (C,S,n_phi); `widening` (n,) says how many times wider the draws are than the likelihood has
    them, because pairs share noise; `log_posterior` (C,S) in nats. `route` is "consensus", "importance" or "exact",
    `verdict` "certified", "corrected", "exact" or "rejected", `words` why, in one or two sentences. `statistics` is
    None on the route `importance`, where draws are independent and nothing was run. `settings` are those of the
    sampler: method, warmup, strategy, anchor, combination, target_acceptance, and `thresholds` (max_r_hat, min_ess,
    min_bfmi, max_divergence_rate), each where it applies; `timings` are seconds.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    draws: Floats
    contrast: Floats
    offset: Floats
    widening: Floats
    log_posterior: Floats
    route: str
    verdict: str
    words: str
    summary: ParameterSummary
    statistics: SampleStatistics | None
    shards: tuple[ShardRecord, ...]
    heterogeneity: Heterogeneity | None
    modes: Modes
    certificate: Certificate | None
    compression: CompressionReport
    judgement: Judgement
    recommendations: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    timings: Mapping[str, float]
    seed: int
    chains: int
    samples: int
    evidence: Evidence | None = None

    @property
    def log_evidence(self) -> float | None:
        """ln of the evidence (nats); None where it does not hold."""
        return None if self.evidence is None else self.evidence.value

    @property
    def log_evidence_error(self) -> float | None:
        """Its Monte Carlo error (nats)."""
        return None if self.evidence is None else self.evidence.error

    def scaling_marginals(self) -> dict[str, Marginals]:
        """What the draws say about contrast and offset of every angle."""
        parts = {"contrast": self.contrast, "offset": self.offset}
        return {name: marginals(draws, self.summary.hdi_probability) for name, draws in parts.items()}

    @property
    def method(self) -> str:
        """How it was to be sampled: cmc (shards), importance or exact."""
        return str(self.settings.get("method", "cmc"))
