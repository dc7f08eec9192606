"""What is written: an answer with its data and the run that made it, and the files that came of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.physics.model import Model

SCHEMA_VERSION = 1
"""Version of the names and keys of every file in the results folder."""


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

    fit: PointFit
    data: TwoTime
    model: Model
    run: RunRecord = field(repr=False)
    posterior: Posterior | None = field(default=None, repr=False)


def picked(record: object, *names: str) -> dict[str, Any]:
    """Fields of a record under their own names, as files have them."""
    return {name: getattr(record, name) for name in names}


def picked_at(k: int, record: object, *names: str) -> dict[str, Any]:
    """The k-th entry of each of these fields."""
    return {name: getattr(record, name)[k] for name in names}
