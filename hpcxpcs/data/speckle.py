"""Two-time matrices from photons: partially coherent speckle, Poisson counts, normalisation by frame sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import DataError

PATCH = 32
"""Pixels are drawn in square patches of so many a side; neighbours in a patch may share speckles."""
NEGATIVE_EIGENVALUE = 1e-6
"""Largest negative eigenvalue, relative to the largest, that is rounding and not a wrong kernel."""

Floats = NDArray[np.floating[Any]]
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
