"""The one record of an experiment: two-time matrices by angle, with times, q and what may be trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcxpcs.data import arguments, clean
from hpcxpcs.data.clean import Policy, Repair, Screening
from hpcxpcs.data.preprocess import Processing, drawn_diagonal, processed, records
from hpcxpcs.data.quality.repair import screened
from hpcxpcs.errors import DataError

Floats = NDArray[np.float64]

UNEVEN = 0.01
"""Largest accepted distance of a time from the even grid, in steps: fits use the grid, pictures the times."""


@dataclass(frozen=True)
class AngleMatrix:
    """One angle: symmetric c2 (N, N), usable frames (N,), usable pairs (N, N) or None, σ (N, N) or None.

    The diagonal of c2 is as stored (shot noise), a pair that is not usable may hold NaN; `frame_ok` is False
    for dead frames and for t = 0.
    """

    c2: NDArray[Any]
    frame_ok: NDArray[np.bool_]
    pair_ok: NDArray[np.bool_] | None = None
    sigma: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


class Matrices(Protocol):
    """Where matrices come from: memory or a file; each (N, N), as stored, cut to the used frames."""

    def c2(self, k: int) -> NDArray[Any]:
        """Return the matrix of angle k, in an array that the caller may change."""
        ...

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return the uncertainties of angle k, () or (N, N), None when there are none; (N, N) may be changed."""
        ...

    def content_hash(self) -> str:
        """Return a hash of all matrices and uncertainties."""
        ...

    def angle_hash(self, k: int) -> str | None:
        """Return a hash of what is stored of angle k; None where preparing it again costs nothing to speak of."""
        ...

    @property
    def itemsize(self) -> int:
        """Bytes of one element of a matrix once it is read."""
        ...


class Kept(Protocol):
    """Where prepared matrices are kept, each under a key that says what it was made from and how."""

    def key(self, stored: str, settings: Mapping[str, Any]) -> str:
        """Return the name of what is made with some settings (JSON) from bytes with a hash."""
        ...

    def find(self, key: str) -> AngleMatrix | None:
        """Return a kept matrix, exactly as it was made; None when it has to be made."""
        ...

    def keep(self, key: str, matrix: AngleMatrix, about: Mapping[str, Any]) -> None:
        """Keep a matrix; `about` (JSON) tells people where it comes from."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Matrices that are already here."""

    stack: Sequence[NDArray[Any]]
    sigmas: Sequence[NDArray[Any]] | None = None
    known_hash: str | None = None

    def c2(self, k: int) -> NDArray[Any]:
        """Return a copy of the matrix of angle k, (N, N)."""
        return np.array(self.stack[k])

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return a copy of the uncertainties of angle k, None when there are none."""
        return None if self.sigmas is None else np.array(self.sigmas[k])

    def content_hash(self) -> str:
        """Return the hash of the file they came from, or of the arrays."""
        return self.known_hash or hash_of_arrays([*self.stack, *(self.sigmas or ())])

    def angle_hash(self, k: int) -> None:
        """Return None: what is in memory is prepared again."""
        return None

    @property
    def itemsize(self) -> int:
        """Bytes of one element of a matrix once it is read: whole numbers become float64."""
        stored = self.stack[0].dtype
        return stored.itemsize if stored.kind == "f" else 8


def hash_of_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """Return a hash (hex) of the types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class TwoTime:
    """Two-time matrices of one q (Å⁻¹) at angles phi (n_phi,) in degrees and times t (N,) in s, read lazily.

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
    processing: Processing = field(default_factory=Processing)
    kept: Kept | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """State the stages that are on, before any matrix is read."""
        stages = records(self.processing, len(self.t))
        if stages:
            self.provenance.setdefault("preprocessing", stages)
            self._remember(self.processing.words())

    @property
    def n_phi(self) -> int:
        """Number of angles."""
        return len(self.phi)

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
        return 8 if self.processing.standard == "float64" else self.matrices.itemsize

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
        return np.concatenate(
            [clean.averaged(clean.pictured(c2, masks.dead, diagonal, rows), size) for rows in slabs]
        )

    def fingerprint(self) -> str:
        """Return a hash (hex) that differs when anything that enters a fit differs.

        It covers the stored values of the selected matrices (for a file: their stored bytes, so recompressing
        is a change; copying or touching the file is not), σ, angles, q, times, frames and masking settings.
        """
        settings = self._settings(self.phi.tolist()) | {"matrices": self.matrices.content_hash()}
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
        if self.processing.settings():
            settings["preprocessing"] = self.processing.settings()
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
        source = self.provenance.get("file")
        name = f"angle {k} (phi = {self.phi[k]:g} degrees)"
        return f"{source}: {name}" if source else name

    def _screened(self, k: int) -> tuple[NDArray[Any], clean.Masks, tuple[str, ...]]:
        name = self._name(k)
        c2 = self.matrices.c2(k)
        if c2.shape != (self.n_frames, self.n_frames):
            raise DataError(f"{name}: the matrix has shape {c2.shape}, expected {(self.n_frames,) * 2}")
        c2 = c2 if c2.dtype.kind == "f" else c2.astype(np.float64)
        asymmetry = clean.symmetrise(c2)
        masks, repairs = screened(c2, self.screening, name, self.frames[0])
        notes = [
            f"phi = {self.phi[k]:g}: repair masked {len(item.frames)} frames and {item.pairs} pairs: {item.reason}"
            for item in repairs
        ]
        if asymmetry > 0.0 and asymmetry > clean.rounding(c2):
            notes.append(
                f"phi = {self.phi[k]:g}: the triangles differ by up to {asymmetry:.3g}; their mean is used"
            )
        if masks.dead.any():
            words = clean.dead_words(masks.dead, self.frames[0])
            notes.append(f"phi = {self.phi[k]:g}: {int(masks.dead.sum())} dead frames are masked: {words}")
        if masks.pair_ok is not None:
            masked = np.count_nonzero(~masks.pair_ok) // 2
            notes.append(f"phi = {self.phi[k]:g}: {masked} pairs without a finite value are masked")
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
            stored = stored if stored.dtype.kind == "f" else stored.astype(np.float64)
            clean.symmetrise(stored)
        sigma = np.broadcast_to(stored, (self.n_frames, self.n_frames))
        for rows in clean.row_slabs(self.n_frames):
            used = sigma[rows][clean.pairs_of_rows(frame_ok, masks, rows)]
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
    processing: Processing | None = None,
) -> TwoTime:
    """Make a record from matrices c2 (n_phi, N, N), angles (n_phi,) in degrees, q in Å⁻¹ and dt in s.

    `t` (N,) in s defaults to k·dt; it may begin later, but steps by dt. `sigma` is one number, one per angle
    (n_phi,), (N, N) or (n_phi, N, N).
    `dead_frames` counts from 1.
    """
    stack = arguments.matrices(c2)
    angles = arguments.angles(phi, len(stack))
    q, dt = arguments.positive(q, "q", "1/Å"), arguments.positive(dt, "dt", "s")
    arguments.words(non_finite, repair)
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
        matrices=InMemory(stack, arguments.uncertainties(sigma, len(angles), n)),
        screening=Screening(arguments.dead_frames(dead_frames, n), non_finite, repair),
        processing=processing or Processing(),
    )
