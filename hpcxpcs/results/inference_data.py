"""inference_data.nc: the posterior as an ArviZ tree, for xarray.open_datatree and every ArviZ function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpcxpcs import __version__
from hpcxpcs.answer.fit_verdict import noise_words
from hpcxpcs.answer.posterior import Certificate, Posterior, SampleStatistics
from hpcxpcs.answer.posterior_verdict import ess_of, r_hat_of
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.nlsq import stage_names
from hpcxpcs.results.records import SCHEMA_VERSION, Answer

if TYPE_CHECKING:
    import xarray


PER_DRAW = ("chain", "draw")


def inference_data_file(answer: Answer, posterior: Posterior) -> bytes:
    """The tree as the content of a NetCDF-4 file."""
    return bytes(inference_data(answer, posterior).to_netcdf(engine="h5netcdf"))


def inference_data(answer: Answer, posterior: Posterior) -> xarray.DataTree:
    """Groups posterior, sample_stats, observed_data, shards, certificate, and `sampled`, the chains behind them.

    Of combined draws, `sample_stats` knows `lp` alone; what a sampler recorded belongs to the chains of one shard,
    which are a tree of their own under `sampled`. Exact draws are the chains, and there is no such group; nor is there
    of independent draws, behind which no chains are.
    """
    import xarray

    statistics = posterior.statistics
    its_own = statistics if posterior.route == "exact" else None
    log_posterior = {"lp": (PER_DRAW, np.asarray(posterior.log_posterior, dtype=float), {"units": "nats"})}
    groups: dict[str, Any] = {
        "/": xarray.Dataset(attrs=_attributes(answer, posterior)),
        "/posterior": _posterior_group(answer, posterior),
        "/sample_stats": _chains(log_posterior)
        if its_own is None
        else _chains({**log_posterior, **_recorded(its_own)}, label=its_own.label),
        "/observed_data": _observed_group(answer),
        "/diagnostics": _diagnostics_group(posterior),
    }
    if statistics is not None and its_own is None:
        groups["/sampled/posterior"] = _chains(_parameters(posterior, statistics.draws))
        groups["/sampled/sample_stats"] = _chains(_recorded(statistics), label=statistics.label)
    if posterior.shards:
        groups["/shards"] = _shards_group(posterior)
    if posterior.certificate is not None:
        groups["/certificate"] = _certificate_group(posterior.certificate)
    return xarray.DataTree.from_dict(groups)


def _attributes(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    settings, stages = dumps(posterior.settings), stage_names(answer.data)
    return {
        "created_by": f"hpcxpcs {__version__}",
        "inference_library": "numpyro",
        "schema_version": SCHEMA_VERSION,
        "analysis_mode": answer.fit.model,
        "conventions": dumps(answer.fit.conventions),
        "q": float(answer.data.q),
        "data_fingerprint": answer.data.fingerprint(),
        "route": posterior.route,
        "verdict": posterior.verdict,
        "words": posterior.words,
        "widening": dumps(dict(zip(posterior.names, map(float, posterior.widening), strict=True))),
        "warnings": dumps(posterior.warnings),
        "seed": int(posterior.seed),
        "settings": settings,
        **({"preprocessing": dumps(stages)} if stages else {}),
    }


def _chains(variables: dict[str, Any], **attributes: str) -> xarray.Dataset:
    """A group of what is known of every chain, and of every draw of it."""
    import xarray

    chains, draws = next(iter(variables.values()))[1].shape
    return xarray.Dataset(variables, coords={"chain": np.arange(chains), "draw": np.arange(draws)}, attrs=attributes)


def _posterior_group(answer: Answer, posterior: Posterior) -> xarray.Dataset:
    group = _chains(_parameters(posterior, posterior.draws))
    phi = np.asarray(answer.data.phi, dtype=float)
    for name in ("contrast", "offset"):
        group[name] = ((*PER_DRAW, "phi"), np.asarray(getattr(posterior, name), dtype=float), {"units": "1"})
    return group.assign_coords(phi=("phi", phi, {"units": "degrees"}))


def _parameters(posterior: Posterior, draws: np.ndarray) -> dict[str, Any]:
    """Draws (c,s,n) of each parameter by name."""
    return {
        name: (PER_DRAW, np.asarray(draws[..., k], dtype=float), {"units": posterior.units[k] or "1"})
        for k, name in enumerate(posterior.names)
    }


def _recorded(statistics: SampleStatistics) -> dict[str, Any]:
    """What the sampler recorded of real chains, under ArviZ's names."""
    return {
        "energy": (PER_DRAW, np.asarray(statistics.energy, dtype=float)),
        "acceptance_rate": (PER_DRAW, np.asarray(statistics.acceptance, dtype=float)),
        "n_steps": (PER_DRAW, np.asarray(statistics.num_steps, dtype=np.int64)),
        "diverging": (PER_DRAW, np.asarray(statistics.diverging, dtype=bool)),
        "bfmi": (("chain",), np.asarray(statistics.bfmi, dtype=float)),
        "step_size": (("chain",), np.asarray(statistics.step_size, dtype=float)),
    }


def _observed_group(answer: Answer) -> xarray.Dataset:
    """What summarises the data of each angle: number of pairs, their noise, and the misfit of the point fit."""
    import xarray

    fit, data = answer.fit, answer.data
    columns = {
        "pairs": np.asarray(fit.pairs, dtype=np.int64),
        "sigma": np.asarray(fit.sigma, dtype=float),
        "chi_squared": np.asarray(fit.chi_squared_per_angle, dtype=float),
    }
    noise = {"noise_model": "independent", "sigma_source": fit.sigma_source}
    if fit.noise is not None:
        columns |= {name: np.asarray(getattr(fit.noise, name), dtype=float) for name in ("photons", "pixels")}
        noise |= {"noise_model": fit.noise.model, "noise": noise_words(fit)}
    return xarray.Dataset(
        {name: ("phi", array) for name, array in columns.items()},
        coords={
            "phi": ("phi", np.asarray(data.phi, dtype=float), {"units": "degrees"}),
            "time": ("time", np.asarray(data.t, dtype=float), {"units": "s"}),
        },
        attrs={"q": float(data.q), "dt": float(data.dt), **noise},
    )


def _diagnostics_group(posterior: Posterior) -> xarray.Dataset:
    import xarray

    columns = (
        *("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "mean", "std", "median"),
        *("prior_std", "contraction", "point_value", "z"),
    )
    summary = posterior.summary
    group = xarray.Dataset(
        {name: ("parameter", np.asarray(getattr(summary, name), dtype=float)) for name in columns},
        coords={"parameter": list(posterior.names)},
        attrs={"r_hat_of": r_hat_of(posterior), "ess_of": ess_of(posterior)},
    )
    group["hdi"] = (("parameter", "edge"), np.asarray(summary.hdi, dtype=float))
    group["hdi"].attrs["probability"] = float(summary.hdi_probability)
    return group.assign_coords(edge=["lower", "upper"])


def _shards_group(posterior: Posterior) -> xarray.Dataset:
    import xarray

    shards = posterior.shards
    kinds = {
        **dict.fromkeys(("pairs", "divergences", "attempts", "gradients"), np.int64),
        **dict.fromkeys(("r_hat", "ess", "bfmi", "seconds"), np.float64),
        "accepted": np.bool_,
    }
    variables: dict[str, Any] = {
        name: ("shard", np.array([getattr(shard, name) for shard in shards], dtype=kind))
        for name, kind in kinds.items()
    }
    variables["reasons"] = ("shard", ["; ".join(shard.reasons) for shard in shards])
    for name in ("mean", "std"):
        table = np.array([getattr(shard, name) for shard in shards], dtype=float)
        variables[name] = (("shard", "parameter"), table)
    return xarray.Dataset(
        variables, coords={"shard": [shard.index for shard in shards], "parameter": list(posterior.names)}
    )


def _certificate_group(certificate: Certificate) -> xarray.Dataset:
    import xarray

    numbers = {"k_hat": certificate.k_hat, "k_hat_limit": certificate.limit, "ess": certificate.ess}
    return xarray.Dataset(
        {
            **{name: ((), float(value)) for name, value in numbers.items()},
            "mean_shift": ("coordinate", np.asarray(certificate.mean_shift, dtype=float)),
            "sd_ratio": ("coordinate", np.asarray(certificate.sd_ratio, dtype=float)),
        },
        attrs={"word": certificate.word, "reason": certificate.reason, "distinct": int(certificate.distinct)},
    )
