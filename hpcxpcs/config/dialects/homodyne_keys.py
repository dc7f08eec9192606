"""What becomes of every key of a homodyne configuration: its three templates, and what it reads beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcxpcs.config.dialects.common_keys import COMMON, GOES_THROUGH, MACHINE, NOTHING_READ_IT, SEARCH
from hpcxpcs.config.dialects.rules import KEPT, Rule, among, dropped, each, renamed, replaced

_NLSQ, _CMC = "optimization.nlsq", "optimization.cmc"
_SAMPLER = f"{_CMC}.per_shard_mcmc"
_SCALING = "scaling.mode"
_RESUMES = dropped("every run saves what it did and continues")
_WORKERS = dropped("workers take shards as they come; runtime and --time-limit bound them")
_CERTIFIED = dropped("the combined draws are certified against all data instead")
_COUNTED = dropped("shards are counted here, not their points: num_shards")


def combination(value: Any, auto: str = "robust") -> Any:
    """Our name of a rule that combines shards; what is unknown stays, and is refused by the check of its key.

    homodyne's auto was its robust rule, heterodyne's was not.
    """
    names = {"robust_consensus_mc": "robust", "auto": auto}
    names |= dict.fromkeys(("consensus_mc", "weighted_gaussian", "simple_average"), "consensus")
    return names.get(value, value) if isinstance(value, str) else value


def method(value: Any) -> Any:
    """Our name of a method; what is unknown stays, and is refused by the check of its key."""
    return {"both": "cmc", "mcmc": "cmc"}.get(value, value) if isinstance(value, str) else value


NO_CONSENSUS = (
    "consensus weighs shards with full covariances; robust names a shard that contradicts the others and lets it count "
    "less, all parameters judged together; it was left out there, each parameter judged alone"
)
LOSS = dropped(
    "errors are Gaussian with the measured noise; robust error bars stand beside", among("linear", "soft_l1")
)

_STAGES = "preprocessing.stages"
_PREPARATION: Mapping[str, Rule] = {
    "preprocessing.enabled": dropped("its stages have keys of their own here, all off", among(False)),
    **each(_STAGES, ("load_raw.*", "apply_filtering.*"), dropped("the stage did nothing")),
    f"{_STAGES}.correct_diagonal.method": replaced("preprocessing.diagonal", "for pictures alone"),
    f"{_STAGES}.normalize_data.method": replaced(
        "preprocessing.normalization", "mean, minmax and statistical live on; the others divide by c2(0, 0)"
    ),
    f"{_STAGES}.reduce_noise.method": replaced(
        "preprocessing.noise_reduction", "median and gaussian run along equal lags here; no wiener, no savgol"
    ),
    f"{_STAGES}.standardize_format.enabled": replaced("preprocessing.standard", "true is float64"),
    f"{_STAGES}.validate_output.enabled": renamed("preprocessing.validate_result"),
    f"{_STAGES}.*": dropped("belongs to a method"),
    **each(
        "preprocessing",
        ("abort_on_error", "fallback_on_failure"),
        dropped("a stage that fails is an error"),
    ),
    **each("preprocessing", ("cache_intermediates", "chunk_size"), MACHINE),
    **each(
        "preprocessing",
        ("progress_reporting", "save_provenance"),
        dropped("every output says what was done to the data"),
    ),
    "preprocessing.*": dropped("belongs to preprocessing.enabled"),
    "quality_control.validation_level": renamed("quality_control.level"),
    "quality_control.auto_repair": replaced(
        "quality_control.auto_repair", "what it filled in is left out of the fit"
    ),
    "quality_control.repair_negative_correlations": replaced(
        "quality_control.auto_repair", "aggressive, when auto_repair is aggressive"
    ),
    "quality_control.repair_scaling_issues": dropped(
        "nothing is rescaled: contrast and offset take up any factor"
    ),
    **each(
        "quality_control",
        ("repair_nan_values", "repair_infinite_values"),
        dropped("what holds no number is never fitted"),
    ),
    "quality_control.repair_format_inconsistencies": dropped("a file that contradicts itself is refused"),
    **each(
        "quality_control",
        ("pass_threshold", "warn_threshold", "excellent_threshold"),
        dropped("grades begin at 50, 70 and 85 of 100; quality_control.refuse_poor acts on the first"),
    ),
    **each(
        "quality_control",
        tuple(f"enable_{stage}_validation" for stage in ("raw", "filtering", "preprocessing", "final")),
        dropped("quality_control.level looks at every stage"),
    ),
    **each(
        "quality_control",
        ("cache_validation_results", "incremental_validation", "parallel_validation"),
        MACHINE,
    ),
    "quality_control.reporting.*": dropped("results hold quality.json, and a page of the report"),
}

_DATA_FILTERING: Mapping[str, Rule] = {
    "q_tolerance_fraction": renamed("data_filtering.q_tolerance"),
    "data_filtering.enabled": dropped(
        "the filters are here, or, when it is false, left out; not given it is true, as in homodyne's document"
    ),
    **each(
        "data_filtering.phi_range",
        ("min", "max"),
        replaced(
            "data_filtering.phi_ranges",
            "a list of ranges here; together with phi_filtering's, what both leave",
        ),
    ),
    **each(
        "data_filtering.q_range",
        ("min", "max"),
        replaced("data_filtering.q_tolerance", "the one q that is fitted has to be in the range"),
    ),
    "data_filtering.quality_threshold": dropped("no matrix is left out by a score", among()),
    "data_filtering.quality_filtering.*": dropped("no matrix is left out by a score"),
    "data_filtering.frame_filtering.stride": dropped("frames are never thinned out", among(1)),
    **each(
        "data_filtering",
        ("fallback_on_empty", "validation_level"),
        dropped("every filter is checked, and finding nothing is an error"),
    ),
    "data_filtering.combine_criteria": dropped("all filters hold; OR of several has no counterpart"),
    "optimization_config.angle_filtering.*": NOTHING_READ_IT,
    "optimization.angle_filtering.*": NOTHING_READ_IT,
    "optimization.angle_filtering": NOTHING_READ_IT,
    **_PREPARATION,
    "v2_features.cache_strategy": replaced(
        "runtime.data_cache", "none is null; else what is too large for the memory is kept"
    ),
    "v2_features.*": GOES_THROUGH,
    "memory.*": MACHINE,
}

_LEAST_SQUARES: Mapping[str, Rule] = {
    f"{_NLSQ}.max_iterations": KEPT,
    f"{_NLSQ}.tolerance": KEPT,
    f"{_NLSQ}.ftol": renamed(f"{_NLSQ}.tolerance", rank=1),
    **each(_NLSQ, ("xtol", "gtol"), dropped("one tolerance ends a fit")),
    f"{_NLSQ}.loss": LOSS,
    **each(
        _NLSQ,
        ("workflow", "goal", "trust_region_scale", "verbose", "x_scale_map", "x_scale"),
        SEARCH,
    ),
    **each(_NLSQ, ("memory_fraction", "memory_threshold_gb", "use_streaming"), MACHINE),
    **each(
        _NLSQ, ("progress.*", "diagnostics.*"), dropped("progress and diagnostics are always shown and kept")
    ),
    f"{_NLSQ}.hybrid_streaming.*": GOES_THROUGH,
    f"{_NLSQ}.shear_transforms.*": SEARCH,
    f"{_NLSQ}.quality_validation.*": dropped("the verdict on a fit is always given"),
    f"{_NLSQ}.multi_start.enable": dropped("more than one start finds the same optimum or a better one"),
    f"{_NLSQ}.multi_start.n_starts": renamed(f"{_NLSQ}.multi_start", "when multi_start.enable is true"),
    f"{_NLSQ}.multi_start.seed": renamed(f"{_NLSQ}.seed"),
    f"{_NLSQ}.multi_start.*": SEARCH,
    f"{_NLSQ}.cmaes.enable": renamed(f"{_NLSQ}.cmaes"),
    f"{_NLSQ}.cmaes.*": SEARCH,
    **each(
        "optimization",
        ("streaming.*", "stratification.*", "sequential.*", "fast_chi2_mode", "max_iterations"),
        GOES_THROUGH,
    ),
    "optimization.recovery.*": SEARCH,
    "optimization.lsq.*": NOTHING_READ_IT,
}

_ANTI = f"{_NLSQ}.anti_degeneracy"
_DEGENERACY: Mapping[str, Rule] = {
    f"{_ANTI}.enable": dropped("contrast and offset are marginalised: nothing is left to degenerate"),
    f"{_ANTI}.per_angle_mode": replaced(
        _SCALING, "auto: per angle with a learned spread; averaged and individual are its two ends"
    ),
    f"{_ANTI}.constant_scaling_threshold": dropped("auto needs 3 angles", among(3)),
    f"{_ANTI}.fourier_order": renamed("scaling.fourier_order"),
    f"{_ANTI}.fourier_auto_threshold": NOTHING_READ_IT,
    f"{_ANTI}.hierarchical.*": SEARCH,
    f"{_ANTI}.regularization.*": dropped("scaling.mode hierarchical learns the spread from the data"),
    f"{_ANTI}.gradient_monitoring.*": SEARCH,
    f"{_ANTI}.shear_weighting.*": dropped("pairs are weighted by their noise, whatever their angle"),
}

_BAYES: Mapping[str, Rule] = {
    **{
        f"optimization.mcmc.{name}": renamed(f"{_SAMPLER}.{name}", "wins over cmc.per_shard_mcmc", rank=1)
        for name in ("num_warmup", "num_samples", "num_chains")
    },
    "optimization.mcmc.target_accept_prob": dropped("nothing read it; cmc.per_shard_mcmc has it"),
    "optimization.mcmc.max_tree_depth": dropped("nothing read it; cmc.per_shard_mcmc has it"),
    **each(
        "optimization.mcmc",
        ("backend", "progress_bar", "dense_mass_matrix", "initial_values.*"),
        NOTHING_READ_IT,
    ),
    **each(
        _SAMPLER,
        ("num_warmup", "num_samples", "num_chains", "target_accept_prob", "max_tree_depth", "seed"),
        KEPT,
    ),
    **each(
        _SAMPLER,
        (
            *("chain_method", "adaptive_sampling", "min_warmup", "min_samples", "dense_mass"),
            *("enable_jax_profiling", "jax_profile_dir"),
        ),
        MACHINE,
    ),
    f"{_CMC}.seed": renamed(f"{_SAMPLER}.seed"),
    **each(_CMC, ("enable", "min_points_for_cmc"), dropped("optimization.method decides")),
    f"{_CMC}.run_id": dropped("a label"),
    f"{_CMC}.per_angle_mode": replaced(_SCALING, "as that of nlsq, when the method is cmc"),
    f"{_CMC}.constant_scaling_threshold": dropped("auto needs 3 angles", among(3)),
    f"{_CMC}.prior_tempering": dropped("the prior is always counted exactly once", among(True)),
    f"{_CMC}.backend": MACHINE,
    f"{_CMC}.backend.*": MACHINE,
    f"{_CMC}.backend_config.name": dropped("`hpcxpcs submit --scheduler` and mpirun decide who works"),
    f"{_CMC}.backend_config.*": _RESUMES,
    f"{_CMC}.sharding.strategy": KEPT,
    f"{_CMC}.sharding.num_shards": KEPT,
    **each(
        f"{_CMC}.sharding", ("max_points_per_shard", "min_points_per_shard", "min_points_per_param"), _COUNTED
    ),
    f"{_CMC}.sharding.seed_base": NOTHING_READ_IT,
    **each(_CMC, ("per_shard_timeout", "heartbeat_timeout"), _WORKERS),
    f"{_CMC}.combination.method": replaced(f"{_CMC}.combination.method", NO_CONSENSUS, read=combination),
    f"{_CMC}.combination.min_success_rate": renamed(f"{_CMC}.validation.min_success_rate"),
    **each(f"{_CMC}.combination", ("validate_results", "min_success_rate_warning"), _CERTIFIED),
    f"{_CMC}.validation.min_per_shard_ess": renamed(f"{_CMC}.validation.min_ess"),
    f"{_CMC}.validation.max_divergence_rate": KEPT,
    **each(
        f"{_CMC}.validation",
        ("strict_mode", "max_per_shard_rhat", "max_between_shard_kl", "min_success_rate"),
        NOTHING_READ_IT,
    ),
    **each(
        f"{_CMC}.validation",
        (
            *("require_nlsq_warmstart", "use_nlsq_informed_priors", "nlsq_prior_width_factor"),
            *("max_parameter_cv", "heterogeneity_abort"),
        ),
        _CERTIFIED,
    ),
    f"{_CMC}.reparameterization.*": SEARCH,
}

HOMODYNE: Mapping[str, Rule] = {
    **COMMON,
    "analysis_mode": KEPT,
    "data_file": renamed("experimental_data.file_path", "unless experimental_data names one"),
    "analysis_settings.model_description.*": dropped("a label that says nothing to a program"),
    **_DATA_FILTERING,
    **_LEAST_SQUARES,
    **_DEGENERACY,
    **_BAYES,
    "optimization.method": replaced("optimization.method", "both and mcmc are cmc here", read=method),
}
"""The rule of every key, by its dotted name; `section.*` is for all keys of a section that have no own rule."""
