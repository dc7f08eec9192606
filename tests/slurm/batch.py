"""Jobs on the lab's Slurm, and what Slurm and the run folder say of them at the same time."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs import cli
from hpcxpcs.batch.jobs import Job, Resources, TaskLook
from hpcxpcs.batch.scripts import script_text
from hpcxpcs.batch.slurm import Slurm
from hpcxpcs.runs.events import read_events
from hpcxpcs.runs.run import Run
from hpcxpcs.runs.status import read_status
from tests.slurm.lab import Lab
from tests.workers import toy

ROOT = Path(__file__).parents[2]
TOY = (sys.executable, "-m", "tests.workers.toy")
PRODUCT = (sys.executable, "-m", "hpcxpcs")
TEN_MINUTES = 600


@dataclass(frozen=True)
class Batch:
    """Submits jobs; `folder` is the test's own."""

    lab: Lab
    slurm: Slurm
    folder: Path

    def toy_run(self, count: int, name: str = "run", **settings: Any) -> Run:
        """A run whose draws are quick to make and known in advance."""
        return toy.toy_run(self.folder / name, count, **settings)

    def submit(
        self,
        run: Path,
        *options: object,
        command: tuple[str, ...] = TOY,
        walltime: int = TEN_MINUTES,
        processes: int = 1,
        nodes: int = 1,
        after: str | None = None,
        **settings: Any,
    ) -> str:
        """Submit `COMMAND RUN OPTIONS` with the script that the product makes; returns the job's id."""
        job = Job(
            scheduler="slurm",
            **{"kind": "array", "name": "test"} | settings,
            command=(*command, str(run), *(str(option) for option in options)),
            run=run,
            resources=Resources(walltime=walltime, nodes=nodes, processes=processes),
            environment={"PYTHONPATH": str(ROOT)},
        )
        script = run / "submit" / f"{job.kind}-{len(list(run.glob('submit/*')))}.sh"
        script.parent.mkdir(exist_ok=True)
        script.write_text(script_text(job))
        return self.slurm.submit(script, after=after)

    def looks(self, *jobs: str) -> list[TaskLook]:
        """What Slurm says."""
        return sorted(self.slurm.look(jobs), key=lambda look: (look.job, look.index or 0))

    def states(self, *jobs: str) -> set[str]:
        """The states of all their tasks."""
        return {look.state for look in self.looks(*jobs)}

    def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true."""
        self.lab.until(true)

    def until_done(self, run: Run, *jobs: str) -> None:
        """Wait for the end of jobs, while the run folder and Slurm agree; all must have succeeded."""
        self.until(lambda: self.agreed(run, *jobs) and not self.states(*jobs) & {"waiting", "running"})
        assert {(look.word, look.exit_code) for look in self.looks(*jobs)} == {("COMPLETED", 0)}, self.told(run)
        assert status_of(run)["state"] == "done"
        assert toy.digest(run) == toy.expected_digest(len(run.plan.tasks), run.plan.extra["blocks"])

    def agreed(self, run: Run, *jobs: str) -> bool:
        """Whether no more shards are being worked on than Slurm has tasks running, nor by anybody else.

        Slurm is asked before and after, because tasks come and go meanwhile.
        """
        before = self.running(*jobs)
        at_work = [task for task in read_status(run).tasks if task.state == "running"]
        after = self.running(*jobs)
        assert len(at_work) <= len(before | after), (at_work, self.looks(*jobs))
        return True

    def running(self, *jobs: str) -> set[tuple[str, int | None]]:
        """The tasks that run as Slurm sees it."""
        return {(look.job, look.index) for look in self.looks(*jobs) if look.state == "running"}

    def told(self, run: Run) -> str:
        """All logs of the run, to be shown when something went wrong."""
        logs = sorted(path for path in run.logs.iterdir() if path.is_file())
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in logs)


def status_of(run: Run) -> dict[str, Any]:
    """What `hpcxpcs status RUN --json` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["status", str(run.folder), "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def events_of(run: Run, kind: str) -> list[dict[str, Any]]:
    """Events of one kind, oldest first."""
    return [event for event in read_events(run.events) if event["event"] == kind]


def steps(run: Run) -> int:
    """Draws that are on disk."""
    return read_status(run).steps_done
