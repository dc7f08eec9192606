"""Random data of all kinds of masks, and the sums that moments hold, angle by angle, whatever their layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.moments import Moments


def random_angles(axis: TimeAxis, kinds: Sequence[str], seed: int = 0) -> list[AngleMatrix]:
    """Random data, one angle per kind: plain, dead (the same frames each time), other, pairs, sigma."""
    rng = np.random.default_rng(seed)
    count = axis.count
    dead, other = np.ones((2, count), dtype=bool)
    dead[[0, count // 3, count - 1]] = other[[count // 2, count // 2 + 1]] = False
    found = []
    for kind in kinds:
        c2 = rng.standard_normal((count, count))
        frame_ok = {"dead": dead, "pairs": dead, "other": other}.get(kind, np.ones(count, dtype=bool)).copy()
        frame_ok[: axis.first_usable] = False
        pair_ok = rng.random((count, count)) > 0.2 if kind == "pairs" else None
        sigma = 0.5 + rng.random((count, count)) if kind == "sigma" else None
        found.append(AngleMatrix(c2, frame_ok, pair_ok, sigma))
    return found


def sums_of(moments: Moments) -> list[np.ndarray]:
    """Gram and data of every angle, group by group, whatever the classes; then power and pairs."""
    members = np.asarray(moments.arrays.phi).shape[1]
    place = np.asarray(moments.arrays.place)
    found = []
    for group in moments.arrays.groups:
        found.append(np.asarray(group.gram)[place // members])
        found.append(np.asarray(group.data)[place // members, place % members])
    return [*found, np.asarray(moments.arrays.power), moments.pairs]


def assert_same_sums(left: Moments, right: Moments) -> None:
    for mine, its in zip(sums_of(left), sums_of(right), strict=True):
        assert np.allclose(mine, its, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(its).max()))
