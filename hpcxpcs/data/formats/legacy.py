"""The older 8-ID layout: matrices under /exchange/C2T_all, q and φ of every bin in /xpcs/dqlist, dphilist."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import Layout, Place, Stack, bins_at, bins_without, step_of_frames
from hpcxpcs.data.formats.source import Source, matrix, numbered, quantity, whole_numbers
from hpcxpcs.data.formats.truth import write_truth
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
    q, phi = quantity(source, "xpcs/dqlist", "q"), quantity(source, "xpcs/dphilist", "angle")
    if len(q.values) != len(phi.values):
        raise FormatError(f"/xpcs/dqlist has {len(q.values)} entries, /xpcs/dphilist {len(phi.values)}")
    names = numbered(source, MATRICES, r"(\d+)$", "a name that ends in a number")
    processed = whole_numbers(source, PROCESSED).tolist() if PROCESSED in source else None
    labels = bin_labels(list(names), processed, len(q.values))
    places = [Place(labels[number], f"{MATRICES}/{name}") for number, name in names.items()]
    notes: list[str] = []
    step = step_of_frames(source, PERIOD, ["xpcs/stride_frames"], ["xpcs/avg_frames"], notes, "g")
    return Layout.of(
        NAME,
        source,
        bins_at(places, q.values, phi.values),
        n_frames=int(matrix(source, places[0].dataset).shape[-1]),
        units=(q.unit, phi.unit),
        step=step,
        absent=bins_without(labels.values(), q.values, phi.values),
        notes=notes,
    )


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
        raise FormatError(f"/{MATRICES}: bins {min(labels)}…{max(labels)}, but /xpcs/dqlist has {n_bins} entries")
    return dict(zip(numbers, labels, strict=True))


def _labels_from_list(numbers: list[int], processed: list[int], consecutive: bool) -> list[int]:
    if len(processed) != len(numbers):
        raise FormatError(f"/{MATRICES} has {len(numbers)} matrices, but /{PROCESSED} names {len(processed)} bins")
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


def write(path: Path, stack: Stack) -> None:
    """Write a stack as the 8-ID pipeline did: matrices numbered by bin label, (1, 1) scalars."""
    with h5py.File(path, "w") as file:
        labels = write_lists(file, stack)
        for label, stored in zip(labels, stack.stored_matrices(), strict=True):
            stack.create(file, f"{MATRICES}/g2_{label:05d}", len(stored), None, usual="gzip")[...] = stored
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


def write_lists(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write the q and φ lists, ordered by q then φ, and return the 1-based label of every matrix."""
    q, phi, labels = stack.ordered_bins()
    file["xpcs/dqlist"] = q[None, :]
    file["xpcs/dphilist"] = phi[None, :]
    file["xpcs/dnoq"] = np.full((1, 1), float(len(np.unique(q))))
    file["xpcs/dnophi"] = np.full((1, 1), float(len(np.unique(phi))))
    return labels
