"""The older 8-ID layout: matrices under /exchange/C2T_all, q and φ of every bin in /xpcs/dqlist, dphilist."""

from __future__ import annotations

import math
import re
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.filters import compression
from hpcxpcs.data.formats.layout import AbsentBin, BinInfo, Layout, Stack
from hpcxpcs.data.formats.source import Source, group, matrix, members, scalar, whole_numbers
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.data.formats.units import quantity
from hpcxpcs.errors import FormatError

NAME = "legacy"
LOOKS_FOR = "/exchange/C2T_all, /xpcs/dqlist, /xpcs/dphilist"

MATRICES = "exchange/C2T_all"
PROCESSED = "xpcs/qphi_bin_to_process"
PERIOD = "measurement/instrument/detector/exposure_period"


def detect(source: Source) -> bool:
    """Tell whether the file has a group of two-time matrices in this layout."""
    return MATRICES in source


def open_layout(source: Source) -> Layout:
    """Describe the file: every matrix with the q and φ of its bin."""
    q_list, q_unit = quantity(source, "xpcs/dqlist", "q")
    phi_list, phi_unit = quantity(source, "xpcs/dphilist", "angle")
    if len(q_list) != len(phi_list):
        raise FormatError(f"/xpcs/dqlist has {len(q_list)} entries, /xpcs/dphilist {len(phi_list)}")
    numbered = _numbered(source)
    processed = whole_numbers(source, PROCESSED).tolist() if PROCESSED in source else None
    labels = bin_labels(sorted(numbered), processed, len(q_list))
    bins = []
    for index, number in enumerate(sorted(numbered)):
        label = labels[number]
        dataset = f"{MATRICES}/{numbered[number]}"
        bins.append(BinInfo(index, label, float(q_list[label - 1]), float(phi_list[label - 1]), dataset))
    notes: list[str] = []
    dt, dt_source = _time_step(source, notes)
    first = matrix(source, bins[0].dataset)
    used = set(labels.values())
    return Layout(
        format=NAME,
        bins=tuple(bins),
        n_frames=int(first.shape[-1]),
        dt=dt,
        dt_source=dt_source,
        dtype=str(first.dtype),
        compression=compression(first),
        absent=tuple(
            AbsentBin(float(q), float(phi), "not processed")
            for label, (q, phi) in enumerate(zip(q_list, phi_list, strict=True), start=1)
            if label not in used
        ),
        notes=tuple(notes),
        units={"q": q_unit, "phi": phi_unit, "time": "s (that of the layout)"},
        source=source,
    )


def _numbered(source: Source) -> dict[int, str]:
    """Return the dataset names by the number they end in (text order would put "10" before "2")."""
    numbered: dict[int, str] = {}
    for name in members(group(source, MATRICES)):
        match = re.search(r"(\d+)$", name)
        if match is None:
            raise FormatError(f"/{MATRICES}/{name}: expected a name that ends in a number")
        if int(match.group(1)) in numbered:
            raise FormatError(f"/{MATRICES}: {name} and {numbered[int(match.group(1))]} have the same number")
        numbered[int(match.group(1))] = name
    if not numbered:
        raise FormatError(f"/{MATRICES} holds no matrices")
    return numbered


def bin_labels(numbers: list[int], processed: list[int] | None, n_bins: int) -> dict[int, int]:
    """Return the 1-based bin label of each (ascending) matrix number.

    xpcs-eigen numbers matrices by bin label, boost_corr by sequence; the list of processed bins tells which.
    Without that list the numbers must leave only one reading.
    """
    count = len(numbers)
    first = numbers[0]
    consecutive = first in (0, 1) and numbers == list(range(first, first + count))
    if processed is not None:
        labels = _labels_from_list(numbers, processed, consecutive)
    elif count == n_bins:
        labels = list(range(1, n_bins + 1))
    elif count < n_bins and first >= 1 and not consecutive:
        labels = numbers
    else:
        raise FormatError(
            f"/{MATRICES} has {count} matrices (numbers {first}…{numbers[-1]}) for {n_bins} bins in "
            f"/xpcs/dqlist, and /{PROCESSED}, which would say which bins these are, is missing"
        )
    if not all(1 <= label <= n_bins for label in labels):
        raise FormatError(
            f"/{MATRICES}: bins {min(labels)}…{max(labels)}, but /xpcs/dqlist has {n_bins} entries"
        )
    return dict(zip(numbers, labels, strict=True))


def _labels_from_list(numbers: list[int], processed: list[int], consecutive: bool) -> list[int]:
    if len(processed) != len(numbers):
        raise FormatError(
            f"/{MATRICES} has {len(numbers)} matrices, but /{PROCESSED} names {len(processed)} bins"
        )
    by_label = numbers == sorted(processed)
    if by_label and consecutive and processed != numbers:
        raise FormatError(
            f"/{PROCESSED} lists bins out of order ({processed[:5]}…), "
            "and the matrix numbers could be labels or positions"
        )
    if by_label:
        return numbers
    if consecutive:
        return processed
    raise FormatError(
        f"/{MATRICES}: the numbers {numbers[:5]}… are neither the bins of /{PROCESSED} nor 1…{len(numbers)}"
    )


def _time_step(source: Source, notes: list[str]) -> tuple[float | None, str]:
    """Return the step of the processed frames (s): exposure period x stride x average."""
    period = scalar(source, PERIOD)
    if period is None or not period > 0:
        return None, f"/{PERIOD} is missing" if period is None else f"/{PERIOD} is {period}"
    factors = {}
    for name in ("stride_frames", "avg_frames"):
        value = scalar(source, f"xpcs/{name}")
        if value is None:
            notes.append(f"/xpcs/{name} is missing: taken as 1")
        factors[name] = 1 if value is None else value
    dt = float(period * factors["stride_frames"] * factors["avg_frames"])
    stride, average = factors["stride_frames"], factors["avg_frames"]
    known = dt if math.isfinite(dt) and min(factors.values()) >= 1 else None
    return known, f"exposure_period {period:g} s x stride {stride:g} x average {average:g}"


def write(path: Path, stack: Stack) -> None:
    """Write a stack as the 8-ID pipeline did: matrices numbered by bin label, (1, 1) scalars."""
    with h5py.File(path, "w") as file:
        labels = _write_lists(file, stack)
        for label, stored in zip(labels, stack.stored_matrices(), strict=True):
            options = stack.dataset_options(stored.shape, usual="gzip")
            file.create_dataset(f"{MATRICES}/g2_{label:05d}", data=stored, **options)
        file[PROCESSED] = np.sort(labels)[None, :]
        for name, value in (
            (PERIOD, stack.frame_time),
            ("xpcs/stride_frames", float(stack.stride)),
            ("xpcs/avg_frames", float(stack.average)),
        ):
            file[name] = np.full((1, 1), value)
        file["xpcs/Version"] = "1.0"
        file["xpcs/analysis_type"] = "Twotime"
        write_truth(file, stack.truth)


def _write_lists(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write the q and φ lists, ordered by q then φ, and return the 1-based label of every matrix."""
    extra = np.asarray(stack.unprocessed, dtype=np.float64).reshape(-1, 2)
    all_q, all_phi = np.concatenate([stack.q, extra[:, 0]]), np.concatenate([stack.phi, extra[:, 1]])
    order = np.lexsort((all_phi, all_q))
    file["xpcs/dqlist"] = all_q[order][None, :]
    file["xpcs/dphilist"] = all_phi[order][None, :]
    file["xpcs/dnoq"] = np.full((1, 1), float(len(np.unique(all_q))))
    file["xpcs/dnophi"] = np.full((1, 1), float(len(np.unique(all_phi))))
    labels = np.empty(len(order), dtype=np.int64)
    labels[order] = np.arange(1, len(order) + 1)
    return labels[: len(stack.q)]
