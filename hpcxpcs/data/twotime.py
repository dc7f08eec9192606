"""The one record of an experiment: two-time matrices by angle, with times, q and what may be trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcxpcs.data import clean
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
        """Return the matrix of angle k."""
        ...

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return the uncertainties of angle k, () or (N, N), None when there are none."""
        ...

    def content_hash(self) -> str:
        """Return a hash of all matrices and uncertainties."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Matrices that are already here."""

    stack: Sequence[NDArray[Any]]
    sigmas: Sequence[NDArray[Any]] | None = None
    known_hash: str | None = None

    def c2(self, k: int) -> NDArray[Any]:
        """Return the matrix of angle k, (N, N)."""
        return self.stack[k]

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return the uncertainties of angle k, None when there are none."""
        return None if self.sigmas is None else self.sigmas[k]

    def content_hash(self) -> str:
        """Return the hash of the file they came from, or of the arrays."""
        return self.known_hash or hash_of_arrays([*self.stack, *(self.sigmas or ())])


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

    def angle(self, k: int) -> AngleMatrix:
        """Read and check the matrix of angle k: symmetry, dead frames, non-finite values, variation."""
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

    def picture(self, k: int) -> Floats:
        """Return the matrix of angle k for plots: (N, N) float64, diagonal repaired, NaN at dead frames."""
        c2, masks, _ = self._screened(k)
        c2, _ = self._processed(k, c2, masks)
        return drawn_diagonal(clean.repaired_diagonal(c2, masks.dead), self.processing)

    def fingerprint(self) -> str:
        """Return a hash (hex) that differs when anything that enters a fit differs.

        It covers the stored values of the selected matrices (for a file: their stored bytes, so recompressing
        is a change; copying or touching the file is not), σ, angles, q, times, frames and masking settings.
        """
        settings = {
            "phi": self.phi.tolist(),
            "q": self.q,
            "t": hash_of_arrays([self.t]),
            "frames": list(self.frames),
            "dead_frames": self.screening.dead_frames,
            "non_finite": self.screening.non_finite,
            "matrices": self.matrices.content_hash(),
        }
        if self.screening.repair != "disabled":
            settings["repair"] = self.screening.repair
        if self.processing.settings():
            settings["preprocessing"] = self.processing.settings()
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _name(self, k: int) -> str:
        if not 0 <= k < self.n_phi:
            raise DataError(f"angle {k}: there are {self.n_phi} angles, counted from 0")
        source = self.provenance.get("file")
        name = f"angle {k} (phi = {self.phi[k]:g} degrees)"
        return f"{source}: {name}" if source else name

    def _screened(self, k: int) -> tuple[NDArray[Any], clean.Masks, tuple[str, ...]]:
        name = self._name(k)
        stored = self.matrices.c2(k)
        if stored.shape != (self.n_frames, self.n_frames):
            raise DataError(f"{name}: the matrix has shape {stored.shape}, expected {(self.n_frames,) * 2}")
        c2, asymmetry = clean.symmetric(stored)
        masks, repairs = screened(c2, self.screening, name, self.frames[0])
        notes = [
            f"phi = {self.phi[k]:g}: repair masked {len(item.frames)} frames and {item.pairs} pairs: {item.reason}"
            for item in repairs
        ]
        if asymmetry > clean.rounding(c2):
            notes.append(
                f"phi = {self.phi[k]:g}: the triangles differ by up to {asymmetry:.3g}; their mean is used"
            )
        if masks.dead.any():
            frames = (np.flatnonzero(masks.dead) + self.frames[0]).tolist()
            notes.append(f"phi = {self.phi[k]:g}: {len(frames)} dead frames are masked: {_shortened(frames)}")
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
        sigma = clean.symmetric(stored)[0] if stored.ndim == 2 else stored
        sigma = np.broadcast_to(sigma, (self.n_frames, self.n_frames))
        used = np.triu(frame_ok[:, None] & frame_ok[None, :], 1)
        if masks.pair_ok is not None:
            used &= masks.pair_ok
        if not (np.isfinite(sigma[used]).all() and (sigma[used] > 0).all()):
            raise DataError(
                f"{self._name(k)}: noise.sigma must be positive and finite for every pair of frames used"
            )
        return sigma

    def _remember(self, notes: tuple[str, ...]) -> None:
        remembered = self.provenance.setdefault("notes", [])
        remembered.extend(note for note in notes if note not in remembered)


def _shortened(frames: list[int], limit: int = 12) -> str:
    shown = ", ".join(map(str, frames[:limit]))
    return shown if len(frames) <= limit else f"{shown}, …"


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
    stack = [np.asarray(matrix) for matrix in c2]  # type: ignore[union-attr]
    angles = np.atleast_1d(np.asarray(phi, dtype=np.float64))
    if not stack or len(stack) != len(angles) or any(m.ndim != 2 or m.shape != stack[0].shape for m in stack):
        shapes = sorted({matrix.shape for matrix in stack})
        raise DataError(
            f"{len(stack)} matrices with shapes {shapes} for {len(angles)} angles; (n_phi, N, N) is needed"
        )
    n = stack[0].shape[1]
    times = np.asarray(np.arange(n) * float(dt) if t is None else t, dtype=np.float64)
    if not dt > 0 or times.shape != (n,):
        raise DataError(f"dt is {dt} s and t has shape {times.shape}; dt must be positive and t ({n},)")
    if not (times[0] >= 0.0 and np.allclose(times, times[0] + np.arange(n) * dt, rtol=0.0, atol=UNEVEN * dt)):
        raise DataError(f"t must begin at 0 or later and step by dt = {dt:g} s throughout")
    return TwoTime(
        phi=angles,
        q=float(q),
        t=times,
        dt=float(dt),
        frames=(1, n),
        provenance={"source": "arrays", "notes": []},
        matrices=InMemory(stack, None if sigma is None else _sigmas(np.asarray(sigma), len(angles), n)),
        screening=Screening(
            dead_frames if isinstance(dead_frames, str) else tuple(dead_frames), non_finite, repair
        ),
        processing=processing or Processing(),
    )


def _sigmas(sigma: NDArray[Any], n_phi: int, n: int) -> list[NDArray[Any]]:
    if sigma.ndim == 0 or sigma.shape == (n, n):
        return [sigma] * n_phi
    if sigma.shape in ((n_phi,), (n_phi, n, n)):
        return [np.asarray(value) for value in sigma]
    raise DataError(
        f"sigma has shape {sigma.shape}; expected (), ({n_phi},), ({n}, {n}) or ({n_phi}, {n}, {n})"
    )
