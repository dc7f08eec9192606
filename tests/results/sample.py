"""A small experiment with a known answer, and a point fit of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import CompressionReport, PointFit, ScalingEstimate, SearchReport, StartRecord
from hpcxpcs.data.twotime import TwoTime, from_arrays
from hpcxpcs.physics.model import Model, build_model
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.plots import AngleReduction, AngleSummary
from hpcxpcs.results.records import Answer, RunRecord

NAMES = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
UNITS = ("Å²/s^(1+alpha)", "", "Å²/s", "s⁻¹", "", "s⁻¹", "degrees")
TRUTH = np.array([1.2e4, -0.4, 500.0, 1.0e-3, -0.3, 1.0e-4, -4.0])
PHI = (-12.5, 0.0, 45.0)
SIGMA = 0.02
COMPRESSION = CompressionReport("moments", 120, 4800, 2277, 0.012, 0.03, 0.05, 2277, 16, 1)
PARTS = ("c2", "shape", "scaled", "residual", "normalized", "good")
CONFIG = {"analysis_mode": "laminar_flow", "experimental_data": {"file_path": "flow.h5"}}


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
    """A converged fit of seven parameters; error bars are 1 % of the values, robust ones 1.4 times that."""
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
        robust_uncertainty=1.4 * deviation[:7],
        scaling=ScalingEstimate(
            "hierarchical",
            contrast,
            offset,
            np.full(n_phi, 2e-3),
            np.full(n_phi, 1e-3),
            np.full(n_phi, 3e-3),
            np.full(n_phi, 1.5e-3),
            widths={"contrast": 0.012, "offset": 0.0015},
            notes=("contrast varies between angles by 8 %",),
        ),
        covariance=covariance,
        covariance_names=names,
        robust_covariance=1.96 * covariance,
        sigma=np.full(n_phi, SIGMA),
        sigma_source="compression residual",
        noise_scale=1.0,
        chi_squared=pairs * n_phi * 1.003,
        degrees_of_freedom=pairs * n_phi - 13,
        chi_squared_per_angle=np.full(n_phi, pairs * 1.003),
        pairs=np.full(n_phi, pairs),
        status="converged",
        message="the cost changes by less than the tolerance",
        iterations=17,
        evaluations=42,
        seconds=0.8,
        recovery_actions=(),
        starts=(StartRecord(1117.0, TRUTH * 1.004, "converged"), StartRecord(2210.5, TRUTH * 3.0, "max_iterations")),
        flags=(),
        alternatives=(),
        rested=(),
        mirrored="",
        gradient_balance={"D0": 1.0, "gamma_dot_t0": 0.02},
        condition_number=3.1e4,
        compression=COMPRESSION,
        timings={},
        search=SearchReport(asked=1, screened=256, followed=2, minima=1),
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
