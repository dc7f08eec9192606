"""A made-up campaign: files by temperature and repeat, three q each, some of which went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hpcxpcs.answer.campaign import CampaignTable, ItemParameter, ItemRow

Q = (0.0054, 0.0072, 0.0108)

BASIS = {
    "data_fingerprint": "a file",
    "q": 0.1,
    "frames": [1, 40],
    "phi": [0.0],
    "noise_model": "independent",
    "noise_scale": "sampled",
    "scaling": "individual",
    "widths": None,
    "sigma_source": "compression residual",
    "sigma": [0.01],
    "pairs": [780],
    "chi_squared": [780.0],
    "widening": 1.0,
}
"""What the evidence of models rests on that can be compared."""


def parameter(name: str, value: float, error: float = 0.1, unit: str = "", **changes: Any) -> ItemParameter:
    """A free parameter with a 95 % interval around its value."""
    edges = {"low": value - 1.96 * error, "high": value + 1.96 * error}
    return ItemParameter(**{"name": name, "unit": unit, "value": value, "error": error, "probability": 0.95}
                         | edges | {"free": True} | changes)  # fmt: skip


def item(index: int, **changes: Any) -> ItemRow:
    """An item that is done and good, or one of another state without an answer."""
    plain: dict[str, Any] = {
        "index": index,
        "name": f"item-{index:04d}",
        "labels": {},
        "file": f"data/A{index:03d}.hdf",
        "model": "laminar_flow",
        "method": "importance",
        "state": "done",
    }
    answer = {
        "quality": "good",
        "verdict": "The fit converged. The model explains the data.",
        "chi_squared": 1.01,
        "noise_model": "speckle",
        "seconds": 1.5,
    }
    return ItemRow(**plain | (answer if changes.get("state", "done") == "done" else {}) | changes)


def table(*rows: ItemRow, **changes: Any) -> CampaignTable:
    """A campaign of these rows; its labels are those of the first."""
    labels = tuple(rows[0].labels) if rows else ()
    plain = {"name": "gel", "run_id": "20260101-abc", "created": "2026-01-01T12:00:00+00:00", "labels": labels}
    return CampaignTable(**{**plain, "group_by": (), "rows": rows} | changes)


def thumbnail(seed: int, size: int = 24) -> np.ndarray:
    """Data, fit and residual of a decay along the diagonal."""
    random = np.random.default_rng(seed)
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    fit = 1.0 + 0.2 * np.exp(-apart / (3.0 + seed % 7))
    residual = random.normal(size=(size, size))
    np.fill_diagonal(residual, np.nan)
    return np.stack([fit + 0.01 * np.nan_to_num(residual), fit, residual])


def sample_table(files: int = 20) -> CampaignTable:
    """Items of so many files at three q: mostly good, with poor, acceptable, failed and waiting ones among them."""
    random = np.random.default_rng(7)
    rows = []
    for k in range(files * len(Q)):
        number, q = k // len(Q), Q[k % len(Q)]
        temperature, repeat = 290.0 + 2.5 * (number // 2), number % 2 + 1
        rate = 12000.0 * np.exp(0.02 * (temperature - 300.0))
        noisy = rate * (1.0 + 0.02 * random.normal())
        labels = {"temperature": temperature, "repeat": repeat, "q": q, "attenuation": "att02"}
        row = item(
            k,
            name=f"A{number:03d}_att02_T{temperature:g}K_r{repeat}_results-q{q:g}",
            labels=labels,
            file=f"/data/beamtime/2026-1/gel/A{number:03d}_att02_T{temperature:g}K_r{repeat}_results.hdf",
            q=q,
            chi_squared=1.0 + 0.02 * random.normal(),
            seconds=1.2 + random.random(),
            parameters=(
                parameter("D0", noisy, 0.02 * rate, "Å²/s^(1+alpha)", truth=rate if number < 4 else None),
                parameter("alpha", -0.3 + 0.02 * random.normal(), 0.02),
                parameter("D_offset", 170.0, np.nan, "Å²/s", free=False, low=np.nan, high=np.nan),
                parameter("gamma_dot_t0", 0.0023 + 1e-5 * random.normal(), 1e-5, "1/s^(1+beta)"),
                parameter("phi0", 4.2 + 0.3 * random.normal(), 0.3, "degree"),
            ),
            thumbnail=thumbnail(k),
        )
        rows.append(_spoiled(row, k))
    settings = {"campaign": {"files": "data/A*.hdf", "q": list(Q)}, "optimization": {"method": "importance"}}
    return table(*rows, name="gel rheology", group_by=("temperature", "repeat"), settings=settings)


def _spoiled(row: ItemRow, k: int) -> ItemRow:
    nothing: dict[str, Any] = {"quality": "", "verdict": "", "q": np.nan, "chi_squared": np.nan, "seconds": np.nan}
    nothing |= {"noise_model": "", "parameters": (), "thumbnail": np.empty((3, 0, 0))}
    if k in (7, 31):
        reason = f"{row.file}: the dataset /xpcs/twotime is missing: select another file, or name it with data.dataset"
        return replace(row, state="failed", reason=reason, **nothing)
    if k in (56, 57, 58):
        return replace(row, state="running" if k == 56 else "waiting", **nothing)
    if k in (4, 22):
        warning = "The residuals keep a structure of 4 standard deviations along the lag."
        poor = tuple(replace(one, value=1.4 * one.value) if one.name == "D0" else one for one in row.parameters)
        return replace(row, quality="poor", verdict="The model misses the data.", chi_squared=1.83,
                       parameters=poor, warnings=(warning, "gamma_dot_t0 is hardly determined."))  # fmt: skip
    if k % 9 == 5:
        return replace(row, quality="acceptable", verdict="The fit converged, with reservations.", chi_squared=1.14)
    return row
