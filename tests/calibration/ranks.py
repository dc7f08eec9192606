"""Small measurements drawn from their own prior, their posteriors, and where the truth ranks among the draws.

Everything but the numbers of a data set is the same for all of them (cells, space, shapes), so that the sampler is
compiled once. Parameters come from their priors, contrast, offset and noise scale from ranges much wider than what
the data leave open, where the flat priors of the product are as good as the true ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from scipy import stats

from hpcxpcs.config import DataScale, config_from_mapping, resolved_parameters
from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.inference import nuts
from hpcxpcs.inference.certificate import certified, combined
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.laplace import find_mode
from hpcxpcs.inference.prepared import Prepared, Whole, prepare_shards, space_of
from hpcxpcs.inference.target import Space, Target
from hpcxpcs.likelihood.cells import TimeAxis, geometric_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.moments import MomentArrays, Moments
from hpcxpcs.likelihood.scaling import build_scaling
from hpcxpcs.likelihood.shards import partition, shard_moments
from hpcxpcs.physics.model import build_model
from tests.calibration.posteriors import chains_of, physical, shard_draws

FRAMES, DT, Q, SIGMA = 28, 0.1, 0.0054, 0.02
PHI = np.array([0.0, 60.0])
SHARDS, KEPT = 2, 99
PRIORS = {
    "D0": {"type": "lognormal", "median": 1.2e4, "sigma": 0.3},
    "alpha": {"type": "normal", "mu": -0.3, "sigma": 0.15},
    "D_offset": {"type": "normal", "mu": 800.0, "sigma": 600.0},
}
QUANTITIES = (*PRIORS, "noise_scale", "contrast 1", "contrast 2", "offset 1", "offset 2")
BINS = 10


@dataclass(frozen=True)
class Uncondensed:
    """Stands for a condensation that leaves the nodes as they are."""

    points: int = 0
    error: float = 0.0

    def apply(self, moments: Moments) -> MomentArrays:
        """The arrays themselves."""
        return moments.arrays


@dataclass(frozen=True)
class Experiment:
    """The fixed part: prior, model, space."""

    @cached_property
    def parameters(self):
        """Priors and bounds of the three parameters; no offset below zero."""
        bounds = [{"name": name, "prior": prior} for name, prior in PRIORS.items()]
        bounds[0] |= {"min": 100.0, "max": 1.0e5}
        bounds[2] |= {"min": 0.0, "max": 1.0e5}
        return resolved_parameters(
            config_from_mapping(
                {
                    "analysis_mode": "static",
                    "experimental_data": {"file_path": "none.hdf"},
                    "analyzer_parameters": {"scattering": {"wavevector_q": Q}},
                    "parameter_space": {"bounds": bounds},
                }
            ),
            DataScale(Q, 2.0e6, DT, DT, DT * (FRAMES - 1)),
        )

    @cached_property
    def axis(self) -> TimeAxis:
        """Frame times; the first frame is not used."""
        return TimeAxis(0.0, DT, FRAMES)

    @cached_property
    def space(self) -> Space:
        """The sampling space."""
        first, last = DT, DT * (FRAMES - 1)
        model = build_model("static", q=Q)
        coordinates = Coordinates(model, reference_time(first, last), ())
        space = space_of(coordinates, self.parameters, (first, last), True)
        return replace(space, support=replace(space.support, softness=(0.1, 0.1, 0.2)))

    def drawn(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The truth in the order of QUANTITIES (8,), and matrices (2, N, N)."""
        theta = np.array([p.prior.quantile(rng.uniform(), p.lower, p.upper) for p in self.parameters])
        scale, contrast = np.exp(rng.uniform(-0.2, 0.2)), rng.uniform(0.3, 0.5, 2)
        offset = rng.normal(1.0, 0.05, 2)
        t = DT * np.arange(FRAMES)
        grown = theta[0] * t ** (1.0 + theta[1]) / (1.0 + theta[1]) + theta[2] * t
        shape = np.exp(-(Q**2) * np.abs(grown[None, :] - grown[:, None]))
        noise = np.triu(rng.standard_normal((2, FRAMES, FRAMES)), 1)
        c2 = offset[:, None, None] + contrast[:, None, None] * shape
        c2 = c2 + SIGMA * scale * (noise + noise.swapaxes(1, 2))
        return np.array([*theta, scale, *contrast, *offset]), c2

    def prepared(self, truth: np.ndarray, c2: np.ndarray, shards: int) -> Prepared:
        """The likelihood of matrices, whitened at its mode, which is looked for from the truth."""
        space, cells = self.space, geometric_cells(self.axis)
        usable = np.ones(FRAMES, dtype=bool)
        usable[0] = False

        def angle(index: int) -> AngleMatrix:
            return AngleMatrix(c2[index], usable, None, None)

        moments = compress(angle, PHI, cells, self.axis)
        nothing = jnp.zeros(space.size + 4)
        u = space.support.coordinates.from_physical(truth[:3])
        start = np.append(space.support.from_coordinates(u), np.log(truth[3]))
        target = Target(
            arrays=moments.arrays,
            scaling=build_scaling("individual", PHI),
            sigma=jnp.full(2, SIGMA),
            pairs=jnp.asarray(moments.pairs),
            tempering=jnp.ones(()),
            precision=jnp.outer(nothing, nothing),
            shift=nothing,
            origin=jnp.asarray(start),
            transform=jnp.diag(jnp.asarray([0.05, 0.05, 0.1, 0.05])),
            softness=jnp.asarray(space.support.softness),
        )
        mode = find_mode(space, target)
        full = replace(target, origin=jnp.asarray(mode.x), transform=jnp.asarray(mode.transform))
        whole = Whole(space, full, Uncondensed(), moments, np.ones(2), 1, 1.0)
        sets = partition("angle_balanced", shards, FRAMES, 1, first=1)
        parts = shard_moments(angle, PHI, cells, self.axis, sets)
        return prepare_shards(whole, parts, shards, anchored=True)


def exact_draws(prepared: Prepared, index: int) -> np.ndarray:
    """Draws (n, 8) of QUANTITIES from chains on all data."""
    z = chains_of(prepared.space, prepared.full, (nuts.EXACT, index), 70, KEPT + 1)
    return np.concatenate(physical(prepared, z.reshape(-1, z.shape[-1])), axis=1)


def consensus_draws(prepared: Prepared, index: int) -> tuple[str, np.ndarray]:
    """Verdict and draws (n, 8) of QUANTITIES from certified shards; all data where they are refused."""
    joint = combined(prepared, shard_draws(prepared, 50, 70, index), seed=index)
    found = certified(prepared, joint, draws=1000, limit=None, seed=index)
    if not found.valid:
        return found.word, exact_draws(prepared, index)
    return found.word, np.concatenate(physical(prepared, found.draws), axis=1)


def simulated_sets(count: int, seed: int) -> Iterator[tuple[np.ndarray, Prepared]]:
    """The truth (8,) and the prepared likelihood of `count` data sets."""
    experiment, rng = Experiment(), np.random.default_rng(seed)
    for _ in range(count):
        truth, c2 = experiment.drawn(rng)
        yield truth, experiment.prepared(truth, c2, SHARDS)


def thinned(draws: np.ndarray) -> np.ndarray:
    """KEPT evenly spaced rows, whose ranks have KEPT + 1 values."""
    return draws[np.linspace(0, len(draws) - 1, KEPT).astype(int)]


def ranks(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Where each true value (m,) ranks among draws (n, m): 0 … n."""
    return np.sum(draws < truth, axis=0)


def smallest_chance(found: np.ndarray) -> float:
    """Smallest probability over quantities and tests that ranks (sets, m) come from right posteriors, Bonferroni.

    Three tests per quantity: χ² of BINS bins (uniform), mean and dispersion of the ranks' normal scores (shifted, too
    narrow or too wide); the last two see errors that a histogram of a hundred ranks cannot.
    """
    sets, quantities = found.shape
    scores = stats.norm.ppf((found + 0.5) / (KEPT + 1))
    chances = []
    for k in range(quantities):
        counts = np.bincount(found[:, k] * BINS // (KEPT + 1), minlength=BINS)
        total = np.sum(scores[:, k] ** 2)
        chances += [
            stats.chisquare(counts).pvalue,
            2.0 * stats.norm.sf(abs(scores[:, k].sum()) / np.sqrt(sets)),
            2.0 * min(stats.chi2.sf(total, sets), stats.chi2.cdf(total, sets)),
        ]
    return float(min(1.0, min(chances) * len(chances)))
