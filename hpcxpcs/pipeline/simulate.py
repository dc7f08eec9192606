"""Simulated result files: the physics of a model, the noise of a measurement, and the truth beside it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import yaml
from jax import Array
from numpy.typing import NDArray

from hpcxpcs.config.load import config_from_mapping
from hpcxpcs.config.parameters import Parameter, model_named, parameter_named, parameters_of
from hpcxpcs.config.scale import dimensionless
from hpcxpcs.data import formats
from hpcxpcs.data.formats import FORMATS
from hpcxpcs.data.formats.layout import Compression
from hpcxpcs.data.simulate import Bin, NoiseSpec, Recipe, bins_of, even_angles, matrix_of, scaling_of
from hpcxpcs.data.twotime import TwoTime, from_arrays
from hpcxpcs.errors import ConfigError, OutputError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.files.places import output_file
from hpcxpcs.frames.simulate import write_frames
from hpcxpcs.physics.model import Model, TimeGrid, build_model
from hpcxpcs.physics.rates import rate

_DIFFUSION = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0}
_REFERENCE = {"D0_ref": 4.0e3, "alpha_ref": -0.3, "D_offset_ref": 200.0}
_SAMPLE = {"D0_sample": 2.0e4, "alpha_sample": -0.2, "D_offset_sample": 2.0e3}
_SHEAR = {"gamma_dot_t0": 9.0e-4, "beta": -0.3, "gamma_dot_t_offset": 1.0e-4, "phi0": -4.0}
_VELOCITY = {"v0": 1.0e3, "beta": -0.2, "v_offset": 20.0}
_FRACTION = {"f0": 0.4, "f1": -0.02, "f2": 1.0, "f3": 0.2}

TRUTH: Mapping[str, Mapping[str, float]] = {
    "static": _DIFFUSION,
    "laminar_flow": _DIFFUSION | _SHEAR,
    "two_component": _REFERENCE | _SAMPLE | _VELOCITY | _FRACTION | {"phi0": 3.0},
    "static_ref": _REFERENCE,
    "static_both": _REFERENCE | _SAMPLE,
}
"""By model, in Å and s. At q = 0.0054 Å⁻¹, dt = 0.1 s and a gap of 2e6 Å every parameter is identified, but
f2, which f0 can always replace; and after the first frame the shear phase grows by less than 1 rad per frame.
"""


def canonical_model(spelling: str) -> str:
    """The model behind a name or alias; an unknown name is refused with the nearest known one."""
    try:
        return model_named(spelling)
    except ValueError as error:
        raise ConfigError(f"model: {spelling!r} {error}") from error


def true_parameters(model: str, changes: Mapping[str, float]) -> dict[str, float]:
    """The physical parameters of a model in canonical order: TRUTH with `changes`, of any laboratory's size."""
    table = {parameter.name: parameter for parameter in parameters_of(model)}
    values = {name: TRUTH[model][name] for name in table}
    for spelling, value in changes.items():
        try:
            name = parameter_named(spelling, model)
        except ValueError as error:
            raise ConfigError(f"parameter {spelling!r} {error}") from error
        _check(table[name], value)
        values[name] = float(value)
    return values


def _check(parameter: Parameter, value: float) -> None:
    """Refuse what no data could show: amplitudes below 0, fractions outside 0..1, absurd exponents and directions."""
    lower, upper = 0.0, math.inf
    if parameter.kind in ("offset", "growth", "instant"):
        lower = -math.inf
    elif parameter.kind == "angle":
        lower, upper = -360.0, 360.0
    elif parameter.kind != "amplitude":
        found = dimensionless(parameter)
        lower, upper = found.lower, found.upper
    positive = parameter.kind == "amplitude" and not parameter.zero_when_fixed
    if not lower <= value <= upper or not math.isfinite(value) or (positive and value == 0.0):
        limits = "must be positive" if positive else f"is outside of {lower:g} ... {upper:g}"
        raise ConfigError(f"parameter {parameter.name} = {value:g} {limits} {parameter.unit}".rstrip())


_HEADER = "# Written with the simulated file it names: bounds, priors and starts come from the data.\n"
_REDUNDANT = "# f2 is fixed: f0·exp(f1·(t − f2)) is the same function for any f2, with another f0.\n"


def config_text(truth: Mapping[str, Any], *, data_file: Path, config_file: Path) -> str:
    """YAML text of the configuration for `data_file`, named relative to `config_file`; checked to load."""
    settings = _settings(truth, os.path.relpath(data_file.resolve(), config_file.parent.resolve()))
    config_from_mapping(settings, config_file.parent)
    header = _HEADER + (_REDUNDANT if "f2" in truth["parameters"] else "")
    return header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _settings(truth: Mapping[str, Any], file_path: str) -> dict[str, Any]:
    table = parameters_of(truth["model"])
    fixed = {name: truth["parameters"][name] for name in ("f2",) if name in truth["parameters"]}
    return {
        "schema_version": 1,
        "analysis_mode": truth["model"],
        "experimental_data": {"file_path": file_path},
        "analyzer_parameters": {
            "dt": truth["dt"],
            "scattering": {"wavevector_q": truth["q"]},
            "geometry": {"stator_rotor_gap": truth["gap"]},
        },
        "conventions": dict(truth["conventions"]),
        "initial_parameters": {
            "parameter_names": [item.name for item in table],
            "fixed_parameters": fixed,
        },
    }


FRAMES = "frames"
"""The format that is no layout of matrices: frames of a detector."""
FEWEST_SIMULATED = 8
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
        if self.frames < FEWEST_SIMULATED:
            raise ConfigError(f"frames: {self.frames} must be at least {FEWEST_SIMULATED}")
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
        _require(self.format, "format", (*FORMATS, FRAMES))
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


TRUTH_SCHEMA = 1
HOLES = "nexus"
"""The layout whose bin numbers have holes: missing bins are written as bins without pixels."""
ELEMENTS_AT_ONCE = 2**24
"""Elements of a matrix computed at once: bounds the memory of the double-precision intermediates."""


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
        return (matrix_of(self.recipe, item, self._shape_matrix, self.field_matrix) for item in bins)

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

    def field_matrix(self, item: Bin) -> NDArray[Any]:
        """The field correlation (N, N) of a bin."""
        kind = np.dtype(np.complex128 if self.name in ("two_component", "static_both") else np.float64)
        return self._by_slabs(_field, item, kind)

    def _by_slabs(self, evaluate: Callable[..., Array], item: Bin, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Evaluate shape or field on all pairs of frames (N, N), a few rows at a time."""
        model, count = self._model_at(item.q), self.spec.frames
        matrix = np.empty((count, count), dtype=dtype)
        rows = max(1, ELEMENTS_AT_ONCE // count)
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


def simulate(spec: SimulationSpec, report: Callable[[str], None] = lambda line: None) -> Path:
    """Write a simulated result file, its truth beside it, and a configuration if asked for; return its path.

    `report` receives one line for each stage.
    """
    if spec.output is None:
        raise ConfigError("simulate: no output file is named")
    started, simulation, truth_file = time.perf_counter(), _Simulation(spec), truth_path(spec.output)
    truth = simulation.truth()
    data_file = result_path(spec.output) if spec.format == FRAMES else spec.output
    config = config_text(truth, data_file=data_file, config_file=spec.config) if spec.config else None
    _require_free([spec.output, truth_file, spec.config], spec.force)
    for line in _description(simulation):
        report(line)
    write = _write_frames if spec.format == FRAMES else _write_stack
    write(simulation, spec.output, truth)
    size, seconds = spec.output.stat().st_size / 1e6, time.perf_counter() - started
    report(f"wrote     {spec.output} ({size:.1f} MB, {seconds:.1f} s)")
    atomic_write_text(truth_file, json.dumps(truth, indent=2, ensure_ascii=False) + "\n")
    report(f"wrote     {truth_file} (the truth)")
    if spec.config is not None and config is not None:
        with writing(spec.config):
            spec.config.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(spec.config, config)
        report(f"wrote     {spec.config} (a configuration that fits {data_file.name})")
    return spec.output


def truth_path(data_file: Path) -> Path:
    """Where the truth of a simulated file lies: beside it, with .truth.json appended to its name."""
    return data_file.with_name(f"{data_file.name}.truth.json")


def result_path(frames: Path) -> Path:
    """The result of correlating frames as a configuration written with them calls it: beside them, NAME_results.hdf."""
    return frames.with_name(f"{frames.stem}_results.hdf")


def _write_frames(simulation: _Simulation, path: Path, truth: Mapping[str, Any]) -> None:
    spec = simulation.spec
    truth_path(path).unlink(missing_ok=True)
    write_frames(path, spec.recipe, simulation.bins, spec.angles_sorted, simulation.field_matrix, spec.dt, truth)


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
