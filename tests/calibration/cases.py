"""The measurements on which posteriors are compared with references from raw pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from hpcxpcs.config import Config, config_from_mapping, resolved_parameters
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.pipeline.plan import scale_of
from hpcxpcs.pipeline.simulate import SimulationSpec, simulate_twotime, true_parameters
from tests.calibration.raw_posterior import Known, RawPosterior

Q, GAP, DT = 0.0054, 2.0e6, 0.1


def _between(low: float, high: float, kind: str, *values: float) -> dict[str, Any]:
    names = {"lognormal": ("median", "sigma"), "truncated_normal": ("mu", "sigma"), "uniform": ()}[kind]
    return {"min": low, "max": high, "prior": {"type": kind, **dict(zip(names, values, strict=True))}}


_SLOW = _between(100.0, 1e6, "lognormal", 1e4, 2.0)
_EXPONENT = _between(-5.0, 5.0, "truncated_normal", 0.0, 1.0)
_CONSTANT = _between(-1e5, 1e5, "truncated_normal", 0.0, 3e3)
BELIEVED: Mapping[str, Mapping[str, Any]] = {
    "D0": _between(100.0, 1e5, "lognormal", 3e3, 2.0),
    "alpha": _between(-2.0, 2.0, "truncated_normal", 0.0, 1.0),
    "D_offset": _CONSTANT,
    "gamma_dot_t0": _between(1e-6, 0.5, "lognormal", 0.01, 2.0),
    "beta": _between(-2.0, 2.0, "truncated_normal", 0.0, 1.0),
    "gamma_dot_t_offset": _between(-0.1, 0.1, "truncated_normal", 0.0, 0.03),
    "D0_ref": _SLOW,
    "alpha_ref": _EXPONENT,
    "D_offset_ref": _CONSTANT,
    "D0_sample": _SLOW,
    "alpha_sample": _EXPONENT,
    "D_offset_sample": _CONSTANT,
    "v0": _between(1e-6, 1e4, "lognormal", 1e3, 2.0),
    "v_offset": _between(-100.0, 100.0, "truncated_normal", 0.0, 50.0),
    "f1": _between(-10.0, 10.0, "truncated_normal", 0.0, 5.0),
    "f2": _between(-1e4, 1e4, "truncated_normal", 0.0, 1e3),
    "phi0": _between(-10.0, 10.0, "truncated_normal", 0.0, 5.0),
}
"""Bounds and priors of one laboratory's parameters: the stored references rest on them."""


@dataclass(frozen=True)
class Case:
    """A simulated measurement and how it is analysed; `sampled` scaling in the reference, else integrated."""

    model: str
    angles: int
    frames: int
    noise: float
    scaling: str
    sampled: bool = False
    contrast: float = 0.15
    seed: int = 3
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> SimulationSpec:
        """What is simulated."""
        return SimulationSpec(
            self.model,
            angles=self.angles,
            frames=self.frames,
            contrast=self.contrast,
            noise=NoiseSpec("iid", sd=self.noise),
            q=Q,
            gap=GAP,
            dt=DT,
            seed=self.seed,
        )

    def data(self) -> TwoTime:
        """The simulated matrices."""
        return simulate_twotime(self.spec)

    def config(self, file: str = "simulated.hdf", **sections: Any) -> Config:
        """The configuration of the analysis."""
        return config_from_mapping(self.mapping(file, **sections))

    def mapping(self, file: str = "simulated.hdf", **sections: Any) -> dict[str, Any]:
        """The configuration of the analysis as a mapping."""
        return {
            "analysis_mode": self.model,
            "experimental_data": {"file_path": file},
            "analyzer_parameters": {"scattering": {"wavevector_q": Q}, "geometry": {"stator_rotor_gap": GAP}},
            "initial_parameters": {"fixed_parameters": dict(self.fixed)},
            "scaling": {"mode": self.scaling},
            "noise": {"sigma": self.noise, "scale": "sampled"},
            "parameter_space": {"bounds": list(self.bounds)},
            **sections,
        }

    @property
    def bounds(self) -> tuple[dict[str, Any], ...]:
        """Bounds and priors of the references, which were made with these."""
        names = true_parameters(self.model, {})
        return tuple({"name": name, **BELIEVED[name]} for name in names if name in BELIEVED)

    def reference(self, widths: tuple[float, float] | None) -> RawPosterior:
        """The posterior from raw pairs; `widths` are the pooling widths of a hierarchical scaling."""
        data = self.data()
        parameters = resolved_parameters(self.config(), scale_of(self.config(), data))
        known = Known(
            self.model,
            Q,
            GAP,
            self.noise,
            widths,
            {k: p.fixed for k, p in enumerate(parameters) if p.fixed is not None},
            [(p.prior.kind, dict(p.prior.values), p.lower, p.upper) for p in parameters],
        )
        matrices = np.stack([data.angle(k).c2 for k in range(data.n_phi)])
        return RawPosterior(known, matrices, data.phi, DT)

    @property
    def truth(self) -> np.ndarray:
        """True parameters (p,)."""
        return np.array(list(true_parameters(self.model, {}).values()))


CASES = {
    "static 3 x 100": Case("static", 3, 100, 0.02, "hierarchical", sampled=True),
    "laminar 3 x 100": Case("laminar_flow", 3, 100, 0.01, "individual", contrast=0.3),
    "laminar 8 x 300": Case("laminar_flow", 8, 300, 0.02, "hierarchical"),
    "two components": Case(
        "two_component",
        4,
        100,
        0.01,
        "individual",
        contrast=0.3,
        fixed={
            "D_offset_ref": 200.0,
            "D_offset_sample": 2.0e3,
            "v_offset": 20.0,
            "f1": -0.02,
            "f2": 1.0,
            "f3": 0.2,
        },
    ),
}


@cache
def case_data(name: str) -> TwoTime:
    """The measurement of a case, simulated once."""
    return CASES[name].data()
