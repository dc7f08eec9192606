"""Small simulated measurements with everything a point fit needs, and their sums in plain NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import PointFit, PointSettings
from hpcxpcs.config import DataScale, config_from_mapping, resolved_parameters
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.measurement import Measurement, measure
from hpcxpcs.inference.objective import Limits
from hpcxpcs.inference.point import fit_point
from hpcxpcs.likelihood.raw import RawTiles, frame_subset
from hpcxpcs.physics.model import Model, TimeGrid, build_model
from hpcxpcs.pipeline.simulate import SimulationSpec, simulate_twotime, true_parameters

SHEAR = {"D0": 2.0e4, "alpha": -0.3, "D_offset": 1.0e3, "gamma_dot_t0": 3.0e-4}
"""A flow in which 60 frames of 0.1 s determine all seven parameters."""


SCALE = DataScale(0.0054, 2.0e6, 0.1, 0.1, 5.9)
"""That of 60 frames of 0.1 s."""


def scale_of(spec: SimulationSpec) -> DataScale:
    """The scale of a simulated measurement."""
    return DataScale(spec.q, spec.gap, spec.dt, spec.dt, spec.dt * (spec.frames - 1))


@dataclass(frozen=True)
class Case:
    """A simulated measurement, the model that made it, its parameters and their true values (p,)."""

    measurement: Measurement
    model: Model
    parameters: tuple[ResolvedParameter, ...]
    truth: np.ndarray
    spec: SimulationSpec

    def index(self, name: str) -> int:
        """Place of a parameter."""
        return self.model.parameter_names.index(name)

    def told(self, **sections: Any) -> Case:
        """The same measurement, the parameters configured otherwise."""
        return replace(self, parameters=parameters_for(self.model.name, scale=scale_of(self.spec), **sections))

    @property
    def limits(self) -> Limits:
        """Bounds and time range as the fit uses them."""
        return Limits.of(self.parameters, *self.measurement.time_range)

    @property
    def coordinates(self) -> Coordinates:
        """Fit coordinates as the fit uses them."""
        fixed = tuple((k, p.fixed) for k, p in enumerate(self.parameters) if p.fixed is not None)
        return Coordinates(self.model, reference_time(*self.measurement.time_range), fixed)

    @property
    def tiles(self) -> RawTiles:
        """All raw pairs as one dense tile per angle."""
        axis = self.measurement.axis
        frames = np.arange(axis.first_usable, axis.count)
        return frame_subset(self.measurement.angles, self.measurement.phi, axis, frames)


def parameters_for(
    model: str,
    fixed: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    bounds: Sequence[Mapping[str, Any]] = (),
    scale: DataScale = SCALE,
) -> tuple[ResolvedParameter, ...]:
    """The parameters of a model with some fixed, started or bounded otherwise, for data of a scale."""
    initial: dict[str, Any] = {"fixed_parameters": dict(fixed or {})}
    if start:
        initial |= {"parameter_names": list(start), "values": list(start.values())}
    config = config_from_mapping(
        {
            "analysis_mode": model,
            "experimental_data": {"file_path": "simulated.hdf"},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
            "initial_parameters": initial,
            "parameter_space": {"bounds": [dict(bound) for bound in bounds]},
        }
    )
    return resolved_parameters(config, scale)


def simulated(
    model: str,
    *,
    angles: int = 3,
    frames: int = 60,
    sd: float = 0.003,
    noise: NoiseSpec | None = None,
    parameters: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    **spec: Any,
) -> Case:
    """A measurement with a strong signal (contrast 0.5), and the model and parameters to fit it with."""
    made = SimulationSpec(
        model,
        angles=angles,
        frames=frames,
        noise=noise or NoiseSpec("iid", sd=sd),
        parameters=parameters or {},
        **{"contrast": 0.5, "dtype": "float64", **spec},
    )
    physics = build_model(
        model,
        q=made.q,
        gap=made.gap,
        shear_law=made.shear_law,
        integrator=made.integrator,
        heterodyne=made.heterodyne,
        grid=TimeGrid(0.0, made.dt, made.frames),
    )
    truth = np.array(list(true_parameters(model, parameters or {}).values()))
    parameters_of_it = parameters_for(model, fixed, scale=scale_of(made))
    return Case(measure(simulate_twotime(made), 1 << 30), physics, parameters_of_it, truth, made)


def fit(case: Case, **settings: Any) -> PointFit:
    """The point fit of a case; two starts, unless asked otherwise."""
    return fit_point(case.measurement, case.model, case.parameters, PointSettings(**{"multi_start": 2, **settings}))


def deviations(case: Case, found: PointFit) -> np.ndarray:
    """Estimate minus truth in standard errors, for the parameters that have one."""
    return ((found.values - case.truth) / found.uncertainty)[np.isfinite(found.uncertainty)]
