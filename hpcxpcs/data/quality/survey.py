"""Everything quality control knows of one angle: numbers measured on its matrix, as stored and as fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data import clean
from hpcxpcs.data.clean import Masks
from hpcxpcs.data.quality.frames import departures, gaps, hot_frames, shared_noise
from hpcxpcs.data.quality.levels import Level, covers
from hpcxpcs.data.quality.pairs import saturated_value, sigma_of, spikes
from hpcxpcs.data.quality.repair import Touched, screened, size_of, work_of
from hpcxpcs.data.quality.signal import Signal, signal_of
from hpcxpcs.data.quality.treatment import Treated, treated
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError

Matrix = NDArray[np.floating]

ALL_NEGATIVE = 0.25
"""Share of negative pairs from which they are the level of the data, not exceptions."""


@dataclass(frozen=True)
class Integrity:
    """Counts on a matrix as stored, of pairs i < j and frames (from 1 in the file).

    `asymmetry` is the root mean square difference of the triangles, as a share of the matrix's spread; 0 for rounding.
    """

    pairs: int
    non_finite: int
    empty: int
    negative: int
    saturated: int
    dead_frames: tuple[int, ...]
    constant: bool
    asymmetry: float


@dataclass(frozen=True)
class Shown:
    """What the final data of an angle show: noise per pair and per frame, signal, odd frames (from 1) and pairs.

    `shot_noise` is what the diagonal stands above the plateau, 1 / photons per pixel and frame.
    """

    sigma: float
    shared_noise: float
    signal: Signal | None
    hot_frames: tuple[int, ...]
    gaps: tuple[int, ...]
    spikes: int
    shot_noise: float


@dataclass(frozen=True)
class Survey:
    """One angle: `phi` in degrees, integrity, share of pairs that enter a fit, what they show, what was repaired.

    `refused` is why a fit would not take it; then nothing is shown. `treated` is what preprocessing did to it.
    """

    phi: float
    integrity: Integrity
    usable_frames: int
    usable_pairs: int
    shown: Shown | None
    touched: tuple[Touched, ...]
    refused: str | None
    treated: Treated | None = None


def survey(data: TwoTime, k: int, level: Level) -> Survey:
    """Read angle k of a record once and measure what a level asks for; one matrix and its copy are in memory."""
    stored = data.matrices.c2(k)
    phi, first = float(data.phi[k]), data.frames[0]
    name = f"phi = {phi:g}"
    c2, _ = clean.symmetric(stored)
    integrity = _integrity(stored, c2, first, level)
    del stored
    try:
        masks, touched = screened(c2, data.screening, name, first)
    except DataError as error:
        return Survey(phi, integrity, 0, 0, None, (), str(error))
    screened_out = masks
    masks = Masks(masks.dead | (data.t == 0.0), masks.pair_ok)
    work = work_of(c2, masks)
    frames, pairs = int(np.count_nonzero(~masks.dead)), int(np.count_nonzero(np.isfinite(work))) // 2
    try:
        clean.check_variation(c2, ~masks.dead, masks, name)
        made = treated(c2, screened_out, data.processing, name, level)
    except DataError as error:
        return Survey(phi, integrity, frames, pairs, None, touched, str(error))
    shown = _shown(c2, _counted_once(work, integrity), first, level) if covers(level, "standard") else None
    return Survey(phi, integrity, frames, pairs, shown, touched, None, made)


def _counted_once(work: Matrix, integrity: Integrity) -> Matrix:
    """Leave out, in place, what integrity has counted and no signal contains: or one damage would hide another."""
    work[work == 0.0] = np.nan
    if integrity.negative < ALL_NEGATIVE * integrity.pairs:
        work[work < 0.0] = np.nan
    return work


def _integrity(stored: Matrix, c2: Matrix, first: int, level: Level) -> Integrity:
    dead = clean.silent_frames(c2, also_non_finite=True)
    live = ~dead
    upper = np.triu(live[:, None] & live[None, :], 1)
    values = c2[upper]
    finite = values[np.isfinite(values)]
    work = work_of(c2, Masks(dead, None))
    value = saturated_value(work) if sigma_of(work) > 0.0 else None
    n = len(c2)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Integrity(
        pairs=n * (n - 1) // 2,
        non_finite=int(values.size - finite.size),
        empty=int(np.count_nonzero(finite == 0.0)),
        negative=int(np.count_nonzero(finite < 0.0)),
        saturated=0 if value is None else int(np.count_nonzero(finite == value)),
        dead_frames=tuple((np.flatnonzero(dead) + first).tolist()),
        constant=high - low <= clean.rounding(finite) if finite.size else False,
        asymmetry=_asymmetry(stored, work) if covers(level, "standard") else 0.0,
    )


def _asymmetry(stored: Matrix, work: Matrix) -> float:
    """Root mean square difference of the triangles over the spread of the matrix; 0 for a half and for rounding."""
    if clean.stored_half(stored) != "full":
        return 0.0
    total, count, largest = 0.0, 0, 0.0
    for i in range(1, len(stored)):
        with np.errstate(invalid="ignore"):
            difference = np.abs(stored[i, :i] - stored[:i, i].astype(np.float64))
        difference = difference[np.isfinite(difference)]
        total, count = total + float(np.sum(difference**2)), count + difference.size
        largest = max(largest, float(difference.max(initial=0.0)))
    size = size_of(work)
    if count == 0 or size == 0.0 or largest <= clean.rounding(work):
        return 0.0
    return float(np.sqrt(total / count)) / size


def _shown(c2: Matrix, work: Matrix, first: int, level: Level) -> Shown:
    """What the usable pairs show; hot frames are left out of what is measured after them."""
    sigma, size = sigma_of(work), size_of(work)
    hot = hot_frames(departures(work), size, sigma)
    if hot.any():
        work[hot, :] = np.nan
        work[:, hot] = np.nan
    shared = shared_noise(departures(work), sigma)
    signal = signal_of(work, sigma, shared)
    outliers = spikes(work, sigma, size)
    deep = covers(level, "comprehensive")
    found = gaps(work, signal.contrast) if deep and signal is not None else ()
    live = np.isfinite(work).any(axis=1)
    diagonal = c2.diagonal()[live]
    diagonal = diagonal[np.isfinite(diagonal)]
    spike = float(np.mean(diagonal, dtype=np.float64)) - signal.plateau if signal and diagonal.size else 0.0
    return Shown(
        sigma=sigma,
        shared_noise=shared,
        signal=signal,
        hot_frames=tuple((np.flatnonzero(hot) + first).tolist()),
        gaps=tuple(frame + first for frame in found),
        spikes=len(outliers),
        shot_noise=spike,
    )
