"""The sections of a configuration that concern the posterior."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hpcxpcs.config.field_types import Number, Section, Whole
from hpcxpcs.config.numbers import read_number, read_whole


def _auto_or_count(value: object) -> Any:
    if value == "auto":
        return value
    count = read_whole(value)
    if count < 1:
        raise ValueError("must be auto or a whole number of at least 1")
    return count


def _auto_or_positive(value: object) -> Any:
    if value == "auto":
        return value
    number = read_number(value)
    if not number > 0.0:
        raise ValueError("must be auto or a number greater than 0")
    return number


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_count)]
NumberOrAuto = Annotated[float | Literal["auto"], BeforeValidator(_auto_or_positive)]


class Sharding(Section):
    """How the pairs of frames are shared out; every shard holds all angles."""

    strategy: Literal["angle_balanced", "random", "contiguous", "stratified"] = Field(
        default="angle_balanced",
        description="angle_balanced: interleaved lattices of frames, so that every shard sees all epochs and lags; "
        "random: by lot; contiguous: blocks of time (late ones lose long lags); stratified: by lag and epoch",
    )
    num_shards: CountOrAuto = Field(
        default="auto",
        description="number of shards; auto takes up to 4, with at least 2000 pairs per free parameter in each",
    )


class PerShardMcmc(Section):
    """NUTS on each shard, and on all data where that is needed."""

    num_warmup: Whole = Field(default=500, ge=50, le=100000, description="steps of warm-up per chain")
    num_samples: Whole = Field(default=1000, ge=50, le=1000000, description="draws per chain after warm-up")
    num_chains: Whole = Field(default=4, ge=2, le=64, description="number of chains")
    target_accept_prob: Number = Field(
        default=0.9, ge=0.6, le=0.999, description="acceptance that the step size is adapted to"
    )
    max_tree_depth: Whole = Field(default=10, ge=3, le=15, description="largest depth of a trajectory's tree")
    seed: Whole = Field(default=42, ge=0, lt=2**31, description="seed of every draw")


class Combination(Section):
    """How shards become one posterior."""

    method: Literal["consensus", "robust"] = Field(
        default="consensus",
        description="consensus: every shard counts in full; robust: the likelihood of a shard that contradicts the "
        "others is raised to a power below 1, for shards, certificate and chains on all data alike (from 3 shards on)",
    )


class Validation(Section):
    """What a run of chains must reach to be accepted."""

    max_r_hat: Number = Field(default=1.01, gt=1, le=1.2, description="largest rank-normalised split R-hat")
    min_ess: Number = Field(default=400, ge=50, description="smallest bulk and tail effective sample size")
    min_bfmi: Number = Field(default=0.2, ge=0, lt=1, description="smallest E-BFMI of any chain")
    max_divergence_rate: Number = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="largest share of divergent draws; beyond it a shard is tried again",
    )
    min_success_rate: Number = Field(
        default=0.9, gt=0, le=1, description="share of shards that must be accepted for a consensus"
    )


class CertificateOptions(Section):
    """The check of the consensus against the likelihood of all data."""

    draws: Whole = Field(default=4000, ge=500, le=1000000, description="number of draws weighed")
    k_hat: NumberOrAuto = Field(
        default="auto", description="largest Pareto k-hat; auto is min(1 - 1/log10(draws), 0.7)"
    )
    on_reject: Literal["exact", "report"] = Field(
        default="exact",
        description="exact: sample all data when the consensus cannot be certified; report: say so and stop",
    )


class CmcOptions(Section):
    """Options of the posterior: Consensus Monte Carlo with NUTS, and its certificate."""

    sharding: Sharding = Field(default_factory=Sharding, description="how the data are shared out")
    anchor: Literal["point_fit", "none"] = Field(
        default="point_fit",
        description="point_fit: each shard knows the others through a Gaussian around the point fit; none: classical "
        "consensus with a share of the prior",
    )
    per_shard_mcmc: PerShardMcmc = Field(default_factory=PerShardMcmc, description="the sampler")
    combination: Combination = Field(default_factory=Combination, description="how shards are combined")
    validation: Validation = Field(default_factory=Validation, description="what chains must reach")
    certificate: CertificateOptions = Field(
        default_factory=CertificateOptions, description="the check against all data"
    )
