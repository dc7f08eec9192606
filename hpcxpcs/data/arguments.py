"""Arrays that come from Python: what each must be, refused under the name of its argument."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.clean import Policy, Repair
from hpcxpcs.errors import DataError

REAL = "fiu"
"""Kinds of NumPy types that are real numbers."""


def matrices(c2: Any) -> list[NDArray[Any]]:
    """Return c2 as a list of square matrices (N, N) of real numbers, all of one size."""
    if isinstance(c2, (str, bytes)) or not isinstance(c2, Iterable):
        raise DataError(f"c2: is {_kind(c2)}; matrices (n_phi, N, N) are needed")
    stack = [_real(matrix, f"c2[{k}]") for k, matrix in enumerate(c2)]
    for k, matrix in enumerate(stack):
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise DataError(f"c2[{k}]: has shape {matrix.shape}; (N, N) is needed, and (n_phi, N, N) for c2")
        if matrix.shape != stack[0].shape:
            raise DataError(f"c2[{k}]: has shape {matrix.shape}, but c2[0] has {stack[0].shape}")
    return stack


def angles(phi: Any, count: int) -> NDArray[np.float64]:
    """Return phi as (n_phi,) finite degrees, one for every matrix."""
    values = np.atleast_1d(_real(phi, "phi").astype(np.float64))
    if values.shape != (count,) or count == 0:
        raise DataError(
            f"phi: has shape {values.shape} for {count} matrices; one angle (degrees) for each is needed"
        )
    if not np.isfinite(values).all():
        raise DataError(f"phi[{int(np.argmin(np.isfinite(values)))}]: is no finite number of degrees")
    return values


def positive(value: Any, name: str, unit: str) -> float:
    """Return a finite number above 0."""
    number = _real(value, name)
    if number.ndim != 0:
        raise DataError(f"{name}: has shape {number.shape}; one number ({unit}) is needed")
    if not 0 < number.item() < math.inf:
        raise DataError(f"{name}: is {number.item():g}; it must be positive and finite ({unit})")
    return float(number)


def uncertainties(sigma: Any, n_phi: int, n: int) -> list[NDArray[Any]] | None:
    """Return the uncertainties of every matrix, () or (N, N); None for none."""
    if sigma is None:
        return None
    values = _real(sigma, "sigma")
    if values.ndim == 0 or values.shape == (n, n):
        return [values] * n_phi
    if values.shape in ((n_phi,), (n_phi, n, n)):
        return [np.asarray(value) for value in values]
    raise DataError(
        f"sigma has shape {values.shape}; expected (), ({n_phi},), ({n}, {n}) or ({n_phi}, {n}, {n})"
    )


def dead_frames(frames: Any, n: int) -> Any:
    """Return "auto", "none" or a tuple of frames from 1 to n."""
    if isinstance(frames, str):
        if frames not in ("auto", "none"):
            raise DataError(f"dead_frames: is {frames!r}; auto, none or frames from 1 are needed")
        return frames
    if not isinstance(frames, Sequence | np.ndarray):
        raise DataError(f"dead_frames: is {_kind(frames)}; auto, none or frames from 1 are needed")
    values = np.asarray(frames)
    if values.size and (
        values.dtype.kind not in "iu" or values.ndim != 1 or values.min() < 1 or values.max() > n
    ):
        raise DataError(f"dead_frames: must be whole numbers from 1 to {n}, the number of frames")
    return tuple(int(frame) for frame in values)


def words(non_finite: Any, repair: Any) -> None:
    """Refuse a policy that does not exist."""
    for name, value, known in (("non_finite", non_finite, Policy), ("repair", repair, Repair)):
        if value not in get_args(known):
            raise DataError(f"{name}: is {value!r}; {' or '.join(get_args(known))} is needed")


def _real(value: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: is no array of numbers ({error})") from error
    if array.dtype.kind not in REAL:
        raise DataError(f"{name}: holds values of type {array.dtype}; real numbers are needed")
    return array


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
