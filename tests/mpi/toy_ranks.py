"""Runs inside MPI ranks; tests/mpi/test_ranks.py starts it: FOLDER LEASE HANG_AFTER [WHAT GOES WRONG WHERE]."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from hpcxpcs.errors import ConfigError
from hpcxpcs.runs.run import Run
from hpcxpcs.workers.local import InProcess
from hpcxpcs.workers.mpi import MpiRanks, mpi_ranks
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import Patience, TaskFunction, lazily
from tests.workers import toy


def make(run: Run) -> TaskFunction:
    """Leave a trace of which process needed a task function."""
    (run.logs / f"made-by-{os.getpid()}").touch()
    return toy.draw


def lead(executor: MpiRanks | InProcess, folder: Path, trouble: str) -> int:
    """Do all tasks, say what came of it."""
    if trouble == "leader refuses":
        raise ConfigError("config.yaml: key 'shards': 'many' is not a number: give a number")
    if trouble == "leader fails":
        raise ZeroDivisionError("in the leader")
    run = Run.open(folder)
    report = executor.run_tasks(run, run.plan.tasks)
    (run.logs / "report").write_text(f"{executor.workers} workers, {len(report.done)} done, {report.stopped}")
    return report.exit_code


def main() -> int:
    """Lead or serve, as the rank may be."""
    folder, lease, hang_after = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    trouble = sys.argv[4] if len(sys.argv) > 4 else ""
    if trouble == "late rank" and os.environ.get("PMI_RANK") == "1":
        time.sleep(1.0)
    sys.stdout.write(f"rank {os.environ.get('PMI_RANK')} is process {os.getpid()}\n")
    function, patience = lazily(make), Patience(lease, hang_after)
    with mpi_ranks(function, None, patience, warn=lambda text: print(f"warning: {text}", file=sys.stderr)) as found:
        if found is None:
            return 0
        alone = isinstance(found, StopRequest)
        return lead(InProcess(function, found, patience) if alone else found, folder, trouble)


if __name__ == "__main__":
    sys.exit(main())
