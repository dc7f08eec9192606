"""The answer of a campaign: one row per item, whatever became of it, with labels to sort and group by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hpcxpcs.arrays import Floats

Label = str | int | float
"""What tells items apart: a part of a file name, q, a window of frames, a model, or a key that is varied."""

ItemState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class ItemParameter:
    """One parameter of an item: value, the error that is quoted, and its interval of `probability`.

    `error`, `low` and `high` are NaN where the parameter was held (`free` is false) or is not determined; `bound` is
    "lower" or "upper" where it lies at one; `truth` is what a simulated file was made with.
    """

    name: str
    unit: str
    value: float
    error: float
    low: float
    high: float
    probability: float
    free: bool
    bound: str = ""
    truth: float | None = None


@dataclass(frozen=True)
class ItemRow:
    """One item: what it is, how far it is, and its answer if it has one.

    `reason` says why it failed; `quality` is "good", "acceptable" or "poor", and `verdict` the first sentence on it.
    `chi_squared` is reduced, of the whitened residuals where pairs are weighed; `log_evidence` is the natural
    logarithm of the model's evidence, in nats, where the method gives it, and `evidence_basis` what other models must
    share to be compared by it. `thumbnail` (3, m, m) holds data, fit and
    residual over its error of the first angle, coarsened, and is empty where there is none.
    """

    index: int
    name: str
    labels: Mapping[str, Label]
    file: str
    model: str
    method: str
    state: ItemState
    reason: str = ""
    quality: str = ""
    verdict: str = ""
    q: float = np.nan
    chi_squared: float = np.nan
    noise_model: str = ""
    seconds: float = np.nan
    parameters: tuple[ItemParameter, ...] = ()
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    evidence_basis: Mapping[str, Any] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    thumbnail: Floats = field(default_factory=lambda: np.empty((3, 0, 0)), repr=False)


@dataclass(frozen=True)
class CampaignTable:
    """All items of a campaign in the order of their numbers; `group_by` are the labels that tables are arranged by."""

    name: str
    run_id: str
    created: str
    labels: tuple[str, ...]
    group_by: tuple[str, ...]
    rows: tuple[ItemRow, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
