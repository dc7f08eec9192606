"""Print how the noise of real frames compares with that of speckles: a gel at a synchrotron, three rings, six sectors.

usage: real_frames.py FOLDER   (with img_stack5301_5401.npy.zip of scikit-beam's examples: 100 frames of 256 × 256)
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.answer.fit import PointFit, PointSettings
from hpcxpcs.config import DataScale, config_from_mapping, resolved_parameters
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.inference.measurement import measure
from hpcxpcs.inference.point import fit_point
from hpcxpcs.physics.model import build_model

CENTRE, STEP = (143.0, 132.0), 1.30068e-3
"""Column and row of the direct beam, seconds between frames."""

RINGS = {(30, 38): 0.0067, (38, 48): 0.0085, (54, 68): 0.0120}
"""Radii (pixels) and q (1/Å)."""

SECTORS = 6


def frames_in(folder: Path) -> NDArray[np.float64]:
    """The frames (N, 256, 256)."""
    with zipfile.ZipFile(next(folder.glob("*.npy.zip"))) as archive:
        return np.asarray(np.load(io.BytesIO(archive.read(archive.namelist()[0]))), dtype=np.float64)


def correlated(frames: NDArray[np.float64], ring: tuple[int, int]) -> tuple[list[np.ndarray], list[float], list[int]]:
    """Two-time matrices, photons per pixel and frame, and pixels, of the sectors of a ring.

    Every pixel is divided by the mean of its radius and sector, so that only speckle is left.
    """
    rows, columns = np.indices(frames.shape[1:])
    x, y = columns - CENTRE[0], rows - CENTRE[1]
    radius, turn = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 360.0
    mean = frames.mean(axis=0)
    good = (mean > 0.02) & (mean < 60.0) & ((columns < 142) | (columns > 144))
    good &= (radius >= ring[0]) & (radius < ring[1])
    matrices, photons, pixels = [], [], []
    for sector in range(SECTORS):
        chosen = good & (turn // (360.0 / SECTORS) == sector)
        counts, shell = frames[:, chosen], radius[chosen].astype(int)
        level = np.bincount(shell, weights=mean[chosen]) / np.maximum(np.bincount(shell), 1)
        light = counts / level[shell]
        sums = light.sum(axis=1)
        matrices.append(light.shape[1] * light @ light.T / np.outer(sums, sums))
        photons.append(float(1.0 / np.mean(1.0 / level[shell])))
        pixels.append(int(chosen.sum()))
    return matrices, photons, pixels


def fitted(matrices: list[np.ndarray], q: float, noise_model: str = "auto") -> PointFit:
    """Diffusion of a ring, its sectors being angles."""
    phi = tuple(360.0 / SECTORS * (np.arange(SECTORS) + 0.5) - 180.0)
    count = len(matrices[0])
    config = config_from_mapping(
        {
            "analysis_mode": "static",
            "experimental_data": {"file_path": "frames.npy"},
            "analyzer_parameters": {"scattering": {"wavevector_q": q}},
            "initial_parameters": {"fixed_parameters": {"D_offset": 0.0}},
        }
    )
    data = from_arrays(np.stack(matrices), phi, q, STEP, STEP * (1.0 + np.arange(count)))
    scale = DataScale(q, 2.0e6, STEP, STEP, STEP * (count - 1))
    parameters = resolved_parameters(config, scale)
    settings = PointSettings(scaling="individual", multi_start=4, noise_model=noise_model)
    return fit_point(measure(data, 1 << 30), build_model("static", q=q, gap=2.0e6), parameters, settings)


def main() -> None:
    """One line per ring."""
    frames = frames_in(Path(sys.argv[1]))
    for ring, q in RINGS.items():
        matrices, photons, pixels = correlated(frames, ring)
        fit = fitted(matrices, q)
        noise = fit.noise
        assert noise is not None
        share = noise.pixels / np.array(pixels)
        errors = np.asarray(fit.robust_uncertainty)[:2]
        lines = (
            f"radius {ring[0]} to {ring[1]} pixels, q {q} 1/Å: {fit.status}, for {noise.model} noise {noise.why}",
            f"D0 {fit.values[0]:.4g}, alpha {fit.values[1]:.3f}, robust errors {errors}",
            f"errors as if independent {noise.alone[:2]}, robust without weights {noise.alone_robust[:2]}",
            f"photons counted {np.round(photons, 2)}, by the {noise.photons_from} {noise.photons.round(2)}",
            f"pixels counted {pixels}, independent over counted {share.round(2)}",
            f"smooth noise over that implied {noise.measured_ratio:.2f}, used {noise.smooth_ratio:.2f}",
            f"left over, smooth, shared, independent {noise.levels.round(2)}, all {fit.reduced_chi_squared:.3f}",
        )
        print("\n  ".join(lines), flush=True)


if __name__ == "__main__":
    main()
