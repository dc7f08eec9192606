"""What a posterior is once it is finished: draws, what they say, and every reason to trust them or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcxpcs.inference.records import CompressionReport, Flags
from hpcxpcs.likelihood.interpolation import Floats

if TYPE_CHECKING:
    from hpcxpcs.inference.certificate import Certificate
    from hpcxpcs.inference.diagnostics import Judgement
    from hpcxpcs.inference.heterogeneity import Heterogeneity
    from hpcxpcs.inference.modes import Modes


@dataclass(frozen=True)
class ParameterSummary:
    """One number per sampled parameter (n,), in its unit; `hdi` (n,2) holds `hdi_probability` of the posterior.

    On the route `consensus`, `r_hat` is the worst of the combined shards and `ess_bulk`, `ess_tail` are those of the
    importance weights; on the route `exact` they are those of the chains. `z` is (mean − point_value)/std.
    """

    mean: Floats
    std: Floats
    median: Floats
    hdi: Floats
    hdi_probability: float
    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    mcse_mean: Floats
    prior_std: Floats
    contraction: Floats
    point_value: Floats
    z: Floats


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
class Posterior:
    """Draws of C chains and S samples in physical values, and the evidence for trusting them.

    `names` (n,) are the free parameters in canonical order, then "noise_scale" if it was sampled; `draws` (C,S,n);
    `contrast` and `offset` (C,S,n_phi); `widening` (n,) says how many times wider the draws are than the likelihood has
    them, because pairs share noise; `log_posterior` (C,S) in nats. `route` is "consensus" or "exact", `verdict`
    "certified", "corrected", "exact" or "rejected", `words` why, in one or two sentences. `settings` are those of the
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
    statistics: SampleStatistics
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
