"""A measurement as the fit sees it: angles, a time axis, matrices read once when they fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np

from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.data.matrices import AngleMatrix, Angles, ReadAhead, each_in_order
from hpcxpcs.data.quality.photons import Counted, counted
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.raw import RawPairs, each_angle, pair_weights

IN_FLIGHT, KEPT_IN_FLIGHT = 3.5, 2.0
"""Sizes of a matrix that are in memory while one is worked on and the next is read: the two, and what HDF5 needs to
uncompress one, which is as large as both the stored and the uncompressed matrix. Kept matrices are not compressed."""


Demand = Callable[[], None]
"""Raises when a fit is no longer wanted; called before a matrix is looked at and before an evaluation of the cost."""


def always_wanted() -> None:
    """A fit that goes on to its end."""


@dataclass(frozen=True)
class Measurement:
    """Matrices by angle, phi (n_phi,) in degrees, time axis; `has_sigma` when the data carry their own errors.

    In a joint fit phi are the numbers of the angles, as its model wants to be asked, and `set_of_angle` (n_phi,) the
    data sets that they belong to, of `set_labels`. `counted` are the photons and pixels that the file tells of.
    """

    angles: Angles
    phi: Floats
    axis: TimeAxis
    has_sigma: bool
    threads: int = 1
    still_wanted: Demand = always_wanted
    counted: Counted | None = None
    set_of_angle: Integers | None = None
    set_labels: tuple[str, ...] = ()

    @property
    def raw(self) -> RawPairs:
        """Every pair, uncompressed."""
        return RawPairs(self.angles, self.phi, self.axis, self.threads)

    @property
    def drift(self) -> Floats | None:
        """How bright each frame is (n_phi, N), 1 where the file says without light; None where it does not tell."""
        found = None if self.counted is None else self.counted.drift
        return None if found is None else np.where(np.isfinite(found), found, 1.0)

    @property
    def time_range(self) -> tuple[float, float]:
        """First and last time (s) that enter the likelihood."""
        times = self.axis.all_times()
        return float(times[self.axis.first_usable]), float(times[-1])


def measure(
    data: TwoTime,
    keep_bytes: int,
    on_angle: Callable[[int], None] | None = None,
    threads: int = 1,
    ahead_bytes: int | None = None,
    still_wanted: Demand = always_wanted,
) -> Measurement:
    """Wrap a TwoTime; matrices that fit into keep_bytes altogether are read once and kept as stored.

    `on_angle` hears how many are there. Larger data are read again in every pass, one matrix after the other; the next
    one is read while one is worked on, unless both need more than ahead_bytes.
    """
    first = data.angle(0)
    size = first.c2.nbytes + (0 if first.pair_ok is None else first.pair_ok.nbytes)
    size += 0 if first.sigma is None or not any(first.sigma.strides) else first.sigma.nbytes
    axis = TimeAxis(float(data.t[0]), float(data.dt), data.n_frames)
    phi, of_set = data.asked_angles, data.set_of_angle if data.sets else None
    if size * data.n_phi > keep_bytes:
        in_flight = size * (IN_FLIGHT if data.kept is None else KEPT_IN_FLIGHT)
        at_once = 2 if ahead_bytes is None or in_flight <= ahead_bytes else 1
        slow = ReadAhead(_while_wanted(data.angle, still_wanted), at_once)
        return Measurement(
            slow, phi, axis, first.sigma is not None, threads, still_wanted, counted(data), of_set, data.set_labels
        )
    done, matrix_of = count(1), _while_wanted(data.angle, still_wanted)

    def read(index: int) -> AngleMatrix:
        matrix = first if index == 0 else matrix_of(index)
        if on_angle is not None:
            on_angle(next(done))
        return matrix

    held = each_angle(read, data.n_phi, threads)
    kept = _while_wanted(held.__getitem__, still_wanted)
    return Measurement(
        kept, phi, axis, first.sigma is not None, threads, still_wanted, counted(data), of_set, data.set_labels
    )


def _while_wanted(angles: Angles, still_wanted: Demand) -> Angles:
    """The same matrices, as long as the fit is wanted."""

    def asked(k: int) -> AngleMatrix:
        still_wanted()
        return angles(k)

    return asked


def stated_noise(measurement: Measurement, rows: int = 64) -> Floats:
    """The data's own σ of a typical pair per angle (n_phi,), from a few rows; 1 where they have none."""
    if not measurement.has_sigma:
        return np.ones(len(measurement.phi))
    chosen = np.unique(np.linspace(measurement.axis.first_usable, measurement.axis.count - 2, rows).round().astype(int))

    def typical(_: int, matrix: AngleMatrix) -> float:
        used = np.concatenate([pair_weights(matrix, slice(row, row + 1))[0] for row in chosen])
        return float(np.mean(used[used > 0.0]) ** -0.5) if np.any(used > 0.0) else 1.0

    return np.array(list(each_in_order(typical, measurement.angles, len(measurement.phi))))


def difference_noise(measurement: Measurement, rows: int = 64) -> Floats:
    """A first guess of σ per angle (n_phi,): scaled median third difference of neighbouring lags on a few rows.

    Third differences, because first ones of a strong, smooth decay are signal: σ would come out many times too large.
    """
    count = measurement.axis.count
    chosen = np.unique(np.linspace(measurement.axis.first_usable, count - 3, rows).round().astype(int))

    def guessed(_: int, matrix: AngleMatrix) -> float:
        steps = []
        for row in chosen[matrix.frame_ok[chosen]]:
            usable = matrix.frame_ok[row + 1 :]
            if matrix.pair_ok is not None:
                usable = usable & matrix.pair_ok[row, row + 1 :]
            steps.append(np.diff(matrix.c2[row, row + 1 :].astype(np.float64)[usable], n=3))
        change = np.concatenate(steps) if steps else np.zeros(0)
        return float(1.4826 * np.median(np.abs(change)) / np.sqrt(20.0)) if change.size else 0.0

    return np.array(list(each_in_order(guessed, measurement.angles, len(measurement.phi))))
