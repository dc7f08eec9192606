"""What the results room reads from a point fit, and what a run adds to it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.physics.model import Model

if TYPE_CHECKING:
    from hpcxpcs.results.posterior_records import Posterior

SCHEMA_VERSION = 1
"""Version of the names and keys of every file in the results folder."""


class Scaling(Protocol):
    """Contrast and offset of each angle, (n_phi,) each, with one-sigma uncertainties."""

    @property
    def mode(self) -> str: ...
    @property
    def contrast(self) -> np.ndarray: ...
    @property
    def offset(self) -> np.ndarray: ...
    @property
    def contrast_uncertainty(self) -> np.ndarray: ...
    @property
    def offset_uncertainty(self) -> np.ndarray: ...
    @property
    def robust_contrast_uncertainty(self) -> np.ndarray | None: ...
    @property
    def robust_offset_uncertainty(self) -> np.ndarray | None: ...
    @property
    def widths(self) -> Mapping[str, float]: ...
    @property
    def notes(self) -> Sequence[str]: ...


class Compression(Protocol):
    """How the data were summarised, and how far that may have moved the log-likelihood (nats)."""

    @property
    def provider(self) -> str: ...
    @property
    def cells(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    @property
    def pairs(self) -> int: ...
    @property
    def error(self) -> float: ...
    @property
    def largest_error(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def checked_pairs(self) -> int: ...
    @property
    def checked_points(self) -> int: ...
    @property
    def rounds(self) -> int: ...


class Start(Protocol):
    """One start of the search: where it ended, (p,) values, and how."""

    @property
    def cost(self) -> float: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def status(self) -> str: ...


class Search(Protocol):
    """Starts: asked for, candidates screened, followed, distinct minima."""

    @property
    def asked(self) -> int: ...
    @property
    def screened(self) -> int: ...
    @property
    def followed(self) -> int: ...
    @property
    def minima(self) -> int: ...


class Alternative(Protocol):
    """The fit with one of two degenerate parameters held at 0: (p,) values and standard errors, change of χ²."""

    @property
    def pair(self) -> tuple[str, str]: ...
    @property
    def correlation(self) -> float: ...
    @property
    def held(self) -> str: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def uncertainty(self) -> np.ndarray: ...
    @property
    def change(self) -> float: ...


class Exchange(Protocol):
    """The solution of two components with their names exchanged: its (p,) values, and its χ² minus that quoted."""

    @property
    def decided_by(self) -> str: ...
    @property
    def difference(self) -> float: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def indifferent(self) -> bool: ...
    @property
    def words(self) -> str: ...


class Fit(Protocol):
    """A point fit: p physical parameters, n_phi angles."""

    @property
    def model(self) -> str: ...
    @property
    def conventions(self) -> Mapping[str, str]: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def units(self) -> Sequence[str]: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def free(self) -> np.ndarray: ...
    @property
    def lower(self) -> np.ndarray: ...
    @property
    def upper(self) -> np.ndarray: ...
    @property
    def priors(self) -> Mapping[str, Mapping[str, str | float]]: ...
    @property
    def origins(self) -> Mapping[str, Mapping[str, str]]: ...
    @property
    def data_scale(self) -> Mapping[str, float]: ...
    @property
    def at_bound(self) -> np.ndarray: ...
    @property
    def uncertainty(self) -> np.ndarray: ...
    @property
    def robust_uncertainty(self) -> np.ndarray | None: ...
    @property
    def scaling(self) -> Scaling: ...
    @property
    def covariance(self) -> np.ndarray: ...
    @property
    def covariance_names(self) -> Sequence[str]: ...
    @property
    def robust_covariance(self) -> np.ndarray | None: ...
    @property
    def sigma(self) -> np.ndarray: ...
    @property
    def sigma_source(self) -> str: ...
    @property
    def noise_scale(self) -> float: ...
    @property
    def chi_squared(self) -> float: ...
    @property
    def degrees_of_freedom(self) -> float: ...
    @property
    def reduced_chi_squared(self) -> float: ...
    @property
    def chi_squared_per_angle(self) -> np.ndarray: ...
    @property
    def pairs(self) -> np.ndarray: ...
    @property
    def status(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def message(self) -> str: ...
    @property
    def iterations(self) -> int: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def recovery_actions(self) -> Sequence[str]: ...
    @property
    def starts(self) -> Sequence[Start]: ...
    @property
    def search(self) -> Search: ...
    @property
    def flags(self) -> Sequence[str]: ...
    @property
    def alternatives(self) -> Sequence[Alternative]: ...
    @property
    def gradient_balance(self) -> Mapping[str, float]: ...
    @property
    def condition_number(self) -> float: ...
    @property
    def compression(self) -> Compression: ...
    @property
    def exchange(self) -> Exchange | None: ...


@dataclass(frozen=True)
class RunRecord:
    """What only the command knows: configuration, words, clock (seconds per phase, UTC) and verdict.

    `quality` is the quality report of the data, None when nobody asked for one; `observed` is asked at the time of
    writing for phases, processes and messages of all processes of the run.
    """

    config: Mapping[str, Any]
    fingerprint: str
    command: Sequence[str]
    timings: Mapping[str, float]
    exit_code: int
    truth: Mapping[str, Any] | None = None
    started: datetime.datetime | None = None
    quality: Mapping[str, Any] | None = None
    run_id: str = ""
    observed: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Trouble:
    """A file or picture that was not made, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class WrittenResults:
    """The files written so far (absolute paths), the pictures that failed, the files left out, the report."""

    folder: Path
    files: tuple[Path, ...]
    plots_failed: tuple[Trouble, ...] = ()
    skipped: tuple[Trouble, ...] = ()
    report: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Answer:
    """A fit with the data and the model it belongs to, the run that made it, and the posterior if one was sampled."""

    fit: Fit
    data: TwoTime
    model: Model
    run: RunRecord = field(repr=False)
    posterior: Posterior | None = field(default=None, repr=False)
