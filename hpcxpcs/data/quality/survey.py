"""Everything quality control knows of one angle: numbers measured on its matrix, as stored and as fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data import clean
from hpcxpcs.data.clean import Masks
from hpcxpcs.data.pair_values import pair_values
from hpcxpcs.data.quality.frames import departures, gaps, hot_frames, live_frames, shared_noise
from hpcxpcs.data.quality.levels import Level, covers
from hpcxpcs.data.quality.pairs import saturated_value, sigma_of, spikes
from hpcxpcs.data.quality.repair import Touched, screened, size_of, work_of
from hpcxpcs.data.quality.signal import Signal, signal_of
from hpcxpcs.data.quality.treatment import Treated, treated
from hpcxpcs.data.quality.triangles import Apart, triangles_apart
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
    """Read angle k of a record once and measure what a level asks for.

    In memory are one matrix, one copy of it, and which of its pairs are masked; everything else is made slab by slab.
    """
    c2 = data.matrices.c2(k)
    c2 = c2 if c2.dtype.kind == "f" else c2.astype(np.float64)
    phi, first = float(data.phi[k]), data.frames[0]
    name = f"phi = {phi:g}"
    apart = triangles_apart(c2) if covers(level, "standard") else Apart()
    clean.symmetrise(c2)
    integrity = _integrity(c2, apart, first)
    try:
        masks, touched = screened(c2, data.screening, name, first)
    except DataError as error:
        return Survey(phi, integrity, 0, 0, None, (), str(error))
    screened_out = masks
    masks = Masks(masks.dead | (data.t == 0.0), masks.pair_ok)
    frames, pairs = int(np.count_nonzero(~masks.dead)), _finite_pairs(c2, masks)
    try:
        clean.check_variation(c2, ~masks.dead, masks, name)
        made = treated(c2, screened_out, data.processing, name, level)
    except DataError as error:
        return Survey(phi, integrity, frames, pairs, None, touched, str(error))
    shown = None
    if covers(level, "standard"):
        diagonal = c2.diagonal().copy()
        shown = _shown(_counted_once(clean.blanked(c2, masks), integrity), diagonal, first, level)
    return Survey(phi, integrity, frames, pairs, shown, touched, None, made)


def _counted_once(work: Matrix, integrity: Integrity) -> Matrix:
    """Leave out, in place, what integrity has counted and no signal contains: or one damage would hide another."""
    lowest = 0.0 if integrity.negative < ALL_NEGATIVE * integrity.pairs else -np.inf
    for rows in clean.row_slabs(len(work)):
        slab = work[rows]
        slab[slab == 0.0] = np.nan
        slab[slab < lowest] = np.nan
    return work


def _finite_pairs(c2: Matrix, masks: Masks) -> int:
    """How many usable pairs of a symmetric matrix hold a number."""
    return sum(
        int(np.count_nonzero(np.isfinite(c2[rows]) & clean.pairs_of_rows(~masks.dead, masks, rows)))
        for rows in clean.row_slabs(len(c2))
    )


def _integrity(c2: Matrix, apart: Apart, first: int) -> Integrity:
    dead = clean.silent_frames(c2)
    n, found = len(c2), pair_values(c2, ~dead)
    ends = np.array([found.smallest, found.largest], dtype=c2.dtype)
    rounding = clean.rounding(ends) if found.finite else 0.0
    work = work_of(c2, Masks(dead, None))
    value = saturated_value(work)
    return Integrity(
        pairs=n * (n - 1) // 2,
        non_finite=found.pairs - found.finite,
        empty=found.zero,
        negative=found.negative,
        saturated=0 if value is None or not sigma_of(work) > 0.0 else _holding(work, value),
        dead_frames=tuple((np.flatnonzero(dead) + first).tolist()),
        constant=found.finite > 0 and found.largest - found.smallest <= rounding,
        asymmetry=_share(apart, work, rounding),
    )


def _holding(work: Matrix, value: float) -> int:
    """How many pairs of a symmetric matrix hold a value."""
    return sum(int(np.count_nonzero(work[rows] == value)) for rows in clean.row_slabs(len(work))) // 2


def _share(apart: Apart, work: Matrix, rounding: float) -> float:
    """The distance of the triangles as a share of the spread of the matrix; 0 for rounding."""
    size = size_of(work) if apart.largest > rounding else 0.0
    return apart.root_mean_square / size if size > 0.0 else 0.0


def _shown(work: Matrix, diagonal: NDArray[Any], first: int, level: Level) -> Shown:
    """What the usable pairs and the stored diagonal (N,) show; hot frames are left out of what follows them."""
    sigma, size = sigma_of(work), size_of(work)
    hot = hot_frames(departures(work), size, sigma)
    if hot.any():
        work[hot, :] = np.nan
        work[:, hot] = np.nan
    shared = shared_noise(departures(work), sigma)
    live = np.flatnonzero(live_frames(work))
    measured = slice(live[0], live[-1] + 1) if live.size else slice(None)
    signal = signal_of(work[measured, measured], sigma, shared)
    outliers = spikes(work, sigma, size)
    deep = covers(level, "comprehensive")
    found = gaps(work, signal.contrast) if deep and signal is not None else ()
    diagonal = diagonal[live_frames(work) & np.isfinite(diagonal)]
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
