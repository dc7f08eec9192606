"""What the signal is, without a model: plateau, baseline, decay along the lag and drift along the age of each matrix;
of all angles together, whether they cover what shear needs, and whether their labels fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.quality.outliers import mean_of_finite

EVERY_LAG = 32
"""Lags up to this one (in frames) are all looked at, longer ones in steps that grow."""

LONGER_LAGS = 40
PLATEAU = 3
"""Lags, from 1, whose mean is the plateau that the decay begins from."""

FEWEST_PAIRS = 5
"""Lags with fewer usable pairs are left out."""

TAIL = 0.5
"""Lags from this share of the longest one on say whether the decay has ended."""

QUARTER_DISTANCE = 0.75
"""Distance of the middles of the first and the last quarter, in units of the whole."""


@dataclass(frozen=True)
class Signal:
    """The decay of one matrix: its curve over lags (frames), its ends, and how these change with the age.

    `still_falling` is the share of the contrast that the second half of the tail lies below the first;
    `first_drop` the share that is lost from lag 1 to 2. `drift` is the change over the whole measurement that
    plateau and long lags have in common, `contrast_error` and `drift_error` are standard deviations.
    """

    lags: NDArray[np.intp]
    curve: Floats
    plateau: float
    baseline: float
    contrast_error: float
    still_falling: float
    first_drop: float
    drift: float
    drift_error: float

    @property
    def contrast(self) -> float:
        """How far the correlation falls."""
        return self.plateau - self.baseline


def signal_of(work: NDArray[Any], sigma: float, shared: float) -> Signal | None:
    """Return the signal of `work` (N, N), NaN where not usable, with noise `sigma` per pair and `shared` per frame.

    None when hardly any lag has usable pairs.
    """
    n = len(work)
    every = min(EVERY_LAG, n - 1)
    longer = np.geomspace(every, n - 1, LONGER_LAGS).round().astype(int)
    lags = np.unique([*range(1, every + 1), *longer.tolist()])
    found = [(lag, *mean_of_finite(work.diagonal(lag))) for lag in lags]
    kept = [(lag, mean, count) for lag, mean, count in found if count >= FEWEST_PAIRS]
    if len(kept) <= PLATEAU:
        return None
    at, curve, counts = (np.array(column) for column in zip(*kept, strict=True))
    plateau = float(np.average(curve[:PLATEAU], weights=counts[:PLATEAU]))
    smooth = _smoothed(curve, counts)
    baseline = float(smooth.min())
    pairs = float(counts[:PLATEAU].sum())
    error = np.sqrt(sigma**2 / pairs + 4.0 * shared**2 / counts[0]) * np.sqrt(2.0)
    contrast = plateau - baseline
    share = 1.0 / contrast if contrast > 0 else 0.0
    drift, drift_error = _drift(work, sigma, shared)
    return Signal(
        lags=at,
        curve=curve,
        plateau=plateau,
        baseline=baseline,
        contrast_error=float(error),
        still_falling=share * _fall_of_the_tail(at, curve, counts, n),
        first_drop=share * float(curve[0] - curve[1]),
        drift=drift,
        drift_error=drift_error,
    )


def _smoothed(curve: Floats, counts: Floats, width: int = 5) -> Floats:
    """Weighted running means, so that the lowest one is not the lowest noise."""
    window = np.lib.stride_tricks.sliding_window_view
    if len(curve) < width:
        return np.array([np.average(curve, weights=counts)])
    weights = window(counts, width)
    return np.asarray((window(curve, width) * weights).sum(axis=1) / weights.sum(axis=1))


def _fall_of_the_tail(lags: NDArray[np.intp], curve: Floats, counts: Floats, n: int) -> float:
    tail = lags >= TAIL * (n - 1)
    late = lags >= (1.0 + TAIL) / 2.0 * (n - 1)
    early = tail & ~late
    if not (early.any() and late.any()):
        return 0.0
    return float(np.average(curve[early], weights=counts[early]) - np.average(curve[late], weights=counts[late]))


def _drift(work: NDArray[Any], sigma: float, shared: float) -> tuple[float, float]:
    """Change of the level over the measurement that short and long lags agree on, and its standard deviation.

    Physics changes the decay and with it long lags; what moves both is the level itself.
    """
    n = len(work)
    middle = n // 2
    short, short_pairs = _change([work.diagonal(lag) for lag in range(1, PLATEAU + 1)])
    long, long_pairs = _change([work.diagonal(lag) for lag in range(middle, middle + PLATEAU)])
    long *= n / (n - middle)
    if not np.isfinite(short * long) or short * long <= 0.0:
        return 0.0, 0.0
    pairs = min(short_pairs, long_pairs)
    frames = max(1.0, pairs / PLATEAU)
    error = np.sqrt(2.0 * sigma**2 / pairs + 8.0 * shared**2 / frames) / QUARTER_DISTANCE * 2.0
    return float(np.sign(short) * min(abs(short), abs(long))), float(error)


def _change(diagonals: list[NDArray[Any]]) -> tuple[float, int]:
    """Change from beginning to end of diagonals, from their first and last quarters, and the pairs in a quarter."""
    quarter = max(1, len(diagonals[0]) // 4)
    first, first_count = mean_of_finite(np.concatenate([line[:quarter] for line in diagonals]))
    last, last_count = mean_of_finite(np.concatenate([line[-quarter:] for line in diagonals]))
    return (last - first) / QUARTER_DISTANCE, max(1, min(first_count, last_count))


SAME_ANGLE = 0.01
"""Degrees within which two angles are one."""

HALF_TURN = 180.0
"""Period in degrees of what shear does: opposite directions decay alike."""

MOST_SWAPPED = 64
"""Angles up to which exchanged labels are looked for."""

CURVE_SPREAD = 0.02
"""Scatter of the decays about a smooth function of the angle below which nothing is exchanged."""

BETTER = 0.05
"""Share of the scatter (in squares) that may be left once the right labels are put back."""


def duplicates(phi: Floats) -> tuple[float, ...]:
    """Return the angles (degrees) that occur more than once, each named once."""
    ordered = np.sort(np.mod(phi, 360.0))
    again = np.flatnonzero(np.diff(ordered) < SAME_ANGLE)
    return tuple(float(value) for value in np.unique(ordered[again].round(4)))


def directions(phi: Floats) -> Floats:
    """Return the different directions in degrees, in [0, 180): opposite angles say the same about shear."""
    folded = np.sort(np.mod(phi, HALF_TURN))
    kept = [value for k, value in enumerate(folded) if k == 0 or value - folded[k - 1] >= SAME_ANGLE]
    if len(kept) > 1 and kept[0] + HALF_TURN - kept[-1] < SAME_ANGLE:
        kept.pop()
    return np.array(kept)


def widest_gap(phi: Floats) -> float:
    """Return the widest interval in degrees between neighbouring directions, 180 for a single one."""
    found = directions(phi)
    if len(found) < 2:
        return HALF_TURN
    return float(np.diff([*found, found[0] + HALF_TURN]).max())


def swapped(phi: Floats, signals: Sequence[Signal]) -> tuple[float, float] | None:
    """Return two angles whose decays only fit the others when exchanged, or None.

    The area below a decay is, under shear, a smooth function of the angle with a period of half a turn.
    """
    order = 2 if len(phi) >= 10 else 1
    if not 2 * order + 4 <= len(phi) <= MOST_SWAPPED:
        return None
    area = np.array(_areas(signals))
    basis = [np.ones(len(phi))]
    for k in range(1, order + 1):
        basis += [np.cos(2 * k * np.deg2rad(phi)), np.sin(2 * k * np.deg2rad(phi))]
    orthogonal = np.linalg.qr(np.stack(basis, axis=1))[0]

    def left(values: Floats) -> float:
        return float(((values - orthogonal @ (orthogonal.T @ values)) ** 2).sum())

    before = left(area)
    if before <= len(phi) * CURVE_SPREAD**2:
        return None
    pairs = list(combinations(range(len(phi)), 2))
    after = [left(_exchanged(area, i, j)) for i, j in pairs]
    best = int(np.argmin(after))
    if after[best] > BETTER * before:
        return None
    i, j = pairs[best]
    return float(phi[i]), float(phi[j])


def _exchanged(values: Floats, i: int, j: int) -> Floats:
    other = values.copy()
    other[[i, j]] = values[[j, i]]
    return other


def _areas(signals: Sequence[Signal]) -> list[float]:
    """The mean over the logarithm of the lag of each decay, from 1 at its plateau to 0 at the common baseline."""
    baseline = float(np.median([signal.baseline for signal in signals]))
    found = []
    for signal in signals:
        height = max(signal.plateau - baseline, 1e-12)
        log_lag = np.log(signal.lags)
        found.append(float(np.trapezoid((signal.curve - baseline) / height, log_lag) / (log_lag[-1] - log_lag[0])))
    return found
