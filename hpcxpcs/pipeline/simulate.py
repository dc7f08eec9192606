"""Simulated result files: the physics of a model, the noise of a measurement, and the truth beside it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hpcxpcs.data import formats
from hpcxpcs.data.simulate import Bin, bins_of, matrices, scaling_of
from hpcxpcs.data.twotime import TwoTime, from_arrays
from hpcxpcs.errors import ConfigError, OutputError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.files.places import output_file
from hpcxpcs.physics.model import Model, TimeGrid, build_model
from hpcxpcs.physics.rates import rate
from hpcxpcs.pipeline.simulated_config import config_text
from hpcxpcs.pipeline.simulation_spec import SimulationSpec
from hpcxpcs.pipeline.truth import canonical_model, true_parameters

TRUTH_SCHEMA = 1
HOLES = "nexus"
"""The layout whose bin numbers have holes: missing bins are written as bins without pixels."""
SLAB_ELEMENTS = 2**24
"""Elements of a matrix computed at once: bounds the memory of the double-precision intermediates."""

Report = Callable[[str], None]


class _Simulation:
    """A spec with everything resolved: parameters, bins, and the model at each q."""

    def __init__(self, spec: SimulationSpec) -> None:
        self.spec = spec
        self.name = canonical_model(spec.model)
        self.parameters = true_parameters(self.name, spec.parameters)
        self.recipe = spec.recipe
        self.bins = bins_of(spec.q, spec.angles_sorted, spec.extra_q, spec.missing_bins)
        self.theta = np.array(list(self.parameters.values()))
        self.times = spec.dt * np.arange(spec.frames)
        self.model = self._model_at(spec.q)
        self._check_rates()

    @cached_property
    def own_bins(self) -> tuple[Bin, ...]:
        """The bins at the q asked for."""
        return tuple(item for item in self.bins if item.ring == 0)

    @cached_property
    def left_out(self) -> tuple[Bin, ...]:
        """The bins that get no matrix."""
        spec = self.spec
        every = bins_of(spec.q, spec.angles_sorted, spec.extra_q, ())
        return tuple(item for item in every if item not in self.bins)

    def matrices(self, bins: Sequence[Bin]) -> Any:
        """Iterate over the simulated matrices (N, N) of `bins`."""
        return matrices(self.recipe, bins, self._shape_matrix, self._field_matrix)

    def truth(self) -> dict[str, Any]:
        """Everything that a fit of this file should find, and what the file was made from; ready for JSON."""
        scaling = [scaling_of(self.recipe, item) for item in self.own_bins]
        return {
            "schema_version": TRUTH_SCHEMA,
            "model": self.name,
            "parameters": self.parameters,
            "conventions": self.model.conventions(),
            "phi": [item.phi for item in self.own_bins],
            "contrast": [contrast for contrast, _ in scaling],
            "offset": [offset for _, offset in scaling],
            "q": self.spec.q,
            "other_q": sorted({item.q for item in self.bins if item.ring != 0}),
            "gap": self.spec.gap,
            "dt": self.spec.dt,
            "frames": self.spec.frames,
            "dead_frames": sorted(set(self.spec.dead_frames)),
            "missing_bins": sorted(set(self.spec.missing_bins)),
            "noise": self.spec.noise.describe(),
            "seed": self.spec.seed,
        }

    def _model_at(self, q: float) -> Model:
        spec = self.spec
        grid = TimeGrid(0.0, spec.dt, spec.frames) if spec.integrator == "trapezoid" else None
        try:
            return build_model(
                self.name,
                q=q,
                gap=spec.gap,
                shear_law=spec.shear_law,
                integrator=spec.integrator,
                heterodyne=spec.heterodyne,
                grid=grid,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _check_rates(self) -> None:
        """Refuse a negative transport or shear rate between the second frame and the last."""
        for term in self.model.rates:
            if not term.nonnegative:
                continue
            coefficients = self.theta[[term.amplitude, term.exponent, term.offset]]
            lowest = float(np.min(rate(self.times[[1, -1]], *coefficients)))
            if lowest < 0.0:
                names = [self.model.parameter_names[k] for k in (term.amplitude, term.exponent, term.offset)]
                raise ConfigError(
                    f"parameters {', '.join(names)}: the {term.name.replace('_', ' ')} falls to {lowest:g} "
                    f"within the {self.times[-1]:g} s simulated, and must not be negative"
                )

    def _shape_matrix(self, item: Bin) -> NDArray[Any]:
        return self._by_slabs(_shape, item, np.dtype(self.spec.dtype))

    def _field_matrix(self, item: Bin) -> NDArray[Any]:
        kind = np.dtype(np.complex128 if self.name in ("two_component", "static_both") else np.float64)
        return self._by_slabs(_field, item, kind)

    def _by_slabs(self, evaluate: Callable[..., Array], item: Bin, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Evaluate shape or field on all pairs of frames (N, N), a few rows at a time."""
        model, count = self._model_at(item.q), self.spec.frames
        matrix = np.empty((count, count), dtype=dtype)
        rows = max(1, SLAB_ELEMENTS // count)
        for start in range(0, count, rows):
            own = self.times[start : start + rows, None]
            matrix[start : start + rows] = evaluate(model, self.theta, own, self.times[None, :], item.phi)
        return matrix


@jax.jit
def _shape(model: Model, theta: Array, t1: Array, t2: Array, phi: Array) -> Array:
    return model.shape(theta, t1, t2, phi)


@jax.jit
def _field(model: Model, theta: Array, t1: Array, t2: Array, phi: Array) -> Array:
    return model.field(theta, t1, t2, phi)


def simulate_twotime(spec: SimulationSpec) -> TwoTime:
    """The simulated matrices of the q asked for, in memory: the same numbers that `simulate` writes."""
    simulation = _Simulation(spec)
    c2 = np.stack(list(simulation.matrices(simulation.own_bins)))
    return from_arrays(c2, np.array([item.phi for item in simulation.own_bins]), spec.q, spec.dt)


def simulate(spec: SimulationSpec, report: Report = lambda line: None) -> Path:
    """Write a simulated result file, its truth beside it, and a configuration if asked for; return its path.

    `report` receives one line for each stage.
    """
    if spec.output is None:
        raise ConfigError("simulate: no output file is named")
    started, simulation, truth_file = time.perf_counter(), _Simulation(spec), truth_path(spec.output)
    truth = simulation.truth()
    config = config_text(truth, data_file=spec.output, config_file=spec.config) if spec.config else None
    _require_free([spec.output, truth_file, spec.config], spec.force)
    for line in _description(simulation):
        report(line)
    _write_stack(simulation, spec.output, truth)
    size, seconds = spec.output.stat().st_size / 1e6, time.perf_counter() - started
    report(f"wrote     {spec.output} ({size:.1f} MB, {seconds:.1f} s)")
    atomic_write_text(truth_file, json.dumps(truth, indent=2, ensure_ascii=False) + "\n")
    report(f"wrote     {truth_file} (the truth)")
    if spec.config is not None and config is not None:
        with writing(spec.config):
            spec.config.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(spec.config, config)
        report(f"wrote     {spec.config} (a configuration that fits this file)")
    return spec.output


def truth_path(data_file: Path) -> Path:
    """Where the truth of a simulated file lies: beside it, with .truth.json appended to its name."""
    return data_file.with_name(f"{data_file.name}.truth.json")


def _write_stack(simulation: _Simulation, path: Path, truth: Mapping[str, Any]) -> None:
    spec = simulation.spec
    stack = formats.Stack(
        c2=simulation.matrices(simulation.bins),
        q=np.array([item.q for item in simulation.bins]),
        phi=np.array([item.phi for item in simulation.bins]),
        dt=spec.dt,
        truth=truth,
        half=spec.format != "cube" if spec.half is None else spec.half,
        compression=spec.compression,
        dtype=spec.dtype,
        **_counted(simulation),
        unprocessed=[] if spec.format == HOLES else [(item.q, item.phi) for item in simulation.left_out],
    )
    try:
        truth_path(path).unlink(missing_ok=True)
        formats.write(spec.format, output_file(path), stack)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}): check the folder, its permissions and the free space, "
            "or name another output file"
        ) from error


def _counted(simulation: _Simulation) -> dict[str, Any]:
    """Photons per pixel of every frame (N,) and pixels of a bin, where photons were counted."""
    noise, recipe = simulation.spec.noise, simulation.recipe
    if noise.model != "photon":
        return {}
    photons = noise.photons_of(recipe.frames)
    photons[recipe.dead] = 0.0
    return {"photons": photons, "pixels": noise.pixels}


def _description(simulation: _Simulation) -> list[str]:
    spec, bins = simulation.spec, simulation.bins
    values = ", ".join(f"{name} {value:g}" for name, value in simulation.parameters.items())
    noise = ", ".join(f"{key} {value}" for key, value in spec.noise.describe().items())
    rings = len({item.q for item in bins})
    return [
        f"model     {simulation.name}: {values}",
        f"matrices  {len(bins)} of {spec.frames} x {spec.frames} ({len(simulation.own_bins)} angles at "
        f"q = {spec.q:g} 1/Å, {rings} q in all), dt = {spec.dt:g} s, {spec.format}",
        f"noise     {noise}, seed {spec.seed}",
    ]


def _require_free(paths: Sequence[Path | None], force: bool) -> None:
    """Refuse to overwrite files, and to write two of them under one name; all are named at once."""
    resolved = [output_file(path).resolve() for path in paths if path is not None]
    if len(set(resolved)) < len(resolved):
        raise ConfigError(f"{paths[-1]}: data, truth and configuration need different file names")
    taken = [str(path) for path in paths if path is not None and path.exists()]
    if taken and not force:
        raise ConfigError(f"{', '.join(taken)}: exists already; choose another name, or add --force")
