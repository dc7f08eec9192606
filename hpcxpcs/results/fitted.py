"""fitted_data.npz: data, fit and residuals of every pair of frames, written angle by angle."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.atomic import atomic_open, writing
from hpcxpcs.physics.model import Model
from hpcxpcs.results.comparison import (
    BLOCK_POINTS,
    Block,
    at_fit,
    at_mean,
    compared,
    drawn_curves,
    padded,
    rows_per_block,
)
from hpcxpcs.results.nlsq import stage_names
from hpcxpcs.results.records import Answer

FITTED_MATRICES = ("c2_exp", "c2_theoretical_raw", "c2_theoretical_scaled", "residuals", "residuals_normalized")
"""The (n_phi,N,N) members; the raw theory is the shape f, without contrast and offset."""

BAND_MATRICES = (*FITTED_MATRICES, "c2_credible_lower", "c2_credible_upper")
"""The (n_phi,N,N) members of the posterior's archive."""

MOST_DRAWS, FEWEST_DRAWS = 64, 16
"""Draws whose curves make a band: of 16, the band's half-width is known to a fifth of itself."""

EVALUATIONS = 4 * 10**8
"""Points times draws that a band may take: about ten seconds of one core."""

SIZE_LIMIT = 4 * 2**30
"""Bytes above which the file is left out: everything in it can be computed again from data and parameters."""


class FittedData:
    """Collects blocks of rows for the matrices of one archive, each in a file of its own until the end."""

    def __init__(self, folder: Path, data: TwoTime, matrices: Sequence[str], small: Mapping[str, np.ndarray]) -> None:
        self.path = folder
        self._small = small
        self._dtype = stored_dtype(data)
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (data.n_phi, data.n_frames, data.n_frames),
        }
        self._streams = {name: (folder / name).open("xb") for name in matrices}
        for stream in self._streams.values():
            np.lib.format.write_array_header_2_0(stream, header)

    def add(self, block: Block, *more: np.ndarray) -> None:
        """Append a block and rows of what is stored besides; blocks come in the order of angles and rows."""
        arrays = (block.c2, block.shape, block.scaled, block.residual, block.normalized, *more)
        with writing(self.path):
            for stream, array in zip(self._streams.values(), arrays, strict=True):
                stream.write(np.ascontiguousarray(array, dtype=self._dtype).data)

    def close(self) -> None:
        """Close the files of the matrices."""
        for stream in self._streams.values():
            stream.close()

    def pack(self, stream: BinaryIO) -> None:
        """Write the archive: the matrices from their files, and the small arrays."""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, array in self._small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, source in self._streams.items():
                large = archive.open(f"{name}.npy", "w", force_zip64=True)
                with Path(source.name).open("rb") as matrix, large as member:
                    shutil.copyfileobj(matrix, member, 2**20)


def write_fitted_data(path: Path, answer: Answer, posterior: Posterior | None = None) -> None:
    """Compare data and a curve angle by angle and write the archive; memory holds one angle at a time.

    The curve is the point fit or, where a posterior is given, that at its mean, with credible bands of the curve.
    """
    data = answer.data
    curve = at_fit(answer.fit) if posterior is None else at_mean(answer.fit, posterior)
    small, bands = small_arrays(data, curve.contrast, curve.offset), None
    if posterior is not None:
        probability = float(posterior.summary.hdi_probability)
        small["credible_probability"] = np.array([probability])
        bands = Bands(answer, posterior, probability, rows_per_block(data.n_frames, BLOCK_POINTS))
    with fitted_data(path, data, matrices_of(posterior), small) as collected:
        for block in compared(answer, BLOCK_POINTS, curve):
            collected.add(block, *(() if bands is None else bands.around(block)))


def matrices_of(posterior: Posterior | None) -> tuple[str, ...]:
    """The (n_phi,N,N) members of the archive of a point fit or of a posterior."""
    return FITTED_MATRICES if posterior is None else BAND_MATRICES


@contextmanager
def fitted_data(
    path: Path,
    data: TwoTime,
    matrices: Sequence[str],
    small: Mapping[str, np.ndarray],
) -> Iterator[FittedData]:
    """Collect blocks in the body; the archive appears at `path` when the body ends without an error."""
    folder = path.with_name(f".{path.name}.parts")
    with writing(path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        with writing(path):
            collected = FittedData(folder, data, matrices, small)
        try:
            yield collected
        finally:
            collected.close()
        with atomic_open(path) as stream, writing(path):
            collected.pack(stream)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def small_arrays(data: TwoTime, contrast: np.ndarray, offset: np.ndarray) -> dict[str, np.ndarray]:
    """The other members: angles (degrees), times (s), q (1/Å), contrast and offset (n_phi,2)."""
    t = np.asarray(data.t, dtype=float)
    stages = stage_names(data)
    return {
        "phi_angles": np.asarray(data.phi, dtype=float),
        "t1": t,
        "t2": t,
        "q": np.array([data.q], dtype=float),
        "per_angle_scaling": np.column_stack([contrast, offset]).astype(float),
        **({"preprocessing": np.array(stages, dtype=np.str_)} if stages else {}),
    }


def stored_dtype(data: TwoTime) -> np.dtype[Any]:
    """Single precision if the data came in single precision, else double."""
    return np.dtype(np.float32 if data.itemsize <= 4 else np.float64)


def reason_to_skip(
    path: Path, data: TwoTime, matrices: int = len(FITTED_MATRICES), limit: int = SIZE_LIMIT
) -> str | None:
    """Why an archive of so many matrices should not be written (too large, or no room for it), or None."""
    size = matrices * data.n_phi * data.n_frames**2 * stored_dtype(data).itemsize
    if size > limit:
        return f"it would take {size / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} GB"
    free = shutil.disk_usage(path.parent).free
    if 2 * size > free:
        return f"{2 * size / 1e9:.1f} GB are needed to write it, and {free / 1e9:.1f} GB are free on the disk"
    return None


Sums = tuple[jax.Array, jax.Array, jax.Array]
"""Number of curves so far, their mean, and the sum of squared distances from it."""


class Bands:
    """Mean ± so many standard deviations of the draws' curves, for blocks of equally many rows."""

    def __init__(self, answer: Answer, posterior: Posterior, probability: float, rows: int) -> None:
        data = answer.data
        curves = drawn_curves(answer.fit, posterior, draws_for(data.n_phi * data.n_frames**2))
        self._theta = np.array([curve.values for curve in curves])
        self._scaling = np.array([(curve.contrast, curve.offset) for curve in curves])
        self._widths = float(ndtri(0.5 + probability / 2))
        self._model, self._phi, self._rows = answer.model, data.asked_angles, rows
        self._t = np.asarray(data.t, dtype=float)
        self._padded = padded(self._t, rows)

    def around(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper edge (m,N) for the rows of a block; on the diagonal the shape is 1."""
        t1 = self._padded[block.start : block.start + self._rows, None]
        mean, deviation = (
            np.array(part)[: len(block.c2)]
            for part in _spread(
                self._model, self._theta, self._scaling[..., block.angle], t1, self._t[None, :],
                float(self._phi[block.angle]),
            )
        )  # fmt: skip
        total = self._scaling[..., block.angle].sum(axis=1)
        inside = np.arange(len(block.c2))
        mean[inside, block.rows], deviation[inside, block.rows] = total.mean(), total.std(ddof=1)
        return mean - self._widths * deviation, mean + self._widths * deviation


def draws_for(points: int) -> int:
    """How many draws a band of so many points is made of."""
    return int(np.clip(EVALUATIONS // max(1, points), FEWEST_DRAWS, MOST_DRAWS))


def _spread_of(
    model: Model, theta: jax.Array, scaling: jax.Array, t1: jax.Array, t2: jax.Array, phi: float
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation (m,N) over draws of offset + contrast · shape; theta (k,p), scaling (k,2).

    Summed by Welford's recursion: the curves are nearly equal, and only one of them is in memory.
    """

    def add(sums: Sums, draw: tuple[jax.Array, jax.Array]) -> tuple[Sums, None]:
        count, mean, squares = sums
        values, (contrast, offset) = draw
        curve = offset + contrast * model.shape(values, t1, t2, phi)
        moved = mean + (curve - mean) / (count + 1)
        return (count + 1, moved, squares + (curve - mean) * (curve - moved)), None

    zero = jnp.zeros(jnp.broadcast_shapes(t1.shape, t2.shape))
    (count, mean, squares), _ = jax.lax.scan(add, (jnp.zeros(()), zero, zero), (theta, scaling))
    return mean, jnp.sqrt(squares / (count - 1))


_spread = jax.jit(_spread_of)
