"""Two-time matrices from photons: partially coherent speckle, Poisson counts, normalisation by frame sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import DataError

PIXEL_BLOCK = 1024
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
    root: Kernel, weights: NDArray[np.float64], pixels: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Intensity (N, pixels) of mean 1 of independent speckles whose field correlation is `root` root^H."""
    frames, rank = root.shape
    single = root.astype(np.complex64 if np.iscomplexobj(root) else np.float32)
    intensity = np.zeros((frames, pixels), dtype=np.float32)
    for weight in weights:
        if np.iscomplexobj(single):
            draws = rng.standard_normal((rank, 2 * pixels), dtype=np.float32).view(np.complex64)
            field = single @ draws
            power = field.real**2 + field.imag**2
        else:
            field = single @ rng.standard_normal((rank, 2 * pixels), dtype=np.float32)
            power = field[:, :pixels] ** 2 + field[:, pixels:] ** 2
        intensity += np.float32(0.5 * weight) * power
    return intensity


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
    photons: float,
    pixels: int,
    dead_frames: NDArray[np.intp],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Measured two-time matrix (N, N) of one bin: expectation 1 + contrast |kernel|^2 off the diagonal.

    `kernel` (N, N) is the field correlation, `photons` the mean count per pixel and frame, `dead_frames` the
    0-based frames without photons. Pixels are drawn in blocks, so memory does not grow with their number.
    """
    root, weights = field_root(kernel), mode_weights(contrast)
    frames = root.shape[0]
    products, sums = np.zeros((frames, frames)), np.zeros(frames)
    for start in range(0, pixels, PIXEL_BLOCK):
        block = min(PIXEL_BLOCK, pixels - start)
        counts = rng.poisson(photons * speckle_intensity(root, weights, block, rng)).astype(np.float32)
        counts[dead_frames] = 0.0
        products += counts @ counts.T
        sums += counts.sum(axis=1, dtype=np.float64)
    return normalised_correlation(products, sums, pixels)
