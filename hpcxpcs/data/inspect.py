"""What is in a data file: layout, bins, frames, and the state of the matrices that would be selected."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from hpcxpcs.config import Config
from hpcxpcs.data import clean
from hpcxpcs.data.clean import Screening, pair_values
from hpcxpcs.data.formats import BinInfo, Layout, has_truth, open_file
from hpcxpcs.data.quality.outliers import screened
from hpcxpcs.data.select import (
    PhiInterval,
    chosen_bins,
    frame_window,
    in_phi_ranges,
    nearest_q,
    rings,
    screening_of,
    time_step,
)
from hpcxpcs.errors import DataError

Q_TOLERANCE = 0.1
"""The largest accepted relative distance to the asked q, as in data_filtering.q_tolerance."""

EXAMINED_UNASKED = 6
"""How many matrices are read when no q was asked for (a file may hold a thousand)."""


@dataclass(frozen=True)
class InspectionSettings:
    """The rest of what a configuration decides: frames (from 1, both used; -1 is the last), dt (s), q tolerance,
    the frame at which t = 0, and what is masked.
    """

    start_frame: int = 1
    end_frame: int = -1
    dt: float | Literal["auto", "frames"] = "auto"
    q_tolerance: float = Q_TOLERANCE
    time_origin: Literal["window", "file"] = "window"
    screening: Screening = field(default_factory=Screening)


@dataclass(frozen=True)
class Missing:
    """An angle (degrees) without a matrix, and why."""

    phi: float
    reason: str


@dataclass(frozen=True)
class Ring:
    """All bins of one q (Å⁻¹): angles (degrees) with a matrix, and those without."""

    q: float
    phi: tuple[float, ...]
    missing: tuple[Missing, ...]


@dataclass(frozen=True)
class Examined:
    """One matrix that was read, cut to the selected frames: its half, dead frames (from 1 in the file), non-finite
    pairs of the others, range of the rest. `refused` is why a fit would not take it, None when it would.
    """

    label: int
    q: float
    phi: float
    half: str
    dead_frames: tuple[int, ...]
    non_finite_pairs: int
    asymmetry: float
    smallest: float | None
    largest: float | None
    refused: str | None = None


@dataclass(frozen=True)
class Description:
    """A data file as `hpcxpcs inspect` shows it; `selected_q` is None while q has yet to be chosen.

    `units` says in words how q, phi and time are stored. Of the ring at `selected_q`, `selected_phi` are in the
    ranges and have a matrix, `missing_phi` are in the ranges and have none, `left_out_phi` are outside.
    `selected_frames` are the first and last, from 1; `selected_dt` (s) is None when nothing tells it.
    """

    file: str
    bytes: int
    format: str
    n_matrices: int
    n_frames: int
    dtype: str
    compression: str
    dt: float | None
    dt_source: str
    units: Mapping[str, str]
    rings: tuple[Ring, ...]
    asked_q: float | None
    selected_q: float | None
    selected_phi: tuple[float, ...]
    left_out_phi: tuple[float, ...]
    missing_phi: tuple[Missing, ...]
    selected_frames: tuple[int, int]
    selected_dt: float | None
    examined: tuple[Examined, ...]
    simulated: bool
    notes: tuple[str, ...]


def describe(
    path: Path,
    format_name: str = "auto",
    q: float | None = None,
    ranges: Sequence[PhiInterval] = (),
    settings: InspectionSettings = InspectionSettings(),
) -> Description:
    """Describe a file and read the matrices that q (Å⁻¹), angle ranges (degrees) and settings would select.

    Without q in a file with several, only the first few matrices of the smallest q are read.
    """
    simulated = has_truth(path)
    with open_file(path, format_name) as layout:
        available = rings([info.q for info in layout.bins])
        decided = q is not None or len(available) == 1
        examined_q = q if decided or not available else available[0]
        chosen = chosen_bins(layout.bins, examined_q, settings.q_tolerance, ranges)
        to_read = chosen if decided else chosen[:EXAMINED_UNASKED]
        frames = frame_window(settings.start_frame, settings.end_frame, layout.n_frames)
        selected_q = nearest_q([info.q for info in chosen], q) if decided else None
        notes = list(layout.notes)
        dt_known = layout.dt is not None or settings.dt != "auto"
        ring = None if selected_q is None else _ring(layout, selected_q)
        return Description(
            file=str(path),
            bytes=path.stat().st_size,
            format=layout.format,
            n_matrices=len(layout.bins),
            n_frames=layout.n_frames,
            dtype=layout.dtype,
            compression=_compression(path, layout),
            dt=layout.dt,
            dt_source=layout.dt_source,
            units=dict(layout.units),
            rings=tuple(_ring(layout, value) for value in rings_with_absent(layout)),
            asked_q=q,
            selected_q=selected_q,
            selected_phi=tuple(info.phi for info in chosen) if decided else (),
            left_out_phi=() if ring is None else _outside(ring.phi, ranges),
            missing_phi=() if ring is None else _missing_inside(ring.missing, ranges),
            selected_frames=frames,
            selected_dt=time_step(settings.dt, layout, notes) if dt_known else None,
            examined=tuple(_examined(layout, info, frames, settings) for info in to_read),
            simulated=simulated,
            notes=tuple(notes),
        )


def describe_selected(config: Config, path: Path | None = None) -> Description:
    """Describe the data file of a configuration, or another file, and what the configuration selects of it."""
    analyzer, filtering = config.analyzer_parameters, config.data_filtering
    return describe(
        Path(config.data_file) if path is None else path,
        config.experimental_data.format,
        None if analyzer.scattering.wavevector_q == "unknown" else analyzer.scattering.wavevector_q,
        filtering.phi_ranges,
        InspectionSettings(
            analyzer.start_frame,
            analyzer.end_frame,
            analyzer.dt,
            filtering.q_tolerance,
            analyzer.time_origin,
            screening_of(config),
        ),
    )


def _compression(path: Path, layout: Layout) -> str:
    """How the matrices are stored; those of a zip are in memory by now, and the archive has to tell."""
    if not isinstance(layout.source, dict) or not zipfile.is_zipfile(path):
        return layout.compression
    with zipfile.ZipFile(path) as archive:
        packed = any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist())
    return "deflate" if packed else "none"


def _outside(phi: Sequence[float], ranges: Sequence[PhiInterval]) -> tuple[float, ...]:
    inside = in_phi_ranges(np.array(phi, dtype=np.float64), ranges)
    return tuple(angle for angle, kept in zip(phi, inside, strict=True) if not kept)


def _missing_inside(missing: Sequence[Missing], ranges: Sequence[PhiInterval]) -> tuple[Missing, ...]:
    inside = in_phi_ranges(np.array([item.phi for item in missing], dtype=np.float64), ranges)
    return tuple(item for item, kept in zip(missing, inside, strict=True) if kept)


def rings_with_absent(layout: Layout) -> list[float]:
    """Return every q (Å⁻¹) of the partition, with or without matrices, ascending."""
    return rings([*(info.q for info in layout.bins), *(absent.q for absent in layout.absent)])


def _ring(layout: Layout, q: float) -> Ring:
    close = [info.phi for info in layout.bins if len(rings([info.q, q])) == 1]
    missing = [Missing(bin_.phi, bin_.reason) for bin_ in layout.absent if len(rings([bin_.q, q])) == 1]
    return Ring(q, tuple(close), tuple(missing))


def _examined(layout: Layout, info: BinInfo, frames: tuple[int, int], settings: InspectionSettings) -> Examined:
    c2 = layout.read(info, slice(frames[0] - 1, frames[1]))
    half = clean.stored_half(c2)
    c2, asymmetry = clean.symmetric(c2)
    name, refused = f"phi = {info.phi:g}", None
    masks, _ = screened(c2, replace(settings.screening, non_finite="mask"), name, frames[0])
    found = pair_values(c2, ~masks.dead)
    try:
        used, _ = screened(c2, settings.screening, name, frames[0])
        begins_at_0 = settings.time_origin == "window" or frames[0] == 1
        clean.check_variation(c2, ~used.dead & (np.arange(len(c2)) >= int(begins_at_0)), used, name)
    except DataError as error:
        refused = str(error)
    return Examined(
        label=info.label,
        q=info.q,
        phi=info.phi,
        half=half,
        dead_frames=tuple((np.flatnonzero(masks.dead) + frames[0]).tolist()),
        non_finite_pairs=found.pairs - found.finite,
        asymmetry=asymmetry,
        smallest=found.smallest if found.finite else None,
        largest=found.largest if found.finite else None,
        refused=refused,
    )
