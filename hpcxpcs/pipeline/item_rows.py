"""What a campaign keeps of its items: where each is worked on, its answer, and the row that says it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.answer.campaign import ItemParameter, ItemRow
from hpcxpcs.errors import ClaimLost
from hpcxpcs.runs.plan import Task
from hpcxpcs.runs.run import DONE, REFUSED, Run
from hpcxpcs.runs.sealed import Sealed, read_sealed, write_sealed
from hpcxpcs.workers.work import Pulse

ROW = "item row"
"""Kind of the sealed file that says an item is finished: what tables show of it."""


def work_folder(run: Run, task: Task) -> Path:
    """Where an item is worked on, until its answer is kept."""
    return run.task_file(task).with_suffix(".work")


def answer_file(run: Run, task: Task) -> Path:
    """What an item's report is made of."""
    return run.task_file(task).with_suffix(".answer.h5")


def keep_row(run: Run, task: Task, row: ItemRow, pulse: Pulse) -> None:
    """Write the file that says the item is finished; ClaimLost when another process has taken it over."""
    if not pulse.may_publish():
        raise ClaimLost(f"{run.folder}: {task.name} was taken over by another process")
    status = DONE if row.state == "done" else REFUSED
    progress = {"done": 1, "total": 1, "quality": row.quality}
    values = {entry.name: getattr(row, entry.name) for entry in fields(row) if entry.name != "thumbnail"}
    values["parameters"] = [asdict(one) for one in row.parameters]
    arrays = {"thumbnail": row.thumbnail}
    write_sealed(run.task_file(task), Sealed(ROW, run.plan.run_id, task.name, status, progress, arrays, values))


def read_row(run: Run, task: Task) -> ItemRow:
    """The row of a finished or refused item."""
    found = read_sealed(run.task_file(task), kind=ROW, run_id=run.plan.run_id)
    values = dict(found.attributes)
    parameters = tuple(ItemParameter(**_numbers(one)) for one in values.pop("parameters"))
    values["warnings"] = tuple(values["warnings"])
    return ItemRow(**_numbers(values), parameters=parameters, thumbnail=found.arrays["thumbnail"])


_NUMBERS = frozenset({"q", "chi_squared", "seconds", "value", "error", "low", "high"})


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values from JSON, where a NaN is null and infinity a word."""
    return {
        name: np.nan if value is None else float(value) if name in _NUMBERS else value
        for name, value in values.items()
        if value is not None or name in _NUMBERS
    }
