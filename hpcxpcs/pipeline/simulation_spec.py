"""What to simulate: the settings of `hpcxpcs simulate`, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from hpcxpcs.data.formats import FORMATS
from hpcxpcs.data.formats.layout import Compression
from hpcxpcs.data.noise import NoiseSpec
from hpcxpcs.data.simulate import Recipe, even_angles
from hpcxpcs.errors import ConfigError

FEWEST_FRAMES = 8
OFFSET_SPREAD = 0.003
"""Standard deviation of the offset between angles, unless asked otherwise or fixed by frame sums."""


@dataclass(frozen=True)
class SimulationSpec:
    """What to simulate; lengths in Å, times in s, angles in degrees, frames and bins counted from 1.

    `parameters` overrides single values of TRUTH; `phi` wins over `angles`. `offset_spread` None means
    OFFSET_SPREAD, and 0 for photons; `half` None means full matrices in cubes and one triangle elsewhere.
    """

    model: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    angles: int = 23
    phi: tuple[float, ...] | None = None
    frames: int = 1001
    dt: float = 0.1
    q: float = 0.0054
    gap: float = 2.0e6
    contrast: float = 0.15
    contrast_spread: float = 0.1
    offset: float = 1.0
    offset_spread: float | None = None
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    dead_frames: tuple[int, ...] = ()
    missing_bins: tuple[int, ...] = ()
    extra_q: int = 0
    seed: int = 0
    shear_law: str = "couette"
    integrator: str = "exact"
    heterodyne: str = "physical"
    dtype: str = "float32"
    output: Path | None = None
    format: str = "nexus"
    half: bool | None = None
    compression: Compression = "auto"
    config: Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated, before anything is computed."""
        if self.frames < FEWEST_FRAMES:
            raise ConfigError(f"frames: {self.frames} must be at least {FEWEST_FRAMES}")
        for key, unit in (("dt", "s"), ("q", "1/Å"), ("gap", "Å")):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"{key}: {value} must be a positive number of {unit}")
        if self.phi is not None and not all(math.isfinite(phi) and abs(phi) <= 360.0 for phi in self.phi):
            raise ConfigError(f"phi: {list(self.phi)} must be angles between -360 and 360 degrees")
        if len(set(self.angles_sorted)) < len(self.angles_sorted):
            raise ConfigError(f"phi: {list(self.angles_sorted)} names an angle twice")
        if not self.angles_sorted:
            raise ConfigError("phi: no angle is given")
        _require(self.dtype, "dtype", ("float32", "float64"))
        _require(self.format, "format", tuple(FORMATS))
        _require(self.compression, "compression", get_args(Compression))
        _require_ending(self.output, self.format)

    @property
    def angles_sorted(self) -> tuple[float, ...]:
        """The angles in degrees, ascending, as files hold them."""
        return even_angles(self.angles) if self.phi is None else tuple(sorted(self.phi))

    @property
    def recipe(self) -> Recipe:
        """What the data layer adds to the shapes."""
        usual = 0.0 if self.noise.model == "photon" else OFFSET_SPREAD
        return Recipe(
            frames=self.frames,
            contrast=self.contrast,
            contrast_spread=self.contrast_spread,
            offset=self.offset,
            offset_spread=usual if self.offset_spread is None else self.offset_spread,
            noise=self.noise,
            dead_frames=self.dead_frames,
            dtype=self.dtype,
            seed=self.seed,
        )


def _require_ending(output: Path | None, layout: str) -> None:
    """Refuse a name that promises another kind of file than the layout is written as."""
    ending = "" if output is None else output.suffix.lower()
    if ending == ".npz" and layout != "cube":
        raise ConfigError(f"output: {output} would be an HDF5 file; choose format cube for NPZ, or another ending")
    if ending in (".npy", ".mat"):
        raise ConfigError(f"output: {output}: {ending} files are not written; use .npz with format cube, or .h5")


def _require(value: str, key: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r} is not one of {', '.join(allowed)}")
