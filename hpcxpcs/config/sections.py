"""The sections of a configuration: every key with its type, default, range and description."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from hpcxpcs.config.field_types import (
    DT,
    DeadFrames,
    Memory,
    MemorySize,
    Number,
    PathText,
    Section,
    Sigma,
    Wavevector,
    Whole,
    commented,
)
from hpcxpcs.config.posterior_sections import CmcOptions, CountOrAuto


class ExperimentalData(Section):
    """The result file to analyse."""

    data_folder_path: PathText | None = Field(
        default=None,
        description="folder of data_file_name; the pair is an alternative to file_path",
        json_schema_extra=commented("data"),
    )
    data_file_name: PathText | None = Field(
        default=None,
        description="file name inside data_folder_path",
        json_schema_extra=commented("experiment_results.hdf"),
    )
    file_path: PathText | None = Field(
        default=None,
        validate_default=True,
        description="result file (HDF5, NPZ or NPY); a relative path starts at the folder of this configuration file",
        examples=["data/experiment_results.hdf"],
    )
    format: Literal["auto", "nexus", "legacy", "cube", "nxxpcs", "viewer"] = Field(
        default="auto",
        description="layout of the file: auto recognises it by content; nexus and legacy are those of APS 8-ID, "
        "cube is plain arrays (HDF5, NPZ, NPY, homodyne's caches), nxxpcs the NeXus definition, viewer the "
        "viewer's schema with stated units",
    )

    @field_validator("file_path")
    @classmethod
    def _names_one_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        folder, name = info.data.get("data_folder_path"), info.data.get("data_file_name")
        if value is not None and (folder or name):
            raise ValueError("is given together with data_folder_path or data_file_name; keep one of the two")
        if value is None and not (folder and name):
            raise ValueError("is missing; give file_path, or data_folder_path and data_file_name")
        return value


class Scattering(Section):
    """The scattering vector."""

    wavevector_q: Wavevector = Field(
        description="magnitude of the scattering vector in 1/Å; the nearest q bin of the file is used; unknown: "
        "the one of the file whatever it is called, and rates are q²D and q·v in 1/s",
        examples=[0.0054],
    )


class Geometry(Section):
    """The shear cell."""

    stator_rotor_gap: Number = Field(
        default=2.0e6, ge=1e3, le=1e9, description="gap between stator and rotor in Å; 2.0e6 is 0.2 mm"
    )


class AnalyzerParameters(Section):
    """Time, frames and geometry of the measurement."""

    dt: DT = Field(
        default="auto",
        description="time between frames in s; auto takes it from the file; frames counts time in frames",
    )
    start_frame: Whole = Field(default=1, ge=1, description="first frame to use; frames count from 1")
    end_frame: Whole = Field(
        default=-1, description="last frame to use, inclusive; -1 is the last of the file"
    )
    time_origin: Literal["window", "file"] = Field(
        default="window", description="the frame at t = 0: start_frame (window) or frame 1 of the file (file)"
    )
    scattering: Scattering = Field(description="the scattering vector")
    geometry: Geometry = Field(default_factory=Geometry, description="the shear cell; used by laminar_flow")

    @field_validator("end_frame")
    @classmethod
    def _ends_after_the_start(cls, value: int, info: ValidationInfo) -> int:
        start = info.data.get("start_frame", 1)
        if value != -1 and value <= start:
            raise ValueError(f"must be -1 (the last frame) or greater than start_frame ({start})")
        return value


class PhiRange(Section):
    """A range of azimuthal angles in degrees; min > max wraps through 180."""

    min: Number = Field(ge=-360, le=360, description="first angle of the range in degrees", examples=[-180.0])
    max: Number = Field(
        ge=-360, le=360, description="last angle in degrees; smaller than min wraps", examples=[180.0]
    )


_ALL_ANGLES = (PhiRange(min=-180.0, max=180.0),)


class DataFiltering(Section):
    """What to use of the file."""

    q_tolerance: Number = Field(
        default=0.1,
        gt=0,
        le=1,
        description="largest accepted relative distance of the nearest q bin to wavevector_q",
    )
    phi_range: PhiRange | None = Field(
        default=None,
        exclude=True,
        description="one range of azimuthal angles to use, in degrees; min > max wraps through 180",
        json_schema_extra=commented({"min": -10, "max": 10}),
    )
    phi_ranges: tuple[PhiRange, ...] = Field(
        default=_ALL_ANGLES,
        validate_default=True,
        description="ranges of azimuthal angles to use, in degrees; an alternative to phi_range",
    )
    dead_frames: DeadFrames = Field(
        default="auto",
        description="frames to leave out: auto finds those that hold only zeros or NaN, none keeps all; "
        "or a list such as [17, 230]",
    )
    non_finite: Literal["refuse", "mask"] = Field(
        default="refuse",
        description="what to do with NaN and infinities among the frames that are kept: stop, or leave them out",
    )

    @field_validator("phi_ranges", mode="before")
    @classmethod
    def _folds_one_range(cls, value: object, info: ValidationInfo) -> object:
        single = info.data.get("phi_range")
        if single is None:
            return value
        if value is not _ALL_ANGLES:
            raise ValueError("is given together with phi_range; keep one of the two")
        return (single,)

    @field_validator("phi_ranges")
    @classmethod
    def _selects_something(cls, value: tuple[PhiRange, ...]) -> tuple[PhiRange, ...]:
        if not value:
            raise ValueError("selects no angle; give at least one range, or leave the key out for all angles")
        return value


class Conventions(Section):
    """Which form of the formulas is meant; results always name it."""

    shear_law: Literal["couette", "homodyne-2"] = Field(
        default="couette",
        description="shear factor: couette is sinc² of a linear profile; homodyne-2 reproduces that package, "
        "whose shear rates are 2.22 times larger",
    )
    integrator: Literal["exact", "trapezoid"] = Field(
        default="exact",
        description="integral of rates: analytic, or the trapezoid sum of published packages (slower)",
    )
    heterodyne: Literal["physical", "heterodyne-2"] = Field(
        default="physical",
        description="two-component form: physical uses cos(phi - phi0); heterodyne-2 reproduces that package",
    )


class ConstantScaling(Section):
    """Contrast and offset that are known beforehand, the same for all angles."""

    contrast: Number = Field(gt=0, description="contrast of every angle", examples=[0.3])
    offset: Number = Field(gt=0, description="baseline of every angle", examples=[1.0])


class Scaling(Section):
    """How contrast and offset may vary between angles; both are estimated along with the physics."""

    mode: Literal["auto", "averaged", "constant", "individual", "fourier", "hierarchical"] = Field(
        default="auto",
        description="auto: hierarchical from 3 angles on, else individual; averaged: one value for all "
        "angles; constant: fixed values; individual: one per angle; fourier: smooth in the angle; "
        "hierarchical: one per angle with a learned spread",
    )
    fourier_order: Whole = Field(default=2, ge=1, le=20, description="order of the series of mode fourier")
    constant: ConstantScaling | None = Field(
        default=None,
        description="values for mode constant; without them they are estimated from the data once",
        json_schema_extra=commented({"contrast": 0.3, "offset": 1.0}),
    )

    @field_validator("constant")
    @classmethod
    def _belongs_to_its_mode(
        cls, value: ConstantScaling | None, info: ValidationInfo
    ) -> ConstantScaling | None:
        mode = info.data.get("mode", "constant")
        if value is not None and mode != "constant":
            raise ValueError(f"has no effect with mode {mode}; set mode to constant, or leave it out")
        return value


class Noise(Section):
    """The standard deviation of a matrix element."""

    sigma: Sigma = Field(
        default="auto",
        description="noise of c2: auto estimates it per angle without a model; or a number; or a dataset "
        "path in the file",
    )
    scale: Literal["sampled", "fixed"] = Field(
        default="sampled", description="whether a common factor on sigma is estimated too"
    )
    model: Literal["auto", "speckle", "independent"] = Field(
        default="auto",
        description="what pairs share: independent takes each for itself; speckle weighs them by the noise of the "
        "speckles they share, which is more precise; auto does so where that noise is seen and like that of speckles",
    )
    photons: Number | None = Field(
        default=None,
        gt=0,
        description="photons per pixel and frame, if known; otherwise measured on the noise itself",
        json_schema_extra=commented(0.5),
    )
    pixels: Number | None = Field(
        default=None,
        gt=0,
        description="independent pixels of an angle, if known; otherwise measured on the noise itself",
        json_schema_extra=commented(2000.0),
    )


class NlsqOptions(Section):
    """Options of the point fit."""

    multi_start: Whole = Field(
        default=8,
        ge=1,
        le=10000,
        description="number of starts, spread over the data's scales and the priors; three times as many with "
        "more than 8 free parameters",
    )
    cmaes: StrictBool = Field(default=False, description="search globally with CMA-ES before the local fit")
    max_iterations: Whole = Field(
        default=200, ge=1, description="largest number of iterations of one local fit"
    )
    tolerance: Number = Field(
        default=1e-8, gt=0, lt=1, description="relative change of cost and parameters that ends a fit"
    )
    uncertainty: Literal["robust", "model"] = Field(
        default="robust",
        description="error bars: model trusts independent noise; robust adds those that allow for noise "
        "shared by frames",
    )
    seed: Whole = Field(default=42, ge=0, lt=2**32, description="seed of everything random")


class Optimization(Section):
    """What to compute."""

    method: Literal["nlsq", "cmc", "exact"] = Field(
        default="cmc",
        description="nlsq: the point fit with error bars; cmc: the posterior from shards, certified against all data; "
        "exact: the posterior from all data at once",
    )
    nlsq: NlsqOptions = Field(default_factory=NlsqOptions, description="options of the point fit")
    cmc: CmcOptions = Field(default_factory=CmcOptions, description="options of the posterior")


class Likelihood(Section):
    """The compression of the data."""

    tolerance: Number = Field(
        default=0.05,
        gt=0,
        le=10,
        description="largest accepted error of the compressed log-likelihood, in nats",
    )


class Runtime(Section):
    """Use of the machine; never changes the answer."""

    workers: CountOrAuto = Field(
        default="auto",
        description="worker processes when not under MPI, or threads of a point fit; auto is one per cores_per_worker "
        "cores",
    )
    cores_per_worker: CountOrAuto = Field(
        default="auto", description="cores that count as one worker; auto is 1, more leave room for other programs"
    )
    ranks_per_machine: CountOrAuto = Field(
        default="auto", description="MPI ranks at work on each machine; auto is one per core, the others wait"
    )
    checkpoint_every: Whole = Field(
        default=50, ge=1, le=100000, description="draws per chain between two checkpoints: what a kill can cost"
    )
    memory: Memory = Field(
        default="auto", description='memory one process may use, for example "4 GiB"; auto asks the job'
    )
    data_cache: PathText | None = Field(
        default="auto",
        description="folder that keeps prepared matrices, for runs to share; auto is one in RUN, used when they do "
        "not fit into memory; null is none",
    )
    data_cache_limit: MemorySize = Field(
        default=100_000_000_000,
        description='size to which that folder may grow, for example "100 GB"; what was not used for longest goes',
    )
    compilation_cache_dir: PathText | None = Field(
        default="auto", description="folder for compiled code; auto is a private cache folder, null is none"
    )


class Output(Section):
    """What to write; never changes the answer."""

    directory: PathText = Field(
        default="runs", description="folder for results; a relative path starts at the working directory"
    )
    plots: StrictBool = Field(default=True, description="draw plots")
    report: StrictBool = Field(default=True, description="write report.html")
    fitted_data: StrictBool = Field(
        default=True, description="write fitted_data.npz with data, model and residuals"
    )
