"""Multi-tau results with known truth: g2(τ) of bins whose relaxation time follows a power of q."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.g2.layouts import Table, write_g2
from hpcxpcs.g2.models import FORMS, Scale, Shape, curve

TRUTH = {"tau": 0.01, "n": 2.0, "exponent": 1.0, "ratio": 20.0, "fraction": 0.5, "contrast": 0.15, "baseline": 1.0}
"""Defaults: tau (s) at the middle q, and its power n of q; the decay's exponent; tau_slow/tau and the share of the
faster of two decays."""

Q_RANGE = (0.003, 0.05)
"""q (1/Å) of the first and the last bin of real files."""

FALLS = 0.55
"""Power of the delay with which errors fall: real ones go from 0.18 at lag 1 to 2e-4 at lag 81920."""

CORRELATION = 2.0
"""Delays of the grid over which the noise of files with blocks is correlated (1/e)."""

PER_Q = 9
"""Bins at one q, with as many angles, where they come in rings of several."""


@dataclass(frozen=True)
class G2Simulation:
    """What to simulate; dt in s, `noise` the error of g2 at the first delay, `empty` the share of entries without
    pairs.

    `parameters` overrides values of TRUTH. `blocks` K > 0 adds g2 of K blocks, and correlates the noise of neighbouring
    delays; `zero_errors` values are written with error 0, although they have noise.
    """

    model: str
    output: Path
    parameters: Mapping[str, float] = field(default_factory=dict)
    bins: int = 36
    delays: int = 60
    dt: float = 2e-5
    noise: float = 0.02
    blocks: int = 0
    empty: float = 0.0
    zero_errors: int = 0
    seed: int = 0
    format: str = "nexus"
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated, before anything is computed."""
        if self.model not in FORMS:
            raise ConfigError(f"model: {self.model!r} is no decay of g2; choose one of {', '.join(FORMS)}")
        unknown = sorted(set(self.parameters) - set(TRUTH))
        if unknown:
            raise ConfigError(f"parameters: {', '.join(unknown)} unknown; known: {', '.join(TRUTH)}")
        values = {**TRUTH, **self.parameters}
        for name in ("tau", "exponent", "ratio", "contrast", "baseline"):
            if not values[name] > 0.0:
                raise ConfigError(f"parameters.{name}: {values[name]:g} must be greater than 0")
        if self.bins < 1 or self.delays < 2 or self.blocks < 0 or self.blocks == 1:
            raise ConfigError("bins must be at least 1, delays at least 2, blocks 0 or at least 2")
        if not (math.isfinite(self.dt) and self.dt > 0 and self.noise > 0 and 0.0 <= self.empty < 1.0):
            raise ConfigError("dt and noise must be greater than 0, and empty from 0 to below 1")


def multi_tau_lags(count: int) -> np.ndarray:
    """The first delays of a multi-tau correlator in frames (count,): 1 … 8, then four to an octave."""
    lags, width = list(range(1, 9)), 2
    while len(lags) < count:
        lags += [lags[-1] + width * k for k in range(1, 5)]
        width *= 2
    return np.array(lags[:count])


def simulated_table(spec: G2Simulation) -> Table:
    """The values of a simulated file, and its truth."""
    values, rng = {**TRUTH, **spec.parameters}, np.random.default_rng(spec.seed)
    q, phi = _bins(spec.bins)
    tau = multi_tau_lags(spec.delays) * spec.dt
    relaxation = values["tau"] * (q / math.exp(float(np.mean(np.log(np.unique(q)))))) ** -values["n"]
    shape = Shape(spec.model)
    rows = _parameters(shape, values, relaxation)
    g2 = np.stack(
        [np.asarray(curve(shape, Scale(0.0, 0.0, 0.0), jnp.asarray(row), jnp.asarray(tau))) for row in rows], 1
    )
    error = np.repeat((spec.noise * (tau / tau[0]) ** -FALLS)[:, None], spec.bins, axis=1)
    noise, partial = _noise(spec, rng)
    with_noise = g2 + error * noise
    blocks = None if partial is None else g2 + error * partial
    error = error.copy()
    if spec.empty:
        early = np.linspace(2.0 * spec.empty, 0.0, spec.delays)[:, None]
        gone = rng.random(g2.shape) < early
        with_noise[gone] = error[gone] = np.nan
        blocks = None if blocks is None else np.where(gone, np.nan, blocks)
    error.flat[rng.choice(error.size, min(spec.zero_errors, error.size), replace=False)] = 0.0
    truth = {
        "schema_version": 1,
        "kind": "g2",
        "model": spec.model,
        "parameters": values,
        "q": q.tolist(),
        "phi": phi.tolist(),
        "names": list(shape.parameters),
        "bins": rows.tolist(),
        "noise": spec.noise,
        "blocks": spec.blocks,
        "seed": spec.seed,
    }
    return Table(tau, with_noise, error, q, phi, spec.dt, blocks, truth=truth)


def _bins(count: int) -> tuple[Floats, Floats]:
    """q (1/Å) and φ (degrees) of bins: rings of PER_Q angles where they divide a large number, else one bin per q."""
    angles = PER_Q if count > 4 * PER_Q and count % PER_Q == 0 else 1
    rings = np.linspace(*Q_RANGE, count // angles) if count > angles else np.array([Q_RANGE[0]])
    return np.repeat(rings, angles), np.tile(np.arange(angles) * (360.0 / angles), len(rings))


def _parameters(shape: Shape, values: Mapping[str, float], relaxation: Floats) -> Floats:
    """True parameters (B, p) of all bins."""
    columns = {name: np.full(len(relaxation), value) for name, value in values.items()}
    columns |= {"tau": relaxation, "tau_slow": relaxation * values["ratio"]}
    return np.stack([columns[name] for name in shape.parameters], axis=1)


def _noise(spec: G2Simulation, rng: np.random.Generator) -> tuple[Floats, Floats | None]:
    """Noise (n, B) of unit variance, and that of blocks (K, n, B), whose mean it is."""
    if not spec.blocks:
        return rng.standard_normal((spec.delays, spec.bins)), None
    apart = np.abs(np.subtract.outer(np.arange(spec.delays), np.arange(spec.delays)))
    root = np.linalg.cholesky(np.exp(-apart / CORRELATION))
    blocks = np.sqrt(spec.blocks) * (root @ rng.standard_normal((spec.blocks, spec.delays, spec.bins)))
    return blocks.mean(axis=0), blocks


def simulate_g2(spec: G2Simulation) -> list[str]:
    """Write a simulated file and its truth beside it; return what to tell."""
    beside = spec.output.with_name(f"{spec.output.name}.truth.json")
    taken = [str(path) for path in (spec.output, beside) if path.exists()]
    if taken and not spec.force:
        raise ConfigError(f"{', '.join(taken)}: exists already; choose another name, or add --force")
    table = simulated_table(spec)
    write_whole(spec.format, spec.output, table)
    atomic_write_text(beside, dumps(table.truth))
    told = ", ".join(f"{name} {value:g}" for name, value in {**TRUTH, **spec.parameters}.items())
    return [
        f"model     {spec.model}: {told}",
        f"g2        {spec.bins} bins x {spec.delays} delays of {spec.dt:g} s, {spec.format}",
        f"wrote     {spec.output} and {beside} (the truth)",
    ]


def write_whole(layout: str, path: Path, table: Table) -> None:
    """Write a file that appears under its name when it is complete."""
    unfinished = path.with_name(f".{path.name}.temp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_g2(layout, unfinished, table)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def true_rows(truth: Mapping[str, Any] | None, names: tuple[str, ...]) -> Floats | None:
    """True parameters (B, p) of the names a fit has, None where the truth is of another model."""
    if truth is None or truth.get("kind") != "g2" or not set(names) <= {*truth["names"], "exponent"}:
        return None
    table = np.asarray(truth["bins"], dtype=float)
    return np.stack(
        [table[:, truth["names"].index(name)] if name in truth["names"] else np.ones(len(table)) for name in names],
        axis=1,
    )
