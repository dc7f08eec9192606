"""The one record of an experiment: two-time matrices by angle, with times, q and what may be trusted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data import clean
from hpcxpcs.data.clean import Policy, Repair, Screening
from hpcxpcs.data.matrices import AngleMatrix, InMemory, KeptMatrices, Matrices, hash_of_arrays
from hpcxpcs.data.preprocess import changes_of_fit, drawn_diagonal, processed, records, warnings_of
from hpcxpcs.data.quality.outliers import screened
from hpcxpcs.errors import DataError

UNEVEN = 0.01
"""Largest accepted distance of a time from the even grid, in steps: fits use the grid, pictures the times."""


@dataclass(frozen=True)
class DataSet:
    """One of the data sets of a joint fit: what it is called, its file, q (1/Å), and the bin of each of its angles."""

    label: str
    file: str
    q: float
    bins: tuple[int, ...]


@dataclass(frozen=True)
class TwoTime:
    """Two-time matrices of one q (Å⁻¹) at angles phi (n_phi,) in degrees and times t (N,) in s, read lazily.

    In a joint fit, angles are those of all its `sets`, one set after the other, and q is their geometric mean.

    `frames` are the first and last frame used, counted from 1 in the file. `provenance` is plain JSON data on
    where the numbers come from; its list "notes" grows as matrices are read.
    """

    phi: Floats
    q: float
    t: Floats
    dt: float
    frames: tuple[int, int]
    provenance: dict[str, Any]
    matrices: Matrices = field(repr=False)
    screening: Screening = field(default_factory=Screening)
    processing: Preprocessing = field(default_factory=Preprocessing)
    kept: KeptMatrices | None = field(default=None, repr=False, compare=False)
    sets: tuple[DataSet, ...] = ()

    def __post_init__(self) -> None:
        """State the stages that are on, before any matrix is read."""
        stages = records(self.processing, len(self.t))
        if stages:
            self.provenance.setdefault("preprocessing", stages)
            self._remember(warnings_of(self.processing))

    @property
    def n_phi(self) -> int:
        """Number of angles."""
        return len(self.phi)

    @property
    def set_labels(self) -> tuple[str, ...]:
        """What the data sets of a joint fit are called; several files may be one of them."""
        return tuple(dict.fromkeys(one.label for one in self.sets))

    @property
    def set_of_angle(self) -> NDArray[np.int64]:
        """The number of the data set, in the order of labels, that each angle belongs to (n_phi,), from 0."""
        labels = self.set_labels
        return np.array([labels.index(one.label) for one in self._member_of_angle], dtype=np.int64)

    @property
    def q_of_angle(self) -> Floats:
        """The q (1/Å) of each angle (n_phi,)."""
        return np.array([one.q for one in self._member_of_angle]) if self.sets else np.full(self.n_phi, self.q)

    @property
    def _member_of_angle(self) -> list[DataSet]:
        return [one for one in self.sets for _ in one.bins]

    @property
    def asked_angles(self) -> Floats:
        """What a model is asked with for each angle (n_phi,): phi, in a joint fit the number of the angle."""
        return np.arange(self.n_phi, dtype=np.float64) if self.sets else np.asarray(self.phi, dtype=np.float64)

    def angle_name(self, k: int) -> str:
        """What an angle is called, with its data set in a joint fit."""
        own = f"{self.phi[k]:g}°"
        return f"{self._member_of_angle[k].label}, {own}" if self.sets else own

    @property
    def n_frames(self) -> int:
        """Number of frames N of each matrix."""
        return len(self.t)

    @property
    def time_unit(self) -> str:
        """What times count: s, or frame."""
        return str(self.provenance.get("time_unit", "s"))

    @property
    def q_known(self) -> bool:
        """Whether q is one; else it stands for 1, and rates are q²D and q·v."""
        return bool(self.provenance.get("q_known", True))

    @property
    def itemsize(self) -> int:
        """Bytes of one element of a prepared matrix."""
        stored = np.dtype(self.matrices.dtype)
        return stored.itemsize if stored.kind == "f" and self.processing.standard == "as_stored" else 8

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices once they are prepared."""
        return self.n_phi * self.n_frames**2 * self.itemsize

    def angle(self, k: int) -> AngleMatrix:
        """Read and check the matrix of angle k: symmetry, dead frames, non-finite values, variation.

        Where matrices are kept, it is found there if it was prepared before, in this process or another one.
        """
        key = self._key(k)
        if self.kept is None or key is None:
            return self._prepared(k)
        found = self.kept.find(key)
        if found is None:
            found = self._prepared(k)
            about = {"phi": float(self.phi[k]), "q": self.q, "file": str(self.provenance.get("file", ""))}
            self.kept.keep(key, found, about)
        self._remember(found.notes)
        return found

    def _prepared(self, k: int) -> AngleMatrix:
        name = self._name(k)
        c2, masks, notes = self._screened(k)
        frame_ok = ~masks.dead & (self.t != 0.0)
        clean.check_variation(c2, frame_ok, masks, name)
        c2, factor = self._processed(k, c2, masks)
        sigma = self._sigma(k, frame_ok, masks)
        if sigma is not None and factor != 1.0:
            sigma = sigma / factor
        self._remember(notes)
        return AngleMatrix(c2, frame_ok, masks.pair_ok, sigma, notes)

    def picture(self, k: int, size: int = 1) -> Floats:
        """Return the matrix of angle k for plots, diagonal repaired, NaN at dead frames: float64, (N, N).

        Of `size` frames on each side one pixel is made: the mean of its finite values.
        """
        c2, masks, _ = self._screened(k)
        c2, _ = self._processed(k, c2, masks)
        diagonal = drawn_diagonal(c2, masks.dead, self.processing)
        height = size * max(1, clean.SLAB_ELEMENTS // (size * len(c2)))
        slabs = (slice(first, first + height) for first in range(0, len(c2), height))
        return np.concatenate([clean.averaged(clean.pictured(c2, masks.dead, diagonal, rows), size) for rows in slabs])

    def fingerprint(self) -> str:
        """Return a hash (hex) that differs when anything that enters a fit differs.

        It covers the stored values of the selected matrices (for a file: their stored bytes, so recompressing
        is a change; copying or touching the file is not), σ, angles, q, times, frames and masking settings.
        """
        settings = self._settings(self.phi.tolist()) | {"matrices": self.matrices.content_hash()}
        if self.sets:
            settings["sets"] = [[one.q, list(one.bins)] for one in self.sets]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _settings(self, phi: Any) -> dict[str, Any]:
        """Everything besides the stored values that decides what a prepared matrix is, as JSON values."""
        settings = {
            "phi": phi,
            "q": self.q,
            "t": hash_of_arrays([self.t]),
            "frames": list(self.frames),
            "dead_frames": self.screening.dead_frames,
            "non_finite": self.screening.non_finite,
        }
        if self.screening.repair != "disabled":
            settings["repair"] = self.screening.repair
        if changes := changes_of_fit(self.processing):
            settings["preprocessing"] = changes
        return settings

    def _key(self, k: int) -> str | None:
        """The name of a prepared matrix among those that are kept; None when it cannot be kept."""
        if self.kept is None:
            return None
        self._name(k)
        stored = self.matrices.angle_hash(k)
        return None if stored is None else self.kept.key(stored, self._settings(float(self.phi[k])))

    def _name(self, k: int) -> str:
        if not 0 <= k < self.n_phi:
            raise DataError(f"angle {k}: there are {self.n_phi} angles, counted from 0")
        source = self._member_of_angle[k].file if self.sets else self.provenance.get("file")
        name = f"angle {k} (phi = {self.phi[k]:g} degrees)"
        return f"{source}: {name}" if source else name

    def _screened(self, k: int) -> tuple[NDArray[Any], clean.Masks, tuple[str, ...]]:
        name = self._name(k)
        c2 = self.matrices.c2(k)
        if c2.shape != (self.n_frames, self.n_frames):
            raise DataError(f"{name}: the matrix has shape {c2.shape}, expected {(self.n_frames,) * 2}")
        c2, asymmetry = clean.symmetric(c2)
        at = f"{self._member_of_angle[k].label}, phi = {self.phi[k]:g}" if self.sets else f"phi = {self.phi[k]:g}"
        masks, repairs = screened(c2, self.screening, name, self.frames[0])
        notes = [
            f"{at}: repair masked {len(item.frames)} frames and {item.pairs} pairs: {item.reason}" for item in repairs
        ]
        if asymmetry > 0.0 and asymmetry > clean.rounding(c2):
            notes.append(f"{at}: the triangles differ by up to {asymmetry:.3g}; their mean is used")
        if masks.dead.any():
            words = clean.dead_words(masks.dead, self.frames[0])
            notes.append(f"{at}: {int(masks.dead.sum())} dead frames are masked: {words}")
        if masks.pair_ok is not None:
            masked = np.count_nonzero(~masks.pair_ok) // 2
            notes.append(f"{at}: {masked} pairs without a finite value are masked")
        return c2, masks, tuple(notes)

    def _processed(self, k: int, c2: NDArray[Any], masks: clean.Masks) -> tuple[NDArray[Any], float]:
        told = self.provenance.get("preprocessing", [])
        return processed(c2, masks, self.processing, self._name(k), told)

    def _sigma(self, k: int, frame_ok: NDArray[np.bool_], masks: clean.Masks) -> NDArray[Any] | None:
        stored = self.matrices.sigma(k)
        if stored is None:
            return None
        if self.processing.noise_reduction != "none":
            raise DataError(
                f"{self._name(k)}: noise.sigma is that of the data as measured, and preprocessing.noise_reduction "
                "changes it: set noise.sigma: auto, or noise_reduction: none"
            )
        if stored.ndim == 2:
            stored, _ = clean.symmetric(stored)
        sigma = np.broadcast_to(stored, (self.n_frames, self.n_frames))
        pairs = clean.Masks(~frame_ok, masks.pair_ok)
        for rows in clean.row_slabs(self.n_frames):
            used = sigma[rows][pairs.usable(rows)]
            if not (np.isfinite(used).all() and (used > 0).all()):
                raise DataError(
                    f"{self._name(k)}: noise.sigma must be positive and finite for every pair of frames used"
                )
        return sigma

    def _remember(self, notes: tuple[str, ...]) -> None:
        remembered = self.provenance.setdefault("notes", [])
        remembered.extend(note for note in notes if note not in remembered)


def from_arrays(
    c2: ArrayLike | Sequence[NDArray[Any]],
    phi: ArrayLike,
    q: float,
    dt: float,
    t: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    dead_frames: Literal["auto", "none"] | Sequence[int] = "auto",
    non_finite: Policy = "refuse",
    repair: Repair = "disabled",
    processing: Preprocessing | None = None,
) -> TwoTime:
    """Make a record from matrices c2 (n_phi, N, N), angles (n_phi,) in degrees, q in Å⁻¹ and dt in s.

    `t` (N,) in s defaults to k·dt; it may begin later, but steps by dt. `sigma` is one number, one per angle
    (n_phi,), (N, N) or (n_phi, N, N).
    `dead_frames` counts from 1.
    """
    stack = _matrices(c2)
    angles = _angles(phi, len(stack))
    q, dt = _positive(q, "q", "1/Å"), _positive(dt, "dt", "s")
    _words(non_finite, repair)
    n = stack[0].shape[1]
    times = np.asarray(np.arange(n) * float(dt) if t is None else t, dtype=np.float64)
    if times.shape != (n,):
        raise DataError(f"t: has shape {times.shape}; a time (s) for each of {n} frames is needed")
    if not (times[0] >= 0.0 and np.allclose(times, times[0] + np.arange(n) * dt, rtol=0.0, atol=UNEVEN * dt)):
        raise DataError(f"t must begin at 0 or later and step by dt = {dt:g} s throughout")
    return TwoTime(
        phi=angles,
        q=q,
        t=times,
        dt=dt,
        frames=(1, n),
        provenance={"source": "arrays", "notes": []},
        matrices=InMemory(stack, _uncertainties(sigma, len(angles), n)),
        screening=Screening(_dead_frames(dead_frames, n), non_finite, repair),
        processing=processing or Preprocessing(),
    )


_REAL = "fiu"
"""Kinds of NumPy types that are real numbers."""


def _matrices(c2: Any) -> list[NDArray[Any]]:
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


def _angles(phi: Any, count: int) -> NDArray[np.float64]:
    """Return phi as (n_phi,) finite degrees, one for every matrix."""
    values = np.atleast_1d(_real(phi, "phi").astype(np.float64))
    if values.shape != (count,) or count == 0:
        raise DataError(f"phi: has shape {values.shape} for {count} matrices; one angle (degrees) for each is needed")
    if not np.isfinite(values).all():
        raise DataError(f"phi[{int(np.argmin(np.isfinite(values)))}]: is no finite number of degrees")
    return values


def _positive(value: Any, name: str, unit: str) -> float:
    """Return a finite number above 0."""
    number = _real(value, name)
    if number.ndim != 0:
        raise DataError(f"{name}: has shape {number.shape}; one number ({unit}) is needed")
    if not 0 < number.item() < math.inf:
        raise DataError(f"{name}: is {number.item():g}; it must be positive and finite ({unit})")
    return float(number)


def _uncertainties(sigma: Any, n_phi: int, n: int) -> list[NDArray[Any]] | None:
    """Return the uncertainties of every matrix, () or (N, N); None for none."""
    if sigma is None:
        return None
    values = _real(sigma, "sigma")
    if values.ndim == 0 or values.shape == (n, n):
        return [values] * n_phi
    if values.shape in ((n_phi,), (n_phi, n, n)):
        return [np.asarray(value) for value in values]
    raise DataError(f"sigma has shape {values.shape}; expected (), ({n_phi},), ({n}, {n}) or ({n_phi}, {n}, {n})")


def _dead_frames(frames: Any, n: int) -> Any:
    """Return "auto", "none" or a tuple of frames from 1 to n."""
    if isinstance(frames, str):
        if frames not in ("auto", "none"):
            raise DataError(f"dead_frames: is {frames!r}; auto, none or frames from 1 are needed")
        return frames
    if not isinstance(frames, Sequence | np.ndarray):
        raise DataError(f"dead_frames: is {_kind(frames)}; auto, none or frames from 1 are needed")
    values = np.asarray(frames)
    if values.size and (values.dtype.kind not in "iu" or values.ndim != 1 or values.min() < 1 or values.max() > n):
        raise DataError(f"dead_frames: must be whole numbers from 1 to {n}, the number of frames")
    return tuple(int(frame) for frame in values)


def _words(non_finite: Any, repair: Any) -> None:
    """Refuse a policy that does not exist."""
    for name, value, known in (("non_finite", non_finite, Policy), ("repair", repair, Repair)):
        if value not in get_args(known):
            raise DataError(f"{name}: is {value!r}; {' or '.join(get_args(known))} is needed")


def _real(value: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: is no array of numbers ({error})") from error
    if array.dtype.kind not in _REAL:
        raise DataError(f"{name}: holds values of type {array.dtype}; real numbers are needed")
    return array


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
