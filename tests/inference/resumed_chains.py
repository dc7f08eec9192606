"""Takes chains up in a process of its own: python -m tests.inference.resumed_chains FOLDER NAME... ."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcxpcs.inference import nuts
from hpcxpcs.inference.target import Target
from hpcxpcs.likelihood.condense import moments_from_arrays, moments_to_arrays
from tests.inference.fitting import simulated
from tests.inference.posteriors import Posed, posed

WARMUP, STEPS, CHAINS = 100, 180, 2
STREAM = (7, nuts.SHARD, 0, 0)
_OWN = ("pairs", "tempering", "precision", "shift", "origin", "transform", "softness", "sigma")


def problem() -> Posed:
    """A small posterior, the same in every process."""
    return posed(simulated("static"), "averaged")


def sampler(posterior: Posed) -> nuts.Sampler:
    """A sampler with a warm-up long enough for several windows of adaptation."""
    return nuts.Sampler(posterior.space, WARMUP, 8, 0.8)


def run(sampler: nuts.Sampler, target: Target, chains: nuts.Chains, blocks: Sequence[int]) -> nuts.Chains:
    """The chains after blocks of the given sizes, taken in turn until STEPS."""
    index = 0
    while chains.step < STEPS:
        count = min(blocks[index % len(blocks)], STEPS - chains.step)
        chains = nuts.advance(sampler, target, chains, count)
        index += 1
    return chains


def stored(target: Target) -> dict[str, np.ndarray]:
    """The arrays of a target by name."""
    return moments_to_arrays(target.arrays) | {name: np.asarray(getattr(target, name)) for name in _OWN}


def main(folder: Path, names: Sequence[str]) -> None:
    """Finish the chains in NAME.npz as NAME.done.npz, with the likelihood from target.npz."""
    posterior = problem()
    with np.load(folder / "target.npz") as found:
        arrays = dict(found)
    target = Target(
        arrays=moments_from_arrays(arrays), scaling=posterior.full.scaling, **{name: arrays[name] for name in _OWN}
    )
    for name in names:
        with np.load(folder / f"{name}.npz") as found:
            chains = nuts.resume_chains(sampler(posterior), target, dict(found))
        assert nuts.density_moved(sampler(posterior), target, chains) < 1e-9
        np.savez(folder / f"{name}.done.npz", **run(sampler(posterior), target, chains, [50]).to_arrays())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
