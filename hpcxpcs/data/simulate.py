"""Simulated two-time matrices, one at a time: shape, contrast and offset of each angle, noise, dead frames.

The physics comes in as two callables of the bin, so that this module knows no model: `shape_matrix(bin)`
gives f (N, N) in [0, 1], `field_matrix(bin)` the field correlation (N, N), real or complex, |field|^2 = f.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.errors import ConfigError, DataError

SETTINGS_OF: Mapping[str, tuple[str, ...]] = {
    "iid": ("sd",),
    "frame": ("sd", "frame_sd"),
    "photon": ("photons", "pixels", "speckle_size", "photon_drift"),
}
"""The noise models, and which settings each of them uses."""

LARGEST_SPECKLE = 8.0
"""Pixels: speckles are drawn in patches of 32 x 32, which must hold several."""
DIAGONAL_SPIKE = 0.4
"""Added to the diagonal, as by shot noise in measured matrices: whoever uses the diagonal is this wrong."""

Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class NoiseSpec:
    """How the matrices of a simulated file fluctuate.

    `sd` is the standard deviation of one element (models iid and frame), `frame_sd` the relative standard
    deviation of one frame's normalisation (model frame). The noise of the model photon follows from the `photons`
    per pixel and frame (their mean over the frames), the number of `pixels` of a bin, the `speckle_size` (full width
    at half maximum of the intensity's correlation between pixels; 0 for independent pixels) and `photon_drift`, the
    change of the photon number from the first frame to the last, relative to the mean.
    """

    model: str = "iid"
    sd: float = 0.01
    frame_sd: float = 0.003
    photons: float = 1.0
    pixels: int = 10_000
    speckle_size: float = 0.0
    photon_drift: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a noise model that does not exist and numbers that mean nothing."""
        if self.model not in SETTINGS_OF:
            raise ConfigError(f"noise model: {self.model!r} is not one of {', '.join(SETTINGS_OF)}")
        for key in ("sd", "frame_sd"):
            value = getattr(self, key)
            if not (np.isfinite(value) and value >= 0.0):
                raise ConfigError(f"noise {key}: {value} must be a finite number >= 0")
        if not (np.isfinite(self.photons) and self.photons > 0.0):
            raise ConfigError(f"photons per pixel and frame: {self.photons} must be a finite number > 0")
        if self.pixels < 2:
            raise ConfigError(f"pixels: {self.pixels} must be at least 2")
        if not 0.0 <= self.speckle_size <= LARGEST_SPECKLE:
            raise ConfigError(
                f"speckle size: {self.speckle_size} must be 0 (independent pixels) to {LARGEST_SPECKLE:g} pixels"
            )
        if not -2.0 < self.photon_drift < 2.0:
            raise ConfigError(f"photon drift: {self.photon_drift} must be between -2 and 2, so that no frame is empty")

    def photons_of(self, frames: int) -> NDArray[np.float64]:
        """Mean photons per pixel of each of the frames, (frames,)."""
        return self.photons * (1.0 + self.photon_drift * np.linspace(-0.5, 0.5, frames))

    def describe(self) -> dict[str, Any]:
        """The settings that this noise model uses, ready for JSON."""
        return {"model": self.model, **{key: getattr(self, key) for key in SETTINGS_OF[self.model]}}


def noise_spec(model: str, **given: float | None) -> NoiseSpec:
    """A noise model with the settings that are not None; a setting that the model does not use is refused."""
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    spec = NoiseSpec(model, **settings)
    unused = [key for key in settings if key not in SETTINGS_OF[model]]
    if unused:
        raise ConfigError(
            f"noise {', '.join(unused)}: the noise model {model} uses {', '.join(SETTINGS_OF[model])} only"
        )
    return spec


def add_pair_noise(c2: Matrix, sd: float, rng: np.random.Generator) -> None:
    """Add one Gaussian draw of deviation `sd` to every pair i < j of `c2` (N, N), in place and mirrored.

    The lower triangle becomes an exact copy of the upper one.
    """
    n = c2.shape[0]
    for i in range(n - 1):
        c2[i, i + 1 :] += sd * rng.standard_normal(n - 1 - i, dtype=np.float32)
        c2[i + 1 :, i] = c2[i, i + 1 :]


def scale_frames(c2: Matrix, relative_sd: float, rng: np.random.Generator) -> None:
    """Multiply `c2` (N, N) in place by (1 + e_i)(1 + e_j), one Gaussian e of `relative_sd` for each frame.

    Pairs that share a frame then share noise: cov(c2_ij, c2_ik) = relative_sd^2 c2_ij c2_ik for j != k.
    """
    gain = np.asarray(1.0 + relative_sd * rng.standard_normal(c2.shape[0]), dtype=c2.dtype)
    c2 *= gain[:, None]
    c2 *= gain[None, :]


def raise_diagonal(c2: Matrix) -> None:
    """Add the spike of shot noise to the diagonal of `c2` (N, N), in place."""
    c2[np.diag_indices_from(c2)] += c2.dtype.type(DIAGONAL_SPIKE)


PATCH = 32
"""Pixels are drawn in square patches of so many a side; neighbours in a patch may share speckles."""
NEGATIVE_EIGENVALUE = 1e-6
"""Largest negative eigenvalue, relative to the largest, that is rounding and not a wrong kernel."""

Kernel = NDArray[Any]
"""Real or complex, double precision."""


def mode_weights(contrast: float) -> NDArray[np.float64]:
    """Weights (M,) of independent coherent modes, of sum 1 and of sum of squares `contrast`, in (0, 1].

    M is the smallest number that can reach the contrast: one weight differs, the others are equal.
    """
    if not 0.0 < contrast <= 1.0:
        raise DataError(f"speckle contrast {contrast} is outside (0, 1]")
    modes = math.ceil(1.0 / contrast)
    if modes == 1:
        return np.ones(1)
    first = (1.0 + math.sqrt(max((modes - 1) * (contrast * modes - 1.0), 0.0))) / modes
    return np.concatenate([[first], np.full(modes - 1, (1.0 - first) / (modes - 1))])


def field_root(kernel: Kernel) -> Kernel:
    """Root L of the field correlation `kernel` (N, N), Hermitian with unit diagonal: L L^H = kernel.

    Negative eigenvalues of rounding are cut, and the rows of L scaled back to norm 1.
    """
    values, vectors = np.linalg.eigh(kernel)
    if values[0] < -NEGATIVE_EIGENVALUE * values[-1]:
        raise DataError(
            f"no speckle pattern has this field correlation: it is not positive semidefinite "
            f"(eigenvalues {values[0]:.3g} to {values[-1]:.3g})"
        )
    kept = values > 0.0
    root = vectors[:, kept] * np.sqrt(values[kept])
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    return np.asarray(root)


def speckle_intensity(
    root: Kernel,
    weights: NDArray[np.float64],
    pixels: int,
    rng: np.random.Generator,
    smoothing: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Intensity (N, pixels) of mean 1 of speckles whose field correlation in time is `root` root^H.

    Pixels are independent, or, with the `smoothing` of `speckle_smoothing`, the pixels of one patch.
    """
    frames, rank = root.shape
    is_complex = np.iscomplexobj(root) or smoothing is not None
    single = root.astype(np.complex64 if is_complex else np.float32)
    intensity = np.zeros((frames, pixels), dtype=np.float32)
    for weight in weights:
        draws = rng.standard_normal((rank, 2 * pixels), dtype=np.float32)
        if is_complex:
            field = single @ _smoothed(draws.view(np.complex64), smoothing)
            power = field.real**2 + field.imag**2
        else:
            field = single @ draws
            power = field[:, :pixels] ** 2 + field[:, pixels:] ** 2
        intensity += np.float32(0.5 * weight) * power
    return intensity


def speckle_smoothing(size: float) -> NDArray[np.float32]:
    """Factors (PATCH, PATCH) on the Fourier transform of independent numbers that make speckles of a size in pixels.

    The field correlation between pixels at distance d is 2^(-2 (d/size)^2), so that the intensity's correlation, its
    square, has fallen to one half at d = size/2. Patches are closed to a ring in both directions.
    """
    steps = np.minimum(np.arange(PATCH), PATCH - np.arange(PATCH))
    along = np.exp2(-2.0 * (steps / size) ** 2)
    power = np.clip(np.fft.fft2(np.outer(along, along)).real, 0.0, None)
    return np.asarray(np.sqrt(power / power.mean()), dtype=np.float32)


def _smoothed(draws: NDArray[np.complex64], smoothing: NDArray[np.float32] | None) -> NDArray[np.complex64]:
    """Draws (rank, PATCH**2) with the pixels of a patch correlated; unchanged (rank, pixels) without a smoothing."""
    if smoothing is None:
        return draws
    patches = draws.reshape(-1, PATCH, PATCH)
    return np.asarray(np.fft.ifft2(np.fft.fft2(patches) * smoothing), dtype=np.complex64).reshape(draws.shape)


def normalised_correlation(products: Floats, sums: Floats, pixels: int) -> NDArray[np.float64]:
    """Two-time matrix pixels * sum_p(I I') / (sum_p I * sum_p I') from its sums; an empty frame's row is 0.

    `products` (N, N) holds sum_p I_p(t1) I_p(t2), `sums` (N,) holds sum_p I_p(t). The diagonal keeps its
    shot noise.
    """
    safe = np.where(sums > 0.0, sums, 1.0)
    return np.asarray(pixels * products / (safe[:, None] * safe[None, :]), dtype=np.float64)


def photon_correlation(
    kernel: Kernel,
    *,
    contrast: float,
    photons: float | NDArray[np.float64],
    pixels: int,
    dead_frames: NDArray[np.intp],
    rng: np.random.Generator,
    speckle_size: float = 0.0,
) -> NDArray[np.float64]:
    """Measured two-time matrix (N, N) of one bin: expectation 1 + contrast |kernel|^2 off the diagonal.

    `kernel` (N, N) is the field correlation, `photons` the mean count per pixel, of all frames or of each (N,),
    `dead_frames` the 0-based frames without photons, `speckle_size` in pixels (0: independent pixels). Pixels are drawn
    in patches, so memory does not grow with their number.

    The noise is that of a Wishart matrix: with K(t1,t2) = contrast |kernel|^2 + delta(t1,t2)/photons and P pixels,
    Cov(C2(1,2), C2(3,4)) = (K(1,3) K(2,4) + K(1,4) K(2,3)) / P to leading order in the contrast, the product of two
    speckle terms over P / sum_q |mu_pq|^4 instead, mu being the field correlation between pixels p and q (fluctuations
    of Gaussian fields: Goodman, Speckle Phenomena in Optics, 2007, ch. 4; sample covariances: Anderson, Multivariate
    Statistical Analysis, 2003, ch. 7).
    """
    root, weights = field_root(kernel), mode_weights(contrast)
    smoothing = speckle_smoothing(speckle_size) if speckle_size > 0.0 else None
    frames, patch = root.shape[0], PATCH * PATCH
    products, sums = np.zeros((frames, frames)), np.zeros(frames)
    level = np.broadcast_to(np.asarray(photons, dtype=np.float64), (frames,))[:, None]
    for start in range(0, pixels, patch):
        used = min(patch, pixels - start)
        drawn = patch if smoothing is not None else used
        counts = rng.poisson(level * speckle_intensity(root, weights, drawn, rng, smoothing)[:, :used])
        counts = counts.astype(np.float32)
        counts[dead_frames] = 0.0
        products += counts @ counts.T
        sums += counts.sum(axis=1, dtype=np.float64)
    return normalised_correlation(products, sums, pixels)


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


def _stream(recipe: Recipe, item: Bin, purpose: int) -> np.random.Generator:
    ring = 2 * abs(item.ring) - (item.ring > 0)
    key = np.random.SeedSequence(recipe.seed, spawn_key=(ring, item.angle, purpose))
    return np.random.Generator(np.random.Philox(key))
