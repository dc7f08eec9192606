"""What becomes of every key of a heterodyne configuration, with flat or grouped parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hpcxpcs.config.dialects.common_keys import COMMON, GOES_THROUGH, LABEL, MACHINE, SEARCH
from hpcxpcs.config.dialects.homodyne_keys import LOSS, NO_CONSENSUS, combination, method
from hpcxpcs.config.dialects.rules import KEPT, Fate, Rule, among, dropped, each, renamed, replaced

_NLSQ, _CMC = "optimization.nlsq", "optimization.cmc"
_SAMPLER, _VALIDATION = f"{_CMC}.per_shard_mcmc", f"{_CMC}.validation"
_CERTIFIED = dropped("the combined draws are certified against all data instead")
_COUNTED = dropped("shards are counted here, not their points: num_shards")
_CHAINS = dropped("chains start around the point fit, and are judged by where they end")
_WAYS_THROUGH = ("streaming", "stratification", "sequential")
GROUPS = ("reference", "sample", "velocity", "fraction", "angle", "scaling")


def _or_default(default: Any) -> Any:
    """A reader that puts our default where null stood."""
    return lambda value: default if value is None else value


_combination = partial(combination, auto="consensus")

_LEAST_SQUARES: Mapping[str, Rule] = {
    f"{_NLSQ}.analysis_mode": renamed("analysis_mode"),
    f"{_NLSQ}.max_iterations": KEPT,
    f"{_NLSQ}.tolerance": KEPT,
    f"{_NLSQ}.ftol": renamed(f"{_NLSQ}.tolerance", rank=1),
    **each(_NLSQ, ("xtol", "gtol"), dropped("one tolerance ends a fit")),
    f"{_NLSQ}.loss": LOSS,
    f"{_NLSQ}.nlsq_rescale_data": dropped("data are fitted as they were measured", among(False)),
    **each(_NLSQ, ("nlsq_memory_fraction", "nlsq_memory_fallback_gb"), MACHINE),
    **each(
        _NLSQ,
        (
            *("workflow", "goal", "method", "x_scale", "x_scale_map", "use_jac", "verbose", "nlsq_x_scale"),
            *("enable_anti_degeneracy", "enable_diagnostics", "enable_hierarchical"),
            *("hierarchical_max_outer_iterations", "hierarchical_inner_tolerance"),
            *("hierarchical_outer_tolerance", "enable_gradient_monitoring", "gradient_ratio_threshold"),
            *("gradient_consecutive_triggers", "enable_recovery", "max_recovery_attempts", "recovery.*"),
            *("sampling_strategy", "screen_keep_fraction", "refine_top_k"),
            *("use_nlsq_library", "nlsq_stability"),
            *(f"cmaes_{name}" for name in ("sigma0", "max_iterations", "population_size", "tolx", "tolfun")),
            *(f"cmaes_{name}" for name in ("diagonal_filtering", "anti_degeneracy")),
            *(f"cmaes_{name}" for name in ("warmstart_auto_skip", "warmstart_skip_threshold")),
        ),
        SEARCH,
    ),
    **each(
        _NLSQ,
        (
            *(f"hybrid_{name}" for name in ("enable", "warmup_fraction", "normalization", "method")),
            *(f"hybrid_{name}" for name in ("lbfgs_memory", "convergence_window", "convergence_threshold")),
            *("hybrid_max_phases", "enable_streaming", "streaming_chunk_size", "enable_stratified"),
            "target_chunk_size",
        ),
        GOES_THROUGH,
    ),
    f"{_NLSQ}.per_angle_mode": replaced(
        "scaling.mode", "auto: per angle with a learned spread; averaged and individual are its two ends"
    ),
    f"{_NLSQ}.fourier_order": renamed("scaling.fourier_order"),
    f"{_NLSQ}.fourier_auto_threshold": dropped("auto never turns into fourier; say scaling.mode: fourier"),
    f"{_NLSQ}.constant_scaling_threshold": dropped("auto needs 3 angles", among(3)),
    f"{_NLSQ}.regularization_mode": dropped(
        "scaling.mode hierarchical learns the spread from the data", among("none", False)
    ),
    **each(_NLSQ, ("group_variance_lambda", "regularization_target_cv"), SEARCH),
    f"{_NLSQ}.multistart": dropped("more than one start finds the same optimum or a better one"),
    f"{_NLSQ}.multistart_n": renamed(f"{_NLSQ}.multi_start", "when multistart is true"),
    f"{_NLSQ}.enable_cmaes": renamed(f"{_NLSQ}.cmaes"),
    f"{_NLSQ}.validation.*": dropped("the verdict on a fit is always given"),
    f"{_NLSQ}.nlsq_prior_width_factor": dropped("error bars of the fit never become a prior"),
}

_SECTIONS: Mapping[str, Mapping[str, Rule]] = {
    "": {
        **each("", ("enable", "min_points_for_cmc"), dropped("optimization.method decides")),
        "run_id": dropped("a label"),
        "prior_tempering": dropped("the prior is always counted exactly once", among(True)),
    },
    "per_angle": {
        "per_angle_mode": replaced("scaling.mode", "as that of nlsq, when the method is cmc"),
        "constant_scaling_threshold": dropped("auto needs 3 angles", among(3)),
    },
    "sharding": {
        "sharding_strategy": renamed(f"{_CMC}.sharding.strategy"),
        "strategy": renamed(f"{_CMC}.sharding.strategy"),
        "shard_strategy": renamed(f"{_CMC}.sharding.strategy", rank=-1),
        "num_shards": renamed(f"{_CMC}.sharding.num_shards"),
        "n_shards": renamed(f"{_CMC}.sharding.num_shards", rank=-1),
        **each("", ("max_points_per_shard", "min_points_per_shard", "min_points_per_param"), _COUNTED),
        "min_pairs_per_shard": _COUNTED,
    },
    "backend_config": {
        "backend_name": dropped("`hpcxpcs submit --scheduler` and mpirun decide who works"),
        "name": dropped("`hpcxpcs submit --scheduler` and mpirun decide who works"),
        "chain_method": MACHINE,
        **each("", ("enable_checkpoints", "checkpoint_dir"), dropped("every run saves and continues")),
        "sampler": dropped("NUTS draws; another sampler would draw from the same posterior"),
        **each("", ("jit_compile", "progress_bar"), MACHINE),
    },
    "per_shard_mcmc": {
        **{name: renamed(f"{_SAMPLER}.{name}") for name in ("num_warmup", "num_samples", "num_chains")},
        "target_accept_prob": renamed(f"{_SAMPLER}.target_accept_prob"),
        "target_accept": renamed(f"{_SAMPLER}.target_accept_prob"),
        "max_tree_depth": renamed(f"{_SAMPLER}.max_tree_depth"),
        "seed": renamed(f"{_SAMPLER}.seed", read=_or_default(42)),
        **each("", ("dense_mass", "init_strategy", "adaptive_sampling"), SEARCH),
        **each("", ("min_warmup", "min_samples", "fast_warmup"), SEARCH),
    },
    "validation": {
        "max_r_hat": renamed(f"{_VALIDATION}.max_r_hat"),
        "r_hat_threshold": renamed(f"{_VALIDATION}.max_r_hat"),
        "min_ess": renamed(f"{_VALIDATION}.min_ess"),
        "min_bfmi": renamed(f"{_VALIDATION}.min_bfmi"),
        "max_divergence_rate": renamed(f"{_VALIDATION}.max_divergence_rate"),
        "max_divergences": replaced(
            f"{_VALIDATION}.max_divergence_rate", "as a share of num_samples times num_chains"
        ),
        **each("", ("require_nlsq_warmstart", "allow_degenerate_warmstart"), _CERTIFIED),
        **each("", ("max_parameter_cv", "heterogeneity_abort"), _CERTIFIED),
    },
    "nlsq": {
        **each("", ("use_nlsq_warmstart", "use_nlsq_informed_priors", "use_log_space_priors"), _CERTIFIED),
        **each("", ("nlsq_prior_width_factor", "prior_width_factor"), _CERTIFIED),
    },
    "combination": {
        "combination_method": replaced(f"{_CMC}.combination.method", NO_CONSENSUS, read=_combination),
        "method": replaced(f"{_CMC}.combination.method", NO_CONSENSUS, read=_combination),
        "min_success_rate": renamed(f"{_VALIDATION}.min_success_rate"),
        "min_success_rate_warning": _CERTIFIED,
        "weights": dropped("nothing read it; shards are weighed by their covariances"),
    },
    "initialization": each("", ("method", "nlsq_chi2_threshold", "jitter_scale"), _CHAINS),
    "timeout": each(
        "", ("per_shard_timeout", "heartbeat_timeout"), dropped("workers take shards as they come")
    ),
    "reparameterization": {
        **each("", ("use_reparam", "reparameterization_d_total", "reparameterization_log_gamma"), SEARCH),
        **each("", ("bimodal_min_weight", "bimodal_min_separation"), SEARCH),
    },
    "profiling": each("", ("enable_jax_profiling", "jax_profile_dir"), MACHINE),
}


def _posterior() -> dict[str, Rule]:
    """Every key of optimization.cmc, in its section and flat; the flat one wins, as it did."""
    table: dict[str, Rule] = {}
    for section, rules in _SECTIONS.items():
        for name, rule in rules.items():
            nested = f"{_CMC}.{section}.{name}" if section else f"{_CMC}.{name}"
            kept = rule.fate is Fate.RENAMED and rule.to == nested and rule.read(None) is None
            table[nested] = KEPT if kept else rule
            if section and name not in ("method", "name", "strategy"):
                rank = rule.rank + 1
                table[f"{_CMC}.{name}"] = Rule(rule.fate, rule.to, rule.why, rule.harmless, rule.read, rank)
    return table


def _grouped(section: str) -> dict[str, Rule]:
    """The parameters in groups, under `parameters` or, as one of its documents has it, analyzer_parameters."""
    return {
        f"{section}.*.value": renamed("initial_parameters.values"),
        f"{section}.*.vary": replaced(
            "initial_parameters.fixed_parameters", "vary: false holds it at its value"
        ),
        **each(f"{section}.*", ("min", "max", "prior", "prior_params"), renamed("parameter_space.bounds")),
        **each(f"{section}.*", ("unit", "description"), LABEL),
    }


def _analysis(prefix: str) -> dict[str, Rule]:
    """The short form of its documents, in a section `analysis` or without one; the long form wins."""
    return {
        f"{prefix}method": replaced(
            "optimization.method", "both and mcmc are cmc here", read=method, rank=-1
        ),
        f"{prefix}phi_angles": replaced("data_filtering.phi_ranges", "each angle within 0.05 degrees"),
        f"{prefix}q": renamed("analyzer_parameters.scattering.wavevector_q", rank=-2),
        f"{prefix}dt": renamed("analyzer_parameters.dt", rank=-2),
        f"{prefix}scaling_mode": replaced("scaling.mode", "as per_angle_mode, which wins"),
    }


HETERODYNE: Mapping[str, Rule] = {
    **COMMON,
    "analysis_mode": KEPT,
    **_grouped("parameters"),
    **_grouped("analyzer_parameters"),
    "scaling.mode": replaced("scaling.mode", "as per_angle_mode, which wins"),
    **each("scaling", ("n_angles", "initial_contrast", "initial_offset"), dropped("follows from the data")),
    **_analysis("analysis."),
    **_analysis(""),
    "temporal.dt": renamed("analyzer_parameters.dt", rank=-1),
    "temporal.t_start": renamed("analyzer_parameters.start_frame", "counted from 0 there"),
    "temporal.time_length": replaced("analyzer_parameters.end_frame", "the number of frames"),
    "scattering.wavevector_q": renamed("analyzer_parameters.scattering.wavevector_q", rank=-1),
    "scattering.phi_angles": replaced("data_filtering.phi_ranges", "each angle within 0.05 degrees"),
    "analyzer_parameters.scattering.phi_angles": replaced(
        "data_filtering.phi_ranges", "each angle within 0.05 degrees"
    ),
    **_LEAST_SQUARES,
    **_posterior(),
    "optimization.method": replaced("optimization.method", "both and mcmc are cmc here", read=method),
    "output.output_dir": renamed("output.directory"),
    **each("", ("hmc.*", "optimization.cmc.hmc.*"), dropped("NUTS finds its steps by itself")),
    **each("", ("hardware.*", "optimization.hardware.*"), MACHINE),
    **each(
        "",
        (f"{before}{name}.*" for before in ("", "optimization.") for name in _WAYS_THROUGH),
        GOES_THROUGH,
    ),
}
"""The rule of every key, by its dotted name; `section.*` is for all keys of a section that have no own rule."""
