"""Reading g2(τ): multi-tau results in every layout that has them, cuts through two-time matrices, text and NPZ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.data.clean import symmetric
from hpcxpcs.data.formats import FORMATS, legacy, nexus, open_layout, read_truth
from hpcxpcs.data.formats.layout import Layout, step_of_frames
from hpcxpcs.data.formats.source import (
    OURS,
    Kind,
    Source,
    factor_of,
    named,
    opened,
    quantity,
    signature,
    top_of_tree,
    values_at,
    vector,
)
from hpcxpcs.errors import FormatError
from hpcxpcs.g2.record import Correlation, Stored, cleaned

MULTITAU = "xpcs/multitau"
SEED = "xpcs/g2"
LEGACY = "exchange/norm-0-g2"
LOOKS_FOR = (
    f"  nexus: /{MULTITAU}/normalized_g2, delay_list, /{nexus.QMAP}\n"
    f"  legacy: /{LEGACY}, /exchange/tau, /xpcs/dqlist\n"
    f"  viewer: /{SEED}/g2, g2_err, delay_times, q_values\n"
    "  arrays (NPZ): tau, g2, and perhaps g2_err, q, phi, with tau_unit and q_unit\n"
    "  text: columns tau, g2, error, … with '# units: s'\n"
    "  any layout with two-time matrices"
)

Units = dict[str, str]
"""Units that the user states, by kind (time, q); they count where the file states none."""


def read_g2(path: Path, units: Units | None = None, age: tuple[float, float] | None = None) -> Correlation:
    """g2(τ) of all bins of a file; of two-time matrices, the mean over waiting times within `age` (s), None for all.

    FormatError says what was looked for and what the file has.
    """
    stated = units or {}
    with named(path):
        if _is_text(path):
            return cleaned(_from_text(path, stated), str(path))
        with opened(path) as source:
            stored = _stored(source, stated, age)
        return cleaned(stored, str(path), read_truth(path))


def holds_g2(path: Path) -> bool:
    """Whether a file has g2(τ) and no two-time matrices, whatever else may be wrong with it."""
    if not path.is_file() or _is_text(path):
        return path.is_file()
    with named(path), opened(path) as source:
        return _layout(source) is not None and not any(module.detect(source) for module in FORMATS.values())


def _stored(source: Source, units: Units, age: tuple[float, float] | None) -> Stored:
    read = _layout(source)
    if read is not None and age is None:
        return read(source, units)
    if not any(module.detect(source) for module in FORMATS.values()):
        if read is not None:
            raise FormatError("--age cuts through two-time matrices, and this file has g2 alone: leave it out")
        tree = "\n".join(f"  {line}" for line in top_of_tree(source)) or "  nothing at all"
        raise FormatError(f"no known g2. Looked for\n{LOOKS_FOR}\nThe file has\n{tree}")
    return _from_two_time(open_layout(source), age)


def _layout(source: Source) -> Callable[[Source, Units], Stored] | None:
    """Which reader the contents ask for."""
    if f"{MULTITAU}/normalized_g2" in source:
        return _from_nexus
    if LEGACY in source:
        return _from_legacy
    if f"{SEED}/g2" in source:
        return _from_viewer
    return _from_arrays if "g2" in source and "tau" in source else None


def _numbers(source: Source, path: str, axes: int = 2) -> Floats:
    """An array of so many axes; axes of length 1 in front are taken away."""
    values = np.asarray(values_at(source, path))
    if values.dtype.kind not in "fiu":
        raise FormatError(f"/{path} holds values of type {values.dtype}; numbers are needed")
    while values.ndim > axes and values.shape[0] == 1:
        values = values[0]
    if values.ndim != axes:
        raise FormatError(f"/{path} has shape {values.shape}; {axes} axes are needed")
    return values.astype(np.float64)


def _optional(source: Source, path: str, axes: int = 2) -> Floats | None:
    return _numbers(source, path, axes) if path in source else None


def _from_nexus(source: Source, units: Units) -> Stored:
    notes: list[str] = []
    stride, average = ([f"{MULTITAU}/config/{name}_frame"] for name in ("stride", "avg"))
    step = _known_step(*step_of_frames(source, nexus.FRAME_TIME, stride, average, notes)[:2])
    g2 = _numbers(source, f"{MULTITAU}/normalized_g2")
    q, phi = nexus.grid_of_bins(source)
    natural = nexus.natural_indices(source, len(q.values), notes)
    if g2.shape[1] != len(natural):
        raise FormatError(
            f"/{MULTITAU}/normalized_g2 has {g2.shape[1]} bins, and the q-map {len(natural)} with pixels: "
            "which column is which bin cannot be told; correlate again with this q-map"
        )
    return Stored(
        tau=vector(source, f"{MULTITAU}/delay_list").astype(float) * step,
        g2=g2,
        error=_optional(source, f"{MULTITAU}/normalized_g2_err"),
        q=q.values[natural],
        phi=phi.values[natural],
        labels=np.arange(1, len(natural) + 1),
        layout="nexus multi-tau",
        partial=_optional(source, f"{MULTITAU}/normalized_g2_partial", 3),
        notes=tuple(notes),
    )


def _known_step(seconds: float | None, told: str) -> float:
    if seconds is None:
        raise FormatError(f"{told}, so delays in frames are not seconds: write it into the file")
    return seconds


def _from_legacy(source: Source, units: Units) -> Stored:
    notes: list[str] = []
    frames = step_of_frames(source, legacy.PERIOD, ["xpcs/stride_frames"], ["xpcs/avg_frames"], notes, "g")
    q, phi = quantity(source, "xpcs/dqlist", "q").values, quantity(source, "xpcs/dphilist", "angle").values
    return Stored(
        tau=vector(source, "exchange/tau").astype(float) * _known_step(*frames[:2]),
        g2=_numbers(source, LEGACY),
        error=_optional(source, "exchange/norm-0-stderr"),
        q=q,
        phi=phi,
        labels=np.arange(1, len(q) + 1),
        layout="legacy multi-tau",
        notes=tuple(notes),
    )


def _from_viewer(source: Source, units: Units) -> Stored:
    g2 = _numbers(source, f"{SEED}/g2")
    bins = g2.shape[1]
    phi = f"{SEED}/phi_values"
    return Stored(
        tau=_in_our_unit(source, f"{SEED}/delay_times", "time", units),
        g2=g2,
        error=_optional(source, f"{SEED}/g2_err"),
        q=_in_our_unit(source, f"{SEED}/q_values", "q", units),
        phi=quantity(source, phi, "angle", required=True).values if phi in source else np.full(bins, np.nan),
        labels=np.arange(1, bins + 1),
        layout="viewer /xpcs/g2",
        partial=_optional(source, f"{SEED}/g2_partial", 3),
    )


def _in_our_unit(source: Source, path: str, kind: Kind, units: Units) -> Floats:
    return quantity(source, path, kind, required=True, elsewhere=units.get(kind)).values


def _from_arrays(source: Source, units: Units) -> Stored:
    g2 = np.asarray(values_at(source, "g2"), float)
    g2 = g2[:, None] if g2.ndim == 1 else g2
    bins = g2.shape[-1]
    error = np.asarray(values_at(source, "g2_err"), float).reshape(g2.shape) if "g2_err" in source else None
    return Stored(
        tau=_array_in_unit(source, "tau", "time", units),
        g2=g2,
        error=error,
        q=_array_in_unit(source, "q", "q", units) if "q" in source else np.full(bins, np.nan),
        phi=vector(source, "phi").astype(float) if "phi" in source else np.full(bins, np.nan),
        labels=np.arange(1, bins + 1),
        layout="arrays",
        partial=_optional(source, "g2_partial", 3),
    )


def _array_in_unit(source: Source, name: str, kind: Kind, units: Units) -> Floats:
    """An array whose unit another one of the file (`tau_unit`) or the user says."""
    told = str(np.asarray(source[f"{name}_unit"]).reshape(-1)[0]) if f"{name}_unit" in source else units.get(kind)
    return vector(source, name).astype(float) * _factor(told, kind, name)


def _factor(unit: str | None, kind: Kind, name: str) -> float:
    if unit is None:
        raise FormatError(
            f"{name} has no unit, and it is not guessed: store {name}_unit beside it "
            f"('{'s' if kind == 'time' else '1/nm'}'), or say --{kind}-unit; ours is {OURS[kind]}"
        )
    return factor_of(unit, kind, name)


TEXT_SUFFIXES = (".txt", ".csv", ".dat", ".tsv")


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_SUFFIXES


def _from_text(path: Path, units: Units) -> Stored:
    """Columns tau, then g2 and error of each bin; lines after # may say `units: ms` and `q: 0.01 0.02 1/nm`."""
    signature(path)
    head, rows = _lines_of(path)
    if len(rows) < 2 or rows.shape[1] < 2:
        raise FormatError(
            f"has {rows.shape} numbers; columns tau, g2, error (or tau, g2) and a line per delay are needed"
        )
    paired = rows.shape[1] > 2
    if paired and rows.shape[1] % 2 == 0:
        raise FormatError(f"has {rows.shape[1]} columns; tau and then g2 and error of each bin make an odd number")
    g2, error = (rows[:, 1::2], rows[:, 2::2]) if paired else (rows[:, 1:], None)
    words = head.get("q", "").split()
    q = np.full(g2.shape[1], np.nan)
    if words:
        unit = units.get("q") if _is_number(words[-1]) else words.pop()
        q = np.array([float(word) for word in words if _is_number(word)]) * _factor(unit, "q", "q")
    tau = rows[:, 0] * _factor(head.get("units") or units.get("time"), "time", "tau")
    blank = np.full(g2.shape[1], np.nan)
    return Stored(tau, g2, error, q, blank, np.arange(1, g2.shape[1] + 1), "text")


def _lines_of(path: Path) -> tuple[dict[str, str], Floats]:
    """What the head says (name: value), and the numbers."""
    head: dict[str, str] = {}
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        bare = line.strip()
        if bare.startswith("#") or not bare:
            name, _, value = bare.lstrip("# ").partition(":")
            head[name.strip().lower()] = value.strip()
            continue
        words = bare.replace(",", " ").replace(";", " ").split()
        if not all(map(_is_number, words)):
            if rows:
                raise FormatError(f"line {number}: {bare!r} holds what is no number")
            continue  # names of columns
        rows.append([float(word) for word in words])
        if len(rows[-1]) != len(rows[0]):
            raise FormatError(f"line {number} has {len(rows[-1])} columns, the first one {len(rows[0])}")
    return head, np.array(rows).reshape(len(rows), -1)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _from_two_time(layout: Layout, age: tuple[float, float] | None) -> Stored:
    """Means of the diagonals of all matrices over waiting times (t1+t2)/2 within a window of ages (s).

    Lags are gathered as a multi-tau correlator does, four to an octave. Neighbours on the diagonal of lag k share
    frames, so that n of them count as n/(2k) for the error; means of fifths of the window tell better, where they can.
    """
    step = _known_step(layout.dt, layout.dt_source)
    groups = lag_groups(layout.n_frames)
    parts = [_diagonals(layout.read(info), groups, step, age) for info in layout.bins]
    means, errors, blocks = (np.stack(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    if not np.isfinite(means).any():
        last = layout.n_frames * step
        raise FormatError(f"no pair of frames has an age within {age} s; the matrices cover 0 to {last:g} s")
    window = "all ages" if age is None else f"ages {age[0]:g} to {age[1]:g} s"
    return Stored(
        tau=step * np.array([np.mean(lags) for lags in groups]),
        g2=means,
        error=errors,
        q=np.array([info.q for info in layout.bins]),
        phi=np.array([info.phi for info in layout.bins]),
        labels=np.array([info.label for info in layout.bins]),
        layout=f"{layout.format} two-time, {window}",
        partial=blocks,
        notes=layout.notes,
    )


BLOCKS = 5
FEWEST_OF_LAG = 4
"""Pairs of a lag below which its scatter says nothing about its error."""


def lag_groups(frames: int) -> list[range]:
    """Lags 1 … frames−1 in groups: one by one up to 8, then four to an octave."""
    edges, width = list(range(1, 9)), 2
    while edges[-1] < frames:
        edges += [edges[-1] + width * k for k in range(1, 5)]
        width *= 2
    kept = [edge for edge in edges if edge < frames]
    return [range(a, b) for a, b in zip(kept, [*kept[1:], frames], strict=True)]


def _diagonals(
    c2: Any, groups: list[range], step: float, age: tuple[float, float] | None
) -> tuple[Floats, Floats, Floats]:
    """Mean, error (n,) and means of blocks (BLOCKS, n) of groups of lags of a matrix (N, N), NaN where none are."""
    full = np.asarray(symmetric(c2)[0], dtype=np.float64)
    dead = ~np.any(np.nan_to_num(full - np.diag(np.diag(full))) != 0, axis=0)
    full[dead, :] = full[:, dead] = np.nan
    first, last = (0.0, len(full) * step) if age is None else age
    mean, error = np.full((2, len(groups)), np.nan)
    blocks = np.full((BLOCKS, len(groups)), np.nan)
    for k, lags in enumerate(groups):
        ages = np.concatenate([(np.arange(len(full) - lag) + lag / 2) * step for lag in lags])
        values = np.concatenate([full.diagonal(lag) for lag in lags])
        used = (ages >= first) & (ages <= last) & np.isfinite(values)
        if used.sum() < FEWEST_OF_LAG:
            continue
        ages, values = ages[used], values[used]
        mean[k] = values.mean()
        independent = max(1.0, len(values) / (2.0 * np.mean(lags) * len(lags)))
        error[k] = values.std(ddof=1) / np.sqrt(independent)
        share = np.clip((ages - first) / (last - first) * BLOCKS, 0, BLOCKS - 1).astype(int)
        for block in np.unique(share):
            blocks[block, k] = values[share == block].mean()
    return mean, error, blocks


def described(path: Path) -> dict[str, Any]:
    """What `hpcxpcs inspect` tells of a file with g2: layout, bins, delays, what is missing, levels and errors."""
    data = read_g2(path)
    there = data.there.sum(axis=0)
    level = [
        float(np.nanmean(data.g2[-5:, k])) if np.isfinite(data.g2[-5:, k]).any() else np.nan for k in range(len(there))
    ]
    return {
        "file": str(path),
        "kind": "g2",
        "layout": data.layout,
        "bins": len(data.labels),
        "delays": len(data.tau),
        "tau": [float(data.tau[0]), float(data.tau[-1])],
        "q": data.q,
        "phi": data.phi,
        "values": there,
        "last_level": level,
        "median_error": [float(np.nanmedian(row)) if np.isfinite(row).any() else np.nan for row in data.error.T],
        "blocks": 0 if data.partial is None else len(data.partial),
        "simulated": data.simulated is not None,
        "notes": data.notes,
    }
