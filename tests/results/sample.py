"""A small experiment with a known answer, and a point fit of it with exactly the fields that results read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hpcxpcs.data.twotime import TwoTime, from_arrays
from hpcxpcs.physics.model import Model, build_model
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.records import Answer, NoiseParts, RunRecord
from hpcxpcs.results.reduction import AngleReduction, AngleSummary

NAMES = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
UNITS = ("Å²/s^(1+alpha)", "", "Å²/s", "s⁻¹", "", "s⁻¹", "degrees")
TRUTH = np.array([1.2e4, -0.4, 500.0, 1.0e-3, -0.3, 1.0e-4, -4.0])
PHI = (-12.5, 0.0, 45.0)
SIGMA = 0.02
PARTS = ("c2", "shape", "scaled", "residual", "normalized", "good")
CONFIG = {"analysis_mode": "laminar_flow", "experimental_data": {"file_path": "flow.h5"}}


@dataclass(frozen=True)
class Scaling:
    mode: str
    contrast: np.ndarray
    offset: np.ndarray
    contrast_uncertainty: np.ndarray
    offset_uncertainty: np.ndarray
    robust_contrast_uncertainty: np.ndarray | None
    robust_offset_uncertainty: np.ndarray | None
    widths: dict[str, float] = field(default_factory=lambda: {"contrast": 0.012, "offset": 0.0015})
    notes: tuple[str, ...] = ("contrast varies between angles by 8 %",)


@dataclass(frozen=True)
class Compression:
    provider: str = "moments"
    cells: int = 120
    nodes: int = 4800
    pairs: int = 2277
    error: float = 0.012
    largest_error: float = 0.03
    tolerance: float = 0.05
    checked_pairs: int = 2277
    checked_points: int = 16
    rounds: int = 1


@dataclass(frozen=True)
class Start:
    cost: float
    values: np.ndarray
    status: str


@dataclass(frozen=True)
class Search:
    asked: int = 1
    screened: int = 256
    followed: int = 2
    minima: int = 1


@dataclass(frozen=True)
class Exchange:
    decided_by: str = "order"
    difference: float = 0.8
    values: np.ndarray = field(default_factory=lambda: TRUTH)
    indifferent: bool = True
    words: str = "the data do not tell which component is the sample"


@dataclass(frozen=True)
class PointFit:
    model: str
    conventions: dict[str, str]
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray
    free: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    priors: dict[str, dict[str, str | float]]
    origins: dict[str, dict[str, str]]
    data_scale: dict[str, float]
    at_bound: np.ndarray
    uncertainty: np.ndarray
    robust_uncertainty: np.ndarray | None
    scaling: Scaling
    covariance: np.ndarray
    covariance_names: tuple[str, ...]
    robust_covariance: np.ndarray | None
    sigma: np.ndarray
    sigma_source: str
    noise_scale: float
    chi_squared: float
    degrees_of_freedom: float
    reduced_chi_squared: float
    chi_squared_per_angle: np.ndarray
    pairs: np.ndarray
    status: str = "converged"
    message: str = "the cost changes by less than the tolerance"
    iterations: int = 17
    evaluations: int = 42
    seconds: float = 0.8
    recovery_actions: tuple[str, ...] = ()
    starts: tuple[Start, ...] = ()
    flags: tuple[str, ...] = ()
    alternatives: tuple[Any, ...] = ()
    gradient_balance: dict[str, float] = field(default_factory=dict)
    condition_number: float = 3.1e4
    compression: Compression = field(default_factory=Compression)
    search: Search = field(default_factory=Search)
    exchange: Exchange | None = None
    noise: NoiseParts | None = None

    @property
    def ok(self) -> bool:
        return self.status.startswith("converged")


def sample_model() -> Model:
    """Laminar flow at q = 0.0054 1/Å."""
    return build_model("laminar_flow", q=0.0054)


def sample_data(n_frames: int = 40, phi: tuple[float, ...] = PHI, seed: int = 7, **options: Any) -> TwoTime:
    """Simulated matrices (n_phi,N,N) in single precision with independent noise SIGMA, wrong diagonal."""
    rng = np.random.default_rng(seed)
    model, t = sample_model(), np.arange(n_frames) * 0.1
    contrast, offset = sample_scaling(len(phi))
    c2 = np.empty((len(phi), n_frames, n_frames), dtype=np.float32)
    for k, angle in enumerate(phi):
        shape = np.asarray(model.shape(TRUTH, t[:, None], t[None, :], angle))
        noise = np.triu(rng.normal(0.0, SIGMA, shape.shape), 1)
        c2[k] = offset[k] + contrast[k] * shape + noise + noise.T + 0.5 * np.eye(n_frames)
    return from_arrays(c2, list(phi), 0.0054, 0.1, **options)


def sample_scaling(n_phi: int) -> tuple[np.ndarray, np.ndarray]:
    """Contrast and offset that differ between angles."""
    steps = np.linspace(-1.0, 1.0, n_phi)
    return 0.25 + 0.02 * steps, 1.0 + 0.004 * steps


def sample_fit(n_phi: int = len(PHI), pairs: int = 741, seed: int = 11, **changes: Any) -> PointFit:
    """A converged fit of seven parameters; error bars are 1 % of the values, robust ones 1.5 times that."""
    rng = np.random.default_rng(seed)
    contrast, offset = sample_scaling(n_phi)
    deviation = np.concatenate([0.01 * np.abs(TRUTH), np.full(n_phi, 2e-3), np.full(n_phi, 1e-3)])
    mixing = np.eye(len(deviation)) + 0.3 * rng.normal(size=(len(deviation),) * 2) / np.sqrt(len(deviation))
    covariance = mixing @ mixing.T
    covariance *= np.outer(deviation, deviation) / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    names = (*NAMES, *(f"contrast[{k}]" for k in range(n_phi)), *(f"offset[{k}]" for k in range(n_phi)))
    fit = PointFit(
        model="laminar_flow",
        conventions={"shear_law": "couette", "integrator": "exact"},
        names=NAMES,
        units=UNITS,
        values=TRUTH * 1.004,
        free=np.ones(7, bool),
        lower=np.array([100.0, -2.0, -1e5, 1e-6, -2.0, -0.1, -30.0]),
        upper=np.array([1e5, 2.0, 1e5, 0.5, 2.0, 0.1, 30.0]),
        priors={name: {"type": "uniform"} for name in NAMES},
        origins={name: {"min": "data", "max": "configuration", "prior": "configuration"} for name in NAMES},
        data_scale={"q": 0.0054, "gap": 2.0e6, "dt": 0.1, "first": 0.1, "last": 3.9},
        at_bound=np.zeros(7, bool),
        uncertainty=deviation[:7],
        robust_uncertainty=1.5 * deviation[:7],
        scaling=Scaling(
            "hierarchical",
            contrast,
            offset,
            np.full(n_phi, 2e-3),
            np.full(n_phi, 1e-3),
            np.full(n_phi, 3e-3),
            np.full(n_phi, 1.5e-3),
        ),
        covariance=covariance,
        covariance_names=names,
        robust_covariance=2.25 * covariance,
        sigma=np.full(n_phi, SIGMA),
        sigma_source="compression residual",
        noise_scale=1.0,
        chi_squared=pairs * n_phi * 1.003,
        degrees_of_freedom=pairs * n_phi - 13,
        reduced_chi_squared=pairs * n_phi * 1.003 / (pairs * n_phi - 13),
        chi_squared_per_angle=np.full(n_phi, pairs * 1.003),
        pairs=np.full(n_phi, pairs),
        starts=(Start(1117.0, TRUTH * 1.004, "converged"), Start(2210.5, TRUTH * 3.0, "max_iterations")),
        gradient_balance={"D0": 1.0, "gamma_dot_t0": 0.02},
    )
    return replace(fit, **changes)


def sample_run(**changes: Any) -> RunRecord:
    """A run of one second that ended well."""
    run = RunRecord(
        config=CONFIG,
        fingerprint="0" * 64,
        command=("hpcxpcs", "fit", "flow.yaml"),
        timings={"read": 0.2, "fit": 0.8},
        exit_code=0,
        truth=dict(zip(NAMES, TRUTH.tolist(), strict=True)),
    )
    return replace(run, **changes)


def sample_answer(n_frames: int = 40, phi: tuple[float, ...] = PHI, **changes: Any) -> Answer:
    """The sample fit with the sample data, model and run; `changes` replace fields of the fit."""
    fit = sample_fit(len(phi), (n_frames - 1) * (n_frames - 2) // 2, **changes)
    return Answer(fit, sample_data(n_frames, phi), sample_model(), sample_run())


def whole(answer: Answer, angle: int, block_points: int = 2**18) -> dict[str, np.ndarray]:
    """The matrices of one angle put together from its blocks."""
    blocks = [block for block in compared(answer, block_points) if block.angle == angle]
    assert [block.start for block in blocks] == sorted(block.start for block in blocks)
    assert [block.is_last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    return {name: np.concatenate([getattr(block, name) for block in blocks]) for name in PARTS}


def strictly_parsed(text: str) -> Any:
    """The value of a JSON text; NaN and Infinity are refused, as they are no JSON."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def reduced(answer: Answer, angle: int, block_points: int = 2**18) -> AngleSummary:
    """One angle as the pictures need it."""
    total = AngleReduction(angle, answer.data.n_frames)
    for block in compared(answer, block_points):
        if block.angle == angle:
            total.add(block)
    return total.summary()
