"""The sections of a configuration: every key with its type, default, range and description."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo, field_validator

from hpcxpcs.config.section import Section, commented
from hpcxpcs.config.values import (
    DT,
    DeadFrames,
    Memory,
    MemorySize,
    Number,
    PathText,
    Sigma,
    Wavevector,
    Whole,
    read_number,
    read_whole,
)


def _auto_or_count(value: object) -> Any:
    if value == "auto":
        return value
    count = read_whole(value)
    if count < 1:
        raise ValueError("must be auto or a whole number of at least 1")
    return count


def _auto_or_positive(value: object) -> Any:
    if value == "auto":
        return value
    number = read_number(value)
    if not number > 0.0:
        raise ValueError("must be auto or a number greater than 0")
    return number


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_count)]
NumberOrAuto = Annotated[float | Literal["auto"], BeforeValidator(_auto_or_positive)]


class Sharding(Section):
    """How the pairs of frames are shared out; every shard holds all angles."""

    strategy: Literal["angle_balanced", "random", "contiguous", "stratified"] = Field(
        default="angle_balanced",
        description="angle_balanced: interleaved lattices of frames, so that every shard sees all epochs and lags; "
        "random: by lot; contiguous: blocks of time (late ones lose long lags); stratified: by lag and epoch",
    )
    num_shards: CountOrAuto = Field(
        default="auto",
        description="number of shards; auto takes up to 4, with at least 2000 pairs per free parameter in each",
    )


class PerShardMcmc(Section):
    """NUTS on each shard, and on all data where that is needed."""

    num_warmup: Whole = Field(default=500, ge=50, le=100000, description="steps of warm-up per chain")
    num_samples: Whole = Field(default=1000, ge=50, le=1000000, description="draws per chain after warm-up")
    num_chains: Whole = Field(default=4, ge=2, le=64, description="number of chains")
    target_accept_prob: Number = Field(
        default=0.9, ge=0.6, le=0.999, description="acceptance that the step size is adapted to"
    )
    max_tree_depth: Whole = Field(default=10, ge=3, le=15, description="largest depth of a trajectory's tree")
    seed: Whole = Field(default=42, ge=0, lt=2**31, description="seed of every draw")


class Combination(Section):
    """How shards become one posterior."""

    method: Literal["consensus", "robust"] = Field(
        default="consensus",
        description="consensus: every shard counts in full; robust: the likelihood of a shard that contradicts the "
        "others is raised to a power below 1, for shards, certificate and chains on all data alike (from 3 shards on)",
    )


class Validation(Section):
    """What a run of chains must reach to be accepted."""

    max_r_hat: Number = Field(default=1.01, gt=1, le=1.2, description="largest rank-normalised split R-hat")
    min_ess: Number = Field(default=400, ge=50, description="smallest bulk and tail effective sample size")
    min_bfmi: Number = Field(default=0.2, ge=0, lt=1, description="smallest E-BFMI of any chain")
    max_divergence_rate: Number = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="largest share of divergent draws; beyond it a shard is tried again",
    )
    min_success_rate: Number = Field(
        default=0.9, gt=0, le=1, description="share of shards that must be accepted for a consensus"
    )


class CertificateOptions(Section):
    """The check of a consensus, or of independent draws, against the likelihood of all data."""

    draws: Whole = Field(default=4000, ge=500, le=1000000, description="number of draws weighed")
    k_hat: NumberOrAuto = Field(
        default="auto", description="largest Pareto k-hat; auto is min(1 - 1/log10(draws), 0.7)"
    )
    on_reject: Literal["exact", "report"] = Field(
        default="exact",
        description="exact: sample all data when draws cannot be certified; report: say so and stop",
    )


class CmcOptions(Section):
    """Options of the posterior: Consensus Monte Carlo with NUTS, and its certificate."""

    sharding: Sharding = Field(default_factory=Sharding, description="how the data are shared out")
    anchor: Literal["point_fit", "none"] = Field(
        default="point_fit",
        description="point_fit: each shard knows the others through a Gaussian at the point fit, with the mean and "
        "covariance of weighed draws where these can be trusted; none: classical "
        "consensus with a share of the prior",
    )
    per_shard_mcmc: PerShardMcmc = Field(default_factory=PerShardMcmc, description="the sampler")
    combination: Combination = Field(default_factory=Combination, description="how shards are combined")
    validation: Validation = Field(default_factory=Validation, description="what chains must reach")
    certificate: CertificateOptions = Field(
        default_factory=CertificateOptions, description="the check against all data"
    )


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

    def file_as_written(self) -> Path:
        """The path of the data file as the configuration spells it."""
        if self.file_path is not None:
            return Path(self.file_path)
        return Path(self.data_folder_path or "") / (self.data_file_name or "")


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
    end_frame: Whole = Field(default=-1, description="last frame to use, inclusive; -1 is the last of the file")
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
    max: Number = Field(ge=-360, le=360, description="last angle in degrees; smaller than min wraps", examples=[180.0])


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
    def _belongs_to_its_mode(cls, value: ConstantScaling | None, info: ValidationInfo) -> ConstantScaling | None:
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
    max_iterations: Whole = Field(default=200, ge=1, description="largest number of iterations of one local fit")
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

    method: Literal["nlsq", "cmc", "exact", "importance"] = Field(
        default="cmc",
        description="nlsq: the point fit with error bars; cmc: the posterior from shards, certified against all data; "
        "exact: the posterior from all data at once; importance: from independent draws weighed with all data, which "
        "takes seconds, and exact where their weights cannot be trusted",
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
        default="auto",
        description="cores that count as one worker; auto is 1, more leave room for other programs",
    )
    ranks_per_machine: CountOrAuto = Field(
        default="auto", description="MPI ranks at work on each machine; auto is one per core, the others wait"
    )
    checkpoint_every: Whole = Field(
        default=50,
        ge=1,
        le=100000,
        description="draws per chain between two checkpoints: what a kill can cost",
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
    fitted_data: StrictBool = Field(default=True, description="write fitted_data.npz with data, model and residuals")
    items: Literal["numbers", "full"] = Field(
        default="numbers",
        description="of each item of a campaign. numbers: its row of the table, and what 'hpcxpcs report' draws from; "
        "full: its pictures and report at once",
    )


class Preprocessing(Section):
    """What is done to the data before they are fitted or drawn; every output says what was."""

    diagonal: Literal["basic", "statistical", "interpolation"] = Field(
        default="basic",
        description="diagonal in pictures and fitted_data (fits never use it): basic averages both neighbours, "
        "statistical takes the median within window lags, interpolation continues lags 2 and 1",
    )
    normalization: Literal["none", "baseline", "mean", "min_max", "z_score"] = Field(
        default="none",
        description="divide by the level of long lags or the mean, or shift and scale to 0 … 1 (min_max) or to "
        "mean 0 and deviation 1; contrast and offset change with it",
    )
    noise_reduction: Literal["none", "median", "gaussian"] = Field(
        default="none",
        description="filter along lines of equal lag; error bars become too small, because points then share noise",
    )
    window: Whole = Field(
        default=3, ge=3, le=101, description="frames of the filters, odd; also lags of diagonal statistical"
    )
    standard: Literal["as_stored", "float64"] = Field(
        default="as_stored", description="number type that matrices are turned into"
    )
    validate_result: StrictBool = Field(
        default=False, description="whether each matrix is checked for finite values and symmetry afterwards"
    )

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, such as {value + 1}")
        return value


class QualityControl(Section):
    """How the data are judged, and what repair may mask."""

    level: Literal["none", "basic", "standard", "comprehensive"] = Field(
        default="none",
        description="how closely to look: none; basic counts what is missing or impossible; standard measures signal, "
        "noise and drift too; comprehensive also what frames and angles share. Reads the data once more",
    )
    auto_repair: Literal["disabled", "conservative", "aggressive"] = Field(
        default="disabled",
        description="what may be left out of the fit, each value recorded: conservative what holds no number, "
        "aggressive also hot frames, spikes, negative and saturated values. Nothing is ever filled in",
    )
    refuse_poor: StrictBool = Field(
        default=False, description="whether data that score below 50 of 100 are refused before the fit"
    )

    @field_validator("auto_repair")
    @classmethod
    def _is_recorded(cls, value: str, info: ValidationInfo) -> str:
        if value != "disabled" and info.data.get("level") == "none":
            raise ValueError("needs a level other than none, so that what it masks is recorded; set level: basic")
        return value

    @field_validator("refuse_poor")
    @classmethod
    def _is_looked_at(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("level") == "none":
            raise ValueError("needs a level other than none, or nothing is judged; set level: standard")
        return value


class Logging(Section):
    """What the processes of a run write to RUN/logs, and how much the terminal shows; never changes the answer."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="how much the terminal shows: debug adds every line of the log, warning leaves out phases where "
        "there is no screen, error leaves out warnings too; files have info in any case, and debug with debug. What "
        "the command line or the variable HPCXPCS_LOG_LEVEL says goes first",
    )
    max_size_mb: Number = Field(
        default=10,
        ge=0.01,
        le=10000,
        description="size in MB at which the log of a process begins a new file",
    )
    backup_count: Whole = Field(
        default=5, ge=0, le=100, description="number of full files that are kept for each process"
    )
