"""Where the pixels of a detector look: geometry in stated units, and the maps of q and φ that follow from it.

x counts columns and y rows, from the pixel centre 0; φ = -atan2(y, x): 0° along +x, counter-clockwise with row 0 drawn
at the top.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from hpcxpcs.arrays import Floats
from hpcxpcs.config.section import Section
from hpcxpcs.config.values import Number, number_from_text, read_number
from hpcxpcs.errors import ConfigError

HC = 12.39841984
"""keV·Å: wavelength times photon energy (CODATA 2018, exact)."""

Formula = Literal["exact", "sin"]
"""exact: q = 2 k0 sin(α/2), α the full scattering angle; sin: q = k0 sin α, which old files have, smaller by
cos(α/2): 1e-5 at 0.5°, 4e-3 at 10°."""

_FACTORS: Mapping[str, Mapping[str, float]] = {
    "mm": {"mm": 1.0, "m": 1e3, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3},
    "Å": {"å": 1.0, "angstrom": 1.0, "a": 1.0, "nm": 10.0, "m": 1e10},
    "keV": {"kev": 1.0, "ev": 1e-3},
    "deg": {"deg": 1.0, "degrees": 1.0, "°": 1.0, "rad": 180.0 / math.pi},
}
_WITH_UNIT = re.compile(r"\s*(\S*\d\.?)\s*([^\d\s.]+)\s*")


def in_unit(value: object, unit: str) -> float:
    """A number in `unit` (mm, Å, keV or deg) from text that states its own, such as "2.23 m"; ValueError without."""
    known = _FACTORS[unit]
    match = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    number = number_from_text(match[1]) if match else None
    if match is None or number is None:
        bare = number_from_text(value) if isinstance(value, str) else value
        example = f"{bare:g}" if isinstance(bare, int | float) and not isinstance(bare, bool) else "1"
        raise ValueError(f'has no unit, and none is guessed; write it, for example "{example} {unit}"')
    if match[2].lower() not in known:
        raise ValueError(f"has the unit {match[2]}, which is not one of {', '.join(known)}")
    return number * known[match[2].lower()]


def positive(unit: str) -> BeforeValidator:
    """A reader of a positive quantity with its unit."""

    def read(value: object) -> float:
        number = in_unit(value, unit)
        if not (math.isfinite(number) and number > 0.0):
            raise ValueError("must be greater than 0")
        return number

    return BeforeValidator(read)


def _read_shape(value: object) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [rows, columns]")
    rows, columns = (int(read_number(one)) for one in value)
    if min(rows, columns) < 1:
        raise ValueError("must be [rows, columns], each at least 1")
    return rows, columns


Shape = Annotated[tuple[int, int], BeforeValidator(_read_shape)]
Angle = Annotated[float, BeforeValidator(lambda value: in_unit(value, "deg"))]


class GeometryRecipe(Section):
    """A geometry as people write it: every length, wavelength and angle with its unit."""

    shape: Shape = Field(description="[rows, columns] of the detector")
    bcx: Number = Field(description="column of the direct beam in pixels, the first pixel's centre being 0")
    bcy: Number = Field(description="row of the direct beam in pixels, the first pixel's centre being 0")
    det_dist: Annotated[float, positive("mm")] = Field(description="distance from sample to detector, such as 2230 mm")
    pix_dim: Annotated[float, positive("mm")] = Field(description="edge of a pixel, such as 0.075 mm")
    lambda_: Annotated[float, positive("Å")] | None = Field(
        default=None, description="wavelength, such as 1.546 Å; or give energy"
    )
    energy: Annotated[float, positive("keV")] | None = Field(
        default=None, description="photon energy, such as 12.34 keV; or give lambda_"
    )
    formula: Formula = Field(default="exact", description="q = 2 k0 sin(α/2), or k0 sin α as in old files")
    incidence: Angle | None = Field(
        default=None, description="angle of incidence, such as 0.14 deg, for maps in reflection; null: transmission"
    )

    @model_validator(mode="after")
    def _one_wavelength(self) -> GeometryRecipe:
        if (self.lambda_ is None) == (self.energy is None):
            raise ValueError("must have one of lambda_ and energy; the other follows")
        return self

    def geometry(self) -> Geometry:
        """The geometry in the units of this module."""
        wavelength = self.lambda_ if self.lambda_ is not None else HC / (self.energy or math.nan)
        lengths = {"det_dist": self.det_dist, "pix_dim": self.pix_dim, "lambda_": wavelength}
        return Geometry(
            bcx=self.bcx, bcy=self.bcy, **lengths, shape=self.shape, formula=self.formula, incidence=self.incidence
        )


@dataclass(frozen=True)
class Geometry:
    """Direct beam (bcx, bcy) in pixels, det_dist and pix_dim in mm, lambda_ in Å, shape (rows, columns).

    `incidence` (degrees) is that of a surface in reflection, None in transmission.
    """

    bcx: float
    bcy: float
    det_dist: float
    pix_dim: float
    lambda_: float
    shape: tuple[int, int]
    formula: Formula = "exact"
    incidence: float | None = None

    def __post_init__(self) -> None:
        """Refuse lengths that are not positive."""
        for name in ("det_dist", "pix_dim", "lambda_"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"geometry {name}: {value} must be a positive number")

    def aps(self) -> dict[str, float]:
        """The same by the names and units of APS files: pixels, metres, keV."""
        return {
            "beam_center_x": self.bcx,
            "beam_center_y": self.bcy,
            "detector_distance": self.det_dist * 1e-3,
            "pixel_size": self.pix_dim * 1e-3,
            "energy": HC / self.lambda_,
        }


def from_aps(told: Mapping[str, float], shape: tuple[int, int]) -> Geometry | None:
    """The geometry of APS names and units (pixels, metres, keV); None when one of them is missing."""
    names = ("beam_center_x", "beam_center_y", "detector_distance", "pixel_size", "energy")
    if any(name not in told for name in names):
        return None
    x, y, distance, pixel, energy = (told[name] for name in names)
    return Geometry(x, y, distance * 1e3, pixel * 1e3, HC / energy, shape)


class Map(NamedTuple):
    """A number for every pixel (H, W), and its unit."""

    values: Floats
    unit: str


Q_UNIT, ANGLE_UNIT = "1/angstrom", "deg"


def maps_of(geometry: Geometry) -> dict[str, Map]:
    """The maps of a geometry: x, y (pixels), phi, alpha = 2θ (degrees), q, qx, qy (1/Å).

    In transmission α = atan(r/D), r the distance from the beam; qx, qy are the components of k0 sin α. In reflection
    at the incidence α_i, with α_f = atan(-y/D) - α_i and 2θ_h = atan(x/D): qx = k0 (cos α_f cos 2θ_h - cos α_i),
    qy = k0 cos α_f sin 2θ_h, qz = k0 (sin α_i + sin α_f), qr² = qx² + qy², q² = qr² + qz² (Müller-Buschbaum, Anal.
    Bioanal. Chem. 376, 3, 2003).
    """
    rows, columns = np.indices(geometry.shape, dtype=np.float64)
    x, y = (columns - geometry.bcx) * geometry.pix_dim, (rows - geometry.bcy) * geometry.pix_dim
    k0 = 2.0 * math.pi / geometry.lambda_
    alpha = np.arctan(np.hypot(x, y) / geometry.det_dist)
    phi = _half_turn(-np.degrees(np.arctan2(y, x)))
    found = {
        "x": Map(columns, "pixel"),
        "y": Map(rows, "pixel"),
        "phi": Map(phi, ANGLE_UNIT),
        "alpha": Map(np.degrees(alpha), ANGLE_UNIT),
    }
    if geometry.incidence is None:
        across = k0 * np.sin(alpha)
        turn = np.radians(phi)
        q = 2.0 * k0 * np.sin(0.5 * alpha) if geometry.formula == "exact" else across
        parts = {"q": q, "qx": across * np.cos(turn), "qy": across * np.sin(turn)}
    else:
        parts = _reflected(x, -y, k0, geometry)
    return found | {name: Map(np.asarray(values), Q_UNIT) for name, values in parts.items()}


def _reflected(x: Floats, up: Floats, k0: float, geometry: Geometry) -> dict[str, Any]:
    incidence = math.radians(geometry.incidence or 0.0)
    exit_angle = np.arctan(up / geometry.det_dist) - incidence
    sideways = np.arctan(x / geometry.det_dist)
    qx = k0 * (np.cos(exit_angle) * np.cos(sideways) - math.cos(incidence))
    qy = k0 * np.cos(exit_angle) * np.sin(sideways)
    qz = k0 * (math.sin(incidence) + np.sin(exit_angle))
    qr = np.hypot(qx, qy)
    return {"q": np.hypot(qr, qz), "qx": qx, "qy": qy, "qz": qz, "qr": qr}


def _half_turn(phi: Floats) -> Floats:
    """Angles in degrees within (-180, 180]."""
    return np.asarray(180.0 - np.mod(180.0 - phi, 360.0))
