"""samples.npz: the draws for anyone with NumPy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcxpcs.results.posterior_records import Posterior

SAMPLES_SCHEMA = (1, 0)


def samples_archive(posterior: Posterior, analysis_mode: str, stages: Sequence[str] = ()) -> bytes:
    """An .npz archive of the arrays below, compressed."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **sample_arrays(posterior, analysis_mode, stages))
    return content.getvalue()


def sample_arrays(
    posterior: Posterior, analysis_mode: str, stages: Sequence[str] = ()
) -> dict[str, np.ndarray[Any, Any]]:
    """The archive's members: draws (C,S,n) with names, contrast and offset (C,S,n_phi), diagnostics (n,).

    `stages` are the names of what preprocessing did to the data.
    """
    summary, (chains, samples, _) = posterior.summary, np.shape(posterior.draws)
    numbers = {
        "posterior_samples": posterior.draws,
        "r_hat": summary.r_hat,
        "ess_bulk": summary.ess_bulk,
        "ess_tail": summary.ess_tail,
        "contrast": posterior.contrast,
        "offset": posterior.offset,
        "log_posterior": posterior.log_posterior,
    }
    counts = {
        "divergences": np.count_nonzero(posterior.statistics.diverging),
        "n_phi": np.shape(posterior.contrast)[-1],
        "n_chains": chains,
        "n_samples": samples,
        "seed": posterior.seed,
    }
    words = {"analysis_mode": analysis_mode, "route": posterior.route, "verdict": posterior.verdict}
    return {
        "param_names": np.array(posterior.names, dtype=np.str_),
        "units": np.array(posterior.units, dtype=np.str_),
        **{name: np.asarray(array, dtype=float) for name, array in numbers.items()},
        **{name: np.array([count], dtype=np.int64) for name, count in counts.items()},
        **{name: np.array([text], dtype=np.str_) for name, text in words.items()},
        **({"preprocessing": np.array(stages, dtype=np.str_)} if stages else {}),
        "schema_version": np.array(SAMPLES_SCHEMA, dtype=np.int64),
    }
