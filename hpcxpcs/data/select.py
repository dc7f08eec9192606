"""From a file to the record of one experiment: which q, which angles, which frames, which time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.config import Config
from hpcxpcs.data.clean import FEWEST_FRAMES, Screening
from hpcxpcs.data.formats import BinInfo, Layout, open_file, read_matrix
from hpcxpcs.data.matrices import InMemory, Joined, Matrices
from hpcxpcs.data.preprocess import stages_of
from hpcxpcs.data.stored import FileIdentity, Sigma, Stored, sigma_locations
from hpcxpcs.data.twotime import DataSet, TwoTime
from hpcxpcs.errors import DataError, SelectionError

SAME_Q = 1e-3
"""q values closer than this fraction are one ring (rounding scatters the q of its φ bins)."""

ANGLE_ROUNDING = 1e-9
"""Degrees by which an angle may miss the end of a range."""

UNKNOWN_Q = 1.0
"""Stands for a q that is not known: transport coefficients come out as q²·D, velocities as q·v."""

FRAME = 1.0
"""The time step where time counts in frames."""

DT_DISAGREEMENT = 0.01
"""Fraction by which a configured time step may differ from the file's before it is worth a note."""


class PhiInterval(Protocol):
    """Angles from `min` to `max` in degrees, both included; min > max runs through ±180."""

    @property
    def min(self) -> float: ...

    @property
    def max(self) -> float: ...


def load(config: Config) -> TwoTime:
    """Read what the configuration selects from its data file, or from those of a joint fit; matrices are read later."""
    if config.joint is None:
        return _load_one(config)
    members = [_load_one(config.of_set(one)) for one in config.joint.sets]
    return joined(members, [one.label for one in config.joint.sets])


def joined(members: Sequence[TwoTime], labels: Sequence[str | None]) -> TwoTime:
    """Several data sets as one, for a joint fit; DataError where their frames do not have the same times."""
    first = members[0]
    for other in members[1:]:
        if other.n_frames != first.n_frames or not np.allclose(other.t, first.t, rtol=1e-9, atol=1e-9 * first.dt):
            raise DataError(
                f"{other.provenance['file']}: has {other.n_frames} frames of {other.dt:g} s from {other.t[0]:g} s, and "
                f"{first.provenance['file']} has {first.n_frames} of {first.dt:g} s from {first.t[0]:g} s: a joint fit "
                "needs equal times; select common frames (analyzer_parameters.start_frame, end_frame, or windows)"
            )
    several = len({member.q for member in members}) > 1
    sets = tuple(
        DataSet(
            label or Path(member.provenance["file"]).stem + (f" q={member.q:.4g}" if several else ""),
            member.provenance["file"],
            float(member.q),
            tuple(member.provenance["bins"]),
        )
        for member, label in zip(members, labels, strict=True)
    )
    notes = [
        f"{one.label}: {note}" for one, member in zip(sets, members, strict=True) for note in member.provenance["notes"]
    ]
    angles = [angle for member in members for angle in member.provenance["phi"]]
    bins = [label for member in members for label in member.provenance["bins"]]
    own = {"files": [one.file for one in sets], "phi": angles, "bins": bins, "notes": notes, "joint": True}
    q = float(np.exp(np.mean([np.log(member.q) for member in members])))
    phi = np.concatenate([member.phi for member in members])
    matrices = Joined(tuple((member.matrices, member.n_phi) for member in members))
    provenance = {**first.provenance, **own, "q": q}
    return replace(first, phi=phi, q=q, provenance=provenance, matrices=matrices, sets=sets)


def _load_one(config: Config) -> TwoTime:
    """One data set of one file."""
    path = Path(config.data_file)
    analyzer, filtering = config.analyzer_parameters, config.data_filtering
    with open_file(path, config.experimental_data.format) as layout:
        file = FileIdentity.of(path)
        named = analyzer.scattering.wavevector_q
        wanted = None if named == "unknown" else named
        chosen = chosen_bins(layout.bins, wanted, filtering.q_tolerance, filtering.phi_ranges or ())
        frames = frame_window(analyzer.start_frame, analyzer.end_frame, layout.n_frames)
        screening = screening_of(config)
        _require_frames(screening, layout.n_frames)
        notes = list(layout.notes)
        dt = time_step(analyzer.dt, layout, notes)
        q = nearest_q([info.q for info in chosen], wanted)
        notes += _ring_notes(chosen, q)
        if named == "unknown":
            notes.append(
                f"wavevector_q is unknown (the file says {q:g}, which is not used): rates are q²·D and q·v, per unit "
                "of time, not transport coefficients"
            )
            q = UNKNOWN_Q
        matrices = _matrices(file, layout, chosen, slice(frames[0] - 1, frames[1]), config.noise.sigma)
    skipped = frames[0] - 1 if analyzer.time_origin == "file" else 0
    t = np.asarray((np.arange(frames[1] - frames[0] + 1) + skipped) * dt, dtype=np.float64)
    if np.count_nonzero(t) < FEWEST_FRAMES:
        whole = frames == (1, layout.n_frames)
        remedy = "the file has no more" if whole else "widen analyzer_parameters.start_frame and end_frame"
        raise DataError(
            f"{path}: frames {frames[0]}…{frames[1]} leave {np.count_nonzero(t)} usable frames (t = 0 is not "
            f"one), {FEWEST_FRAMES} are needed; {remedy}"
        )
    provenance: dict[str, Any] = {
        "file": str(path),
        "file_size": file.size,
        "format": layout.format,
        "q_wanted": wanted,
        "q": q,
        "phi": [info.phi for info in chosen],
        "bins": [info.label for info in chosen],
        "frames": list(frames),
        "frames_in_file": layout.n_frames,
        "dt": dt,
        "dt_source": layout.dt_source if analyzer.dt == "auto" else "analyzer_parameters.dt",
        "time_unit": "frame" if analyzer.dt == "frames" else "s",
        "q_known": named != "unknown",
        "time_origin": analyzer.time_origin,
        "order": ["q", "phi", "frames", "symmetric", "dead frames", "non-finite values"],
        "notes": notes,
    }
    phi = np.array([info.phi for info in chosen])
    provenance["order"] += [stage for stage, _, _ in stages_of(config.preprocessing)]
    return TwoTime(phi, q, t, dt, frames, provenance, matrices, screening, config.preprocessing)


def _matrices(file: FileIdentity, layout: Layout, chosen: Sequence[BinInfo], frames: slice, sigma: Any) -> Matrices:
    """Return the reader of the chosen matrices; an NPZ file has no random access, so its part is read now."""
    sigmas: tuple[Sigma, ...] | None = None
    if isinstance(sigma, str) and sigma != "auto":
        sigmas = sigma_locations(layout.source, sigma, layout.bins, chosen, layout.n_frames)
    if not isinstance(layout.source, dict) or isinstance(layout.source[chosen[0].dataset], np.memmap):
        return Stored(file, tuple(chosen), frames, sigmas, layout.dtype)

    def array(where: Sigma) -> NDArray[Any]:
        return read_matrix(layout.source, where, frames) if isinstance(where, BinInfo) else where

    return InMemory([array(info) for info in chosen], None if sigmas is None else list(map(array, sigmas)))


def chosen_bins(
    bins: Sequence[BinInfo],
    wanted: float | None,
    tolerance: float,
    ranges: Sequence[PhiInterval],
) -> tuple[BinInfo, ...]:
    """Return the bins of the ring nearest to the wanted q (Å⁻¹) whose angles are in one of the ranges.

    The order is that of the file. `tolerance` is the largest accepted |q − wanted| / wanted.
    """
    available = np.array([info.q for info in bins])
    q = nearest_q(available, wanted)
    if wanted is not None and abs(q - wanted) > tolerance * abs(wanted):
        raise SelectionError(
            f"q = {wanted:g} Å⁻¹ is not in the file: the nearest, {q:g}, is {abs(q / wanted - 1):.1%} "
            f"off and data_filtering.q_tolerance allows {tolerance:.1%}; "
            f"available: {_listed(rings(available))}{_unit_hint(available, wanted, tolerance)}"
        )
    ring = [info for info in bins if abs(info.q - q) <= SAME_Q * abs(q)]
    keep = in_phi_ranges(np.array([info.phi for info in ring]), ranges)
    if not keep.any():
        asked = ", ".join(f"{interval.min:g}…{interval.max:g}" for interval in ranges)
        raise SelectionError(
            f"no angle at q = {q:g} Å⁻¹ is within data_filtering.phi_ranges {asked} (degrees); "
            f"available: {_listed(sorted(info.phi for info in ring))}"
        )
    return tuple(info for info, kept in zip(ring, keep, strict=True) if kept)


def _unit_hint(available: NDArray[np.float64], wanted: float, tolerance: float) -> str:
    """The usual mistake, q in nm⁻¹, in words if it explains the difference."""
    for factor, words in (
        (0.1, "wavevector_q seems to be in nm⁻¹"),
        (10.0, "the q of the file seem to be in nm⁻¹"),
    ):
        q = factor * wanted
        if abs(nearest_q(available, q) - q) <= tolerance * q:
            return f" ({words}; Å⁻¹ are needed)"
    return ""


def nearest_q(available: Sequence[float] | NDArray[np.float64], wanted: float | None) -> float:
    """Return the available q (Å⁻¹) nearest to the wanted one; with none wanted, the only one there is."""
    values = np.asarray(available, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise SelectionError("the file gives no finite q for any of its matrices")
    if wanted is None:
        distinct = rings(values)
        if len(distinct) > 1:
            raise SelectionError(
                f"the file has {len(distinct)} values of q; set analyzer_parameters.scattering.wavevector_q "
                f"to one of {_listed(distinct)}"
            )
        return float(distinct[0])
    if not wanted > 0:
        raise SelectionError(f"q = {wanted:g} Å⁻¹ is asked for; q must be positive")
    return float(values[np.argmin(np.abs(values - wanted))])


def rings(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the q (Å⁻¹) of every ring among the q of many bins, ascending."""
    found: list[float] = []
    for value in np.unique(np.asarray(values)[np.isfinite(values)]).tolist():
        if not found or abs(value - found[-1]) > SAME_Q * abs(found[-1]):
            found.append(value)
    return found


def _ring_notes(chosen: Sequence[BinInfo], q: float) -> list[str]:
    spread = max(abs(info.q - q) for info in chosen)
    if spread <= 1e-6 * abs(q):
        return []
    return [f"the q of the chosen bins scatter by {spread:.2g} Å⁻¹ around {q:g}; {q:g} is used for all"]


def _listed(values: Sequence[float], limit: int = 40) -> str:
    """Return numbers as text for a message, at most `limit` of them."""
    shown = ", ".join(f"{value:g}" for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, … ({len(values)} in all)"


def wrapped(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles in degrees wrapped to (−180, 180]."""
    return 180.0 - np.mod(180.0 - phi, 360.0)


def in_phi_ranges(phi: NDArray[np.float64], ranges: Sequence[PhiInterval]) -> NDArray[np.bool_]:
    """Tell which angles (n,) in degrees are in any of the ranges; no ranges select everything."""
    if not ranges:
        return np.ones(len(phi), dtype=bool)
    inside = np.zeros(len(phi), dtype=bool)
    for interval in ranges:
        width = interval.max - interval.min
        width = width if width >= 0 else width % 360.0
        with np.errstate(invalid="ignore"):  # an angle that is not finite is in no range
            beyond = np.mod(wrapped(phi) - interval.min, 360.0)
        inside |= (beyond <= width + ANGLE_ROUNDING) | (beyond >= 360.0 - ANGLE_ROUNDING)
    return inside


def frame_window(start: int, end: int, n_frames: int) -> tuple[int, int]:
    """Return the first and last frame (from 1, both included) of a window; an end of −1 is the last frame."""
    last = n_frames if end == -1 else end
    if not 1 <= start <= n_frames:
        raise SelectionError(f"analyzer_parameters.start_frame {start} is not one of the frames 1…{n_frames}")
    if not start <= last <= n_frames:
        raise SelectionError(
            f"analyzer_parameters.end_frame {end} is not between start_frame {start} and the last frame {n_frames}"
        )
    return start, last


def time_step(configured: float | str | None, layout: Layout, notes: list[str]) -> float:
    """Return the time step (s, or 1 frame): the configured one, else the file's; a disagreement is noted."""
    if configured == "frames":
        return FRAME
    if configured is None or isinstance(configured, str):
        if layout.dt is None:
            raise DataError(
                f"the file does not tell the time step ({layout.dt_source}); "
                "set analyzer_parameters.dt (in seconds), or to frames"
            )
        return layout.dt
    dt = float(configured)
    if layout.dt is not None and abs(dt - layout.dt) > DT_DISAGREEMENT * layout.dt:
        notes.append(
            f"warning: analyzer_parameters.dt = {dt:g} s is used, "
            f"but the file says {layout.dt:g} s ({layout.dt_source})"
        )
    return dt


def screening_of(config: Config) -> Screening:
    """Return what a configuration masks."""
    filtering = config.data_filtering
    asked = filtering.dead_frames
    dead = asked if isinstance(asked, str) else tuple(int(frame) for frame in asked or ())
    return Screening(dead, filtering.non_finite, config.quality_control.auto_repair)


def _require_frames(screening: Screening, n_frames: int) -> None:
    """Refuse a list of dead frames with some that the file does not have."""
    given = () if isinstance(screening.dead_frames, str) else screening.dead_frames
    outside = [frame for frame in given if not 1 <= frame <= n_frames]
    if outside:
        raise SelectionError(f"data_filtering.dead_frames {outside} are not among the frames 1…{n_frames}")
