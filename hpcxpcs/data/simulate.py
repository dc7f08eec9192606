"""Simulated two-time matrices, one at a time: shape, contrast and offset of each angle, noise, dead frames.

The physics comes in as two callables of the bin, so that this module knows no model: `shape_matrix(bin)`
gives f (N, N) in [0, 1], `field_matrix(bin)` the field correlation (N, N), real or complex, |field|^2 = f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.noise import NoiseSpec, add_pair_noise, raise_diagonal, scale_frames
from hpcxpcs.data.speckle import photon_correlation
from hpcxpcs.errors import ConfigError

RING_SPACING = 1.3
"""Ratio of neighbouring q of a simulated file: farther apart than any sensible q tolerance."""
LOWEST_CONTRAST = 0.1
"""No angle gets less than this fraction of the mean contrast, however wide the spread."""
_SCALING, _NOISE = 0, 1


@dataclass(frozen=True)
class Bin:
    """One (q, phi) bin in 1/Å and degrees.

    `number` counts the file's bins from 1, phi fastest; `ring` is 0 at the q asked for; `angle` is an index.
    """

    number: int
    ring: int
    angle: int
    q: float
    phi: float


MatrixOfBin = Callable[[Bin], NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """What is added to the shape of every bin: scaling and its spread between angles, noise, dead frames.

    `contrast_spread` is relative, `offset_spread` absolute (standard deviations); `dead_frames` count from 1.
    """

    frames: int
    contrast: float = 0.15
    contrast_spread: float = 0.1
    offset: float = 1.0
    offset_spread: float = 0.003
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    dead_frames: tuple[int, ...] = ()
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse scalings that no measurement has and frames that are not there."""
        if not 0.0 < self.contrast <= 1.0:
            raise ConfigError(f"contrast: {self.contrast} is outside (0, 1]")
        if not 0.5 <= self.offset <= 1.5:
            raise ConfigError(f"offset: {self.offset} is outside [0.5, 1.5]")
        for key in ("contrast_spread", "offset_spread"):
            if not 0.0 <= getattr(self, key) <= 0.5:
                raise ConfigError(f"{key}: {getattr(self, key)} is outside [0, 0.5]")
        if self.noise.model == "photon" and (self.offset != 1.0 or self.offset_spread != 0.0):
            raise ConfigError(
                "offset: matrices from photons are normalised by their frame sums, which makes the offset 1: "
                "leave the offset at 1 and its spread at 0, or choose the noise model iid or frame"
            )
        wrong = [frame for frame in self.dead_frames if not 1 <= frame <= self.frames]
        if wrong:
            raise ConfigError(f"dead frames {wrong}: frames are numbered 1 to {self.frames}")
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed} must be an integer >= 0")

    @property
    def dead(self) -> NDArray[np.intp]:
        """The 0-based dead frames."""
        return np.asarray(self.dead_frames, dtype=np.intp) - 1


def even_angles(count: int) -> tuple[float, ...]:
    """`count` angles in degrees, evenly spaced over (-180, 180) and symmetric about 0."""
    if count < 1:
        raise ConfigError(f"angles: {count} must be at least 1")
    return tuple(float(phi) for phi in (np.arange(count) + 0.5) * (360.0 / count) - 180.0)


def bins_of(q: float, phi: Sequence[float], extra_q: int, missing: Sequence[int]) -> tuple[Bin, ...]:
    """All bins in file order (q outer, phi inner, both ascending) but the `missing` natural numbers.

    `extra_q` further rings lie alternately above and below `q` (1/Angstrom), a factor RING_SPACING apart.
    """
    if extra_q < 0:
        raise ConfigError(f"extra q rings: {extra_q} must be at least 0")
    steps = sorted((0, *((k + 1) // 2 * (1 if k % 2 else -1) for k in range(1, extra_q + 1))))
    grid = [(step, angle) for step in steps for angle in range(len(phi))]
    wrong = [number for number in missing if not 1 <= number <= len(grid)]
    if wrong:
        raise ConfigError(f"missing bins {wrong}: bins are numbered 1 to {len(grid)}")
    bins = tuple(
        Bin(number, step, angle, q * RING_SPACING**step, phi[angle])
        for number, (step, angle) in enumerate(grid, start=1)
        if number not in set(missing)
    )
    if not any(item.ring == 0 for item in bins):
        raise ConfigError(f"missing bins: none is left at the wavevector asked for, q = {q}")
    return bins


def scaling_of(recipe: Recipe, item: Bin) -> tuple[float, float]:
    """Contrast and offset of one bin: they depend on the recipe, the ring and the angle index alone."""
    draw = _stream(recipe, item, _SCALING).standard_normal(2)
    relative = max(1.0 + recipe.contrast_spread * float(draw[0]), LOWEST_CONTRAST)
    contrast = min(recipe.contrast * relative, 1.0)
    return contrast, recipe.offset + recipe.offset_spread * float(draw[1])


def matrix_of(
    recipe: Recipe, item: Bin, shape_matrix: MatrixOfBin, field_matrix: MatrixOfBin
) -> NDArray[np.floating[Any]]:
    """The simulated matrix (N, N) of one bin, full and symmetric; calls only what its noise model needs."""
    contrast, offset = scaling_of(recipe, item)
    rng = _stream(recipe, item, _NOISE)
    if recipe.noise.model == "photon":
        measured = photon_correlation(
            field_matrix(item),
            contrast=contrast,
            photons=recipe.noise.photons_of(recipe.frames),
            pixels=recipe.noise.pixels,
            dead_frames=recipe.dead,
            rng=rng,
            speckle_size=recipe.noise.speckle_size,
        )
        return measured.astype(recipe.dtype)
    c2 = np.array(shape_matrix(item), dtype=recipe.dtype)
    c2 *= c2.dtype.type(contrast)
    c2 += c2.dtype.type(offset)
    if recipe.noise.model == "frame":
        scale_frames(c2, recipe.noise.frame_sd, rng)
    add_pair_noise(c2, recipe.noise.sd, rng)
    raise_diagonal(c2)
    c2[recipe.dead, :] = 0.0
    c2[:, recipe.dead] = 0.0
    return c2


def matrices(
    recipe: Recipe, bins: Sequence[Bin], shape_matrix: MatrixOfBin, field_matrix: MatrixOfBin
) -> Iterator[NDArray[np.floating[Any]]]:
    """The matrices of `bins`, each made when it is asked for; subset and order do not change them."""
    return (matrix_of(recipe, item, shape_matrix, field_matrix) for item in bins)


def _stream(recipe: Recipe, item: Bin, purpose: int) -> np.random.Generator:
    ring = 2 * abs(item.ring) - (item.ring > 0)
    key = np.random.SeedSequence(recipe.seed, spawn_key=(ring, item.angle, purpose))
    return np.random.Generator(np.random.Philox(key))
