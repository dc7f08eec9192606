"""Posteriors of simulated measurements in one process: the product's inference layer without its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import Certificate
from hpcxpcs.arrays import Floats
from hpcxpcs.config import Config, ResolvedParameter, resolved_parameters
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.inference import nuts
from hpcxpcs.inference.certificate import certified, combined
from hpcxpcs.inference.consensus import Combined, Part
from hpcxpcs.inference.diagnostics import mixing
from hpcxpcs.inference.draws import physical_draws
from hpcxpcs.inference.measurement import Measurement, measure
from hpcxpcs.inference.point import fit_in_stages
from hpcxpcs.inference.prepared import Prepared, Whole, prepare_full, prepare_shards
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.inference.target import Space, Target
from hpcxpcs.likelihood.shards import partition, shard_moments
from hpcxpcs.physics.model import TimeGrid
from hpcxpcs.pipeline.plan import scale_of
from hpcxpcs.pipeline.prepare import model_of
from hpcxpcs.pipeline.settings import point_settings
from tests.calibration.cases import CASES, case_data

SEED = 42


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted measurement that can be prepared for any number of shards."""

    config: Config
    measurement: Measurement
    parameters: tuple[ResolvedParameter, ...]
    point: PointFit
    fitted: Fitted

    @property
    def widths(self) -> tuple[float, float] | None:
        """Pooling widths of contrast and offset; None where they are flat."""
        scaling = self.fitted.settled.objective.scaling
        if scaling.mode != "hierarchical":
            return None
        precision = np.asarray(scaling.precision)
        half = precision.size // 2
        return float(precision[1] ** -0.5), float(precision[half + 1] ** -0.5)

    def prepared(self, count: int, anchored: bool = True) -> Prepared:
        """The likelihood cut into `count` shards, as `hpcxpcs fit` does it."""
        axis, represented = self.measurement.axis, self.fitted.represented
        whole = _full(self, 1.0 if anchored else float(np.sqrt(count)))
        sets = partition("angle_balanced", count, axis.count, SEED, first=axis.first_usable)
        parts = shard_moments(self.measurement.angles, self.measurement.phi, represented.moments.cells, axis, sets)
        return prepare_shards(whole, parts, count, anchored=anchored)


@cache
def _full(fit: Fit, width: float) -> Whole:
    sampled = fit.config.noise.scale == "sampled"
    return prepare_full(fit.point, fit.fitted, sampled, SEED, width)


def fitted(data: TwoTime, config: Config) -> Fit:
    """The point fit of data in memory."""
    measurement = measure(data, 1 << 30)
    model = model_of(config, data.q, TimeGrid(float(data.t[0]), float(data.dt), data.n_frames))
    parameters = resolved_parameters(config, scale_of(config, data))
    point, stages = fit_in_stages(measurement, model, parameters, point_settings(config))
    return Fit(config, measurement, stages.sampled, point, stages)


@cache
def case_fit(name: str) -> Fit:
    """The point fit of one of CASES."""
    return fitted(case_data(name), CASES[name].config())


def chains_of(
    space: Space, target: Target, stream: tuple[int, ...], warmup: int, draws: int, chains: int = 2
) -> Floats:
    """NUTS draws z (chains, draws, d) of one target."""
    sampler = nuts.Sampler(space, warmup, 10, 0.9)
    found = nuts.start(sampler, target, chains, (SEED, *stream))
    while found.step < warmup + draws:
        found = nuts.advance(sampler, target, found, min(nuts.BLOCK, warmup + draws - found.step))
    return np.asarray(found.draws.z)


def shard_draws(prepared: Prepared, warmup: int, draws: int, *stream: int) -> list[Part]:
    """The draws of every shard."""
    found = []
    for index, target in enumerate(prepared.shards):
        z = chains_of(prepared.space, target, (nuts.SHARD, index, *stream), warmup, draws)
        mixed = mixing(z)
        found.append(Part(index, z.reshape(-1, z.shape[-1]), float(np.min(mixed.ess_bulk))))
    return found


@dataclass(frozen=True)
class Sampled:
    """A posterior in physical values: parameters and noise scale (n, m), contrasts and offsets (n, 2 n_phi).

    `ess` (m,) is that of each parameter; `word` is the certificate's, or exact; `consensus` is what it judged.
    """

    word: str
    values: Floats
    levels: Floats
    ess: Floats
    consensus: Combined | None = None
    certificate: Certificate | None = None


def exact_posterior(fit: Fit, warmup: int = 300, draws: int = 1500) -> Sampled:
    """NUTS on the full condensed likelihood."""
    prepared = fit.prepared(1)
    z = chains_of(prepared.space, prepared.full, (nuts.EXACT, 0), warmup, draws)
    values, levels = physical(prepared, z.reshape(-1, z.shape[-1]))
    mixed = mixing(values.reshape(*z.shape[:2], -1))
    return Sampled("exact", values, levels, np.minimum(mixed.ess_bulk, mixed.ess_tail))


def consensus_posterior(fit: Fit, count: int, anchored: bool = True, warmup: int = 250, draws: int = 400) -> Sampled:
    """Shards, consensus and certificate."""
    prepared = fit.prepared(count, anchored)
    joint = combined(prepared, shard_draws(prepared, warmup, draws), seed=SEED)
    found = certified(prepared, joint, draws=4000, limit=None, seed=SEED)
    values, levels = physical(prepared, found.draws)
    return Sampled(found.word, values, levels, np.full(values.shape[1], found.ess), joint, found)


def physical(prepared: Prepared, z: Floats) -> tuple[Floats, Floats]:
    """Parameters with the noise scale (n, m), and contrasts and offsets (n, 2 n_phi), of draws z (n, d)."""
    found = physical_draws(prepared.space, prepared.full, z, (SEED, 4))
    return found.values, np.concatenate([found.contrast, found.offset], axis=1)
