"""Noise of simulated two-time matrices that is drawn on the matrix itself: of pairs, and of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import ConfigError

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
