"""What only angles together show: whether they cover what shear needs, and whether their labels fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hpcxpcs.data.quality.robust import Floats
from hpcxpcs.data.quality.signal import Signal

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
        found.append(
            float(np.trapezoid((signal.curve - baseline) / height, log_lag) / (log_lag[-1] - log_lag[0]))
        )
    return found
