"""NumPyro's NUTS on every raw pair: the references in tests/calibration/references.

python -m bench.raw_posteriors                      regenerate all (an hour on one core)
python -m bench.raw_posteriors "static 3 x 100"     one of them
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from tests.calibration.cases import CASES, Case, case_data
from tests.calibration.posteriors import case_fit
from tests.calibration.raw_posterior import RawPosterior

FOLDER = Path(__file__).parents[1] / "tests" / "calibration" / "references"
WARMUP, DRAWS, CHAINS, SEED = 500, 1500, 2, 20


def integrated(reference: RawPosterior, start: np.ndarray, spread: np.ndarray) -> None:
    """NumPyro model of the parameters, contrast and offset integrated out."""
    z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (reference.size,)))
    x = numpyro.deterministic("x", start + spread * z)
    numpyro.factor("posterior", reference.marginal(x))


def sampled(reference: RawPosterior, start: np.ndarray, spread: np.ndarray) -> None:
    """NumPyro model of the parameters with contrast and offset sampled around unknown means."""
    count = len(reference.phi)
    widths = reference.known.widths
    assert widths is not None
    z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (reference.size,)))
    mean = numpyro.sample("means", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    with numpyro.plate("angles", count):
        contrast = numpyro.sample("contrast", dist.Normal(0.2 + 0.1 * mean[0], widths[0]))
        offset = numpyro.sample("offset", dist.Normal(1.0 + 0.01 * mean[1], widths[1]))
    x = numpyro.deterministic("x", start + spread * z)
    theta = reference.theta(x)
    numpyro.factor("prior", reference.log_prior(x))
    numpyro.factor("data", reference.log_likelihood(theta, x[-1], contrast, offset))


def sample(case: Case, reference: RawPosterior) -> dict[str, np.ndarray]:
    """Draws by name, each (chains, draws, ...)."""
    start = np.append(reference.coordinates(case.truth), 0.0)
    curvature = -np.asarray(jax.hessian(reference.marginal)(jnp.asarray(start)))
    spread = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(curvature)), 1e-12))
    kernel = NUTS(
        sampled if case.sampled else integrated,
        dense_mass=True,
        target_accept_prob=0.9,
        init_strategy=numpyro.infer.init_to_value(values={"z": jnp.zeros(start.size), "means": jnp.zeros(2)}),
    )
    mcmc = MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(SEED), reference, start, spread)
    return {name: np.asarray(draws) for name, draws in mcmc.get_samples(group_by_chain=True).items()}


def levels(reference: RawPosterior, found: dict[str, np.ndarray]) -> np.ndarray:
    """Draws of contrast and offset (chains, draws, 2 n_phi)."""
    if "contrast" in found:
        return np.concatenate([found["contrast"], found["offset"]], axis=-1)
    x = found["x"].reshape(-1, reference.size)
    matrices, rights = jax.lax.map(reference.normal_form, jnp.asarray(x))
    covariances = np.linalg.inv(np.asarray(matrices))
    means = np.einsum("sij,sj->si", covariances, np.asarray(rights))
    numbers = np.random.default_rng(SEED).standard_normal(means.shape)
    draws = means + np.einsum("sij,sj->si", np.linalg.cholesky(covariances), numbers)
    return draws.reshape(*found["x"].shape[:2], -1)


def moments(draws: np.ndarray) -> dict[str, Any]:
    """Mean and sd of draws (chains, draws, m) with their Monte Carlo errors, effective draws and R-hat."""
    flat = draws.reshape(-1, draws.shape[-1])
    mean, sd = flat.mean(axis=0), flat.std(axis=0, ddof=1)
    squares = ((draws - mean) / sd) ** 2
    ess, square_ess = effective_sample_size(draws), effective_sample_size(squares)
    return {
        "mean": mean.tolist(),
        "sd": sd.tolist(),
        "ess": ess.tolist(),
        "mcse_mean": (sd / np.sqrt(ess)).tolist(),
        "mcse_sd": (0.5 * sd * squares.reshape(flat.shape).std(axis=0) / np.sqrt(square_ess)).tolist(),
        "r_hat": split_gelman_rubin(draws).tolist(),
    }


def main() -> None:
    """Sample the references named on the command line, or all."""
    for name in sys.argv[1:] or list(CASES):
        begun, case = time.perf_counter(), CASES[name]
        widths = case_fit(name).widths
        reference = case.reference(widths)
        found = sample(case, reference)
        x = found["x"]
        theta = np.asarray(jax.vmap(jax.vmap(reference.theta))(jnp.asarray(x)))[..., reference.free]
        values = np.concatenate([theta, np.exp(x[..., -1:])], axis=-1)
        record: dict[str, Any] = {
            "case": name,
            "command": f'python -m bench.raw_posteriors "{name}"',
            "fingerprint": case_data(name).fingerprint(),
            "seed": case.seed,
            "widths": widths,
            "chains": CHAINS,
            "warmup": WARMUP,
            "draws": DRAWS,
            "parameters": moments(values),
            "correlations": np.corrcoef(values.reshape(-1, values.shape[-1]), rowvar=False).tolist(),
            "levels": moments(levels(reference, found)),
        }
        path = FOLDER / f"{name.replace(' ', '_')}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")
        known = record["parameters"]
        seconds = time.perf_counter() - begun
        print(
            f"{name}: {seconds:.0f} s, ESS {min(known['ess']):.0f}, R-hat {max(known['r_hat']):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
