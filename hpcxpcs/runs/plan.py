"""The plan of a run: everything that decides its draws, written once as plan.json, compared when continuing."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcxpcs.errors import FutureFile, PlanMismatch, StoreError, TornFile
from hpcxpcs.files.json_safe import dumps, json_object, json_safe

TASK_FOLDERS = {"prepare": "data", "shard": "shards", "exact": "exact", "check": "checks", "item": "items"}
"""Kind of task and the folder of the run in which its file appears."""

ITEMS_PER_FOLDER = 500
"""Items of a campaign whose files are in one folder: parallel file systems are slow with many in one."""

CAMPAIGN = "campaign"
"""Method of a run whose tasks are whole fits."""


@dataclass(frozen=True)
class Task:
    """One idempotent piece of a run: `name` such as "shard-00012", `cost` in any unit that tasks share."""

    name: str
    kind: str
    index: int
    cost: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a kind or a name that has no place in the run folder."""
        if self.kind not in TASK_FOLDERS or self.index < 0 or self.name != task_name(self.kind, self.index):
            raise ValueError(f"not a task: {self.name!r}, kind {self.kind!r}, index {self.index}")

    @property
    def file(self) -> str:
        """Path of the task's file inside the run folder."""
        inside = f"{self.index // ITEMS_PER_FOLDER:03d}/" if self.kind == "item" else ""
        return f"{TASK_FOLDERS[self.kind]}/{inside}{self.index:05d}.h5"


def task_name(kind: str, index: int) -> str:
    """Return the name of task `index` (from 0) of a kind."""
    return f"{kind}-{index:05d}"


def new_task(kind: str, index: int, cost: float = 1.0) -> Task:
    """Make the task `index` (from 0) of a kind."""
    return Task(task_name(kind, index), kind, index, cost)


def longest_first(tasks: Iterable[Task], cost: Callable[[Task], float]) -> tuple[Task, ...]:
    """Order tasks so that the most costly start first; equal ones by name, the same for every process."""
    return tuple(sorted(tasks, key=lambda task: (-cost(task), task.name)))


SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What a run computes. `config` holds the settings that matter to the answer, and only those.

    `data` has at least path and fingerprint, `shards` strategy, count and anchor; `stream_version` is that of the
    code that draws; `extra` is for what is not compared.
    """

    run_id: str
    created: str
    hpcxpcs_version: str
    versions: Mapping[str, str]
    stream_version: int
    method: str
    config: Mapping[str, Any]
    config_fingerprint: str
    data: Mapping[str, Any]
    seed: int
    shards: Mapping[str, Any]
    chains: int
    tasks: tuple[Task, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def text(self) -> str:
        """JSON text of the plan, with a hash of itself, which Plan.parsed checks."""
        content = json_safe(self)
        return dumps({**content, "sha256": _digest(content)})

    @classmethod
    def parsed(cls, text: bytes, path: Path) -> Plan:
        """Read the text of `path`; TornFile when it was altered, FutureFile when it is too new."""
        content = json_object(text)
        if content is None:
            raise _altered(path)
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise FutureFile(
                f"{path}: is a plan of schema {version}, this version of hpcxpcs reads up to {SCHEMA_VERSION}: "
                "continue with the version that started the run, or choose another --run"
            )
        digest = content.pop("sha256", None)
        if digest != _digest(content):
            raise _altered(path)
        tasks = tuple(Task(**task) for task in content.pop("tasks"))
        return cls(tasks=tasks, **content)


def new_run_id() -> str:
    """Make an id that no other run has."""
    return secrets.token_hex(8)


def refuse_difference(existing: Plan, wanted: Plan, *, place: Path | None = None) -> None:
    """Raise PlanMismatch with the first difference, in words, that would change the draws of a run."""
    for difference in _differences(json_safe(existing), json_safe(wanted)):
        where = f"{place}: " if place else ""
        raise PlanMismatch(
            f"{where}this run cannot be continued: {difference}: "
            "start it again with --fresh, choose another folder with --run, or go back to what it was started with"
        )


def changed_versions(existing: Plan, wanted: Plan) -> tuple[str, ...]:
    """Say which packages have another version than when the run was started; a reason to warn, not to refuse."""
    names = sorted({*existing.versions, *wanted.versions})
    return tuple(
        f"{name} was {existing.versions.get(name, 'absent')}, is {wanted.versions.get(name, 'absent')}"
        for name in names
        if existing.versions.get(name) != wanted.versions.get(name)
    )


def _differences(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Differences in words, in the order in which a user would look for them."""
    if existing["method"] != wanted["method"]:
        yield f"its method is {existing['method']}, now it would be {wanted['method']}"
    for key, before, now in differing(existing["config"], wanted["config"]):
        yield f"the setting {key} was {before}, is {now}"
    if existing["data"].get("fingerprint") != wanted["data"].get("fingerprint"):
        yield (
            f"the data have changed: fingerprint {existing['data'].get('fingerprint')} of "
            f"{existing['data'].get('path')}, now {wanted['data'].get('fingerprint')} of {wanted['data'].get('path')}"
        )
    for name in ("seed", "chains"):
        if existing[name] != wanted[name]:
            yield f"{name} was {existing[name]}, is {wanted[name]}"
    for key, before, now in differing(existing["shards"], wanted["shards"]):
        yield f"the shards differ: {key} was {before}, is {now}"
    if existing["stream_version"] != wanted["stream_version"]:
        yield (
            f"it was drawn by hpcxpcs {existing['hpcxpcs_version']} (stream {existing['stream_version']}), "
            f"this is {wanted['hpcxpcs_version']} (stream {wanted['stream_version']}), which draws differently"
        )
    if existing["config_fingerprint"] != wanted["config_fingerprint"]:
        yield (
            f"the configuration's fingerprint was {existing['config_fingerprint']}, is {wanted['config_fingerprint']}"
        )


_ABSENT = object()
_LONGEST_SHOWN = 80


def differing(existing: Any, wanted: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted keys under which two JSON values differ, with both values as text."""
    if isinstance(existing, Mapping) and isinstance(wanted, Mapping):
        for name in [*existing, *(name for name in wanted if name not in existing)]:
            inner = f"{key}.{name}" if key else name
            yield from differing(existing.get(name, _ABSENT), wanted.get(name, _ABSENT), inner)
    elif existing is _ABSENT or wanted is _ABSENT or existing != wanted:
        yield key, _shown(existing), _shown(wanted)


def _shown(value: Any) -> str:
    text = "not set" if value is _ABSENT else _canonical(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _altered(path: Path) -> StoreError:
    return TornFile(
        f"{path}: is incomplete or was changed after it was written: "
        "put the original back, start again with --fresh, or choose another --run"
    )
