"""`hpcxpcs status`: how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import run_argument

if TYPE_CHECKING:
    from hpcxpcs.batch.submissions import QueueLook, Submission, SubmitRecord
    from hpcxpcs.runs.run import Run
    from hpcxpcs.runs.status import RunStatus, TaskStatus

REFRESH_SECONDS = 2.0
"""Between two looks: a look reads the head of every task's file."""

MOST_RUNNING = 16
"""Running tasks that are listed one by one."""

EXAMPLES = """\
\b
Examples:
  hpcxpcs status runs/tuesday
  hpcxpcs status runs/tuesday --watch
  hpcxpcs status runs/tuesday --json | jq .counts
"""


@click.command(epilog=EXAMPLES)
@run_argument
@click.option("--watch", is_flag=True, help="Look again every two seconds until nothing is left to do.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch one per line.")
@click.option("--queue/--no-queue", "queue_too", default=True, help="Ask the scheduler of a submitted run.")
def command(run: Path, watch: bool, as_json: bool, queue_too: bool) -> None:
    """Show how far the run in the folder RUN is: tasks by state, speed, time to go, failures and their causes.

    It reads the files of the run, wherever its processes are, and disturbs nobody. Of a run that was submitted, it
    also tells what the queue says, asked once a minute whoever looks, and sooner when it did not answer; --no-queue
    leaves that out.
    """
    from hpcxpcs.runs.run import Run
    from hpcxpcs.runs.status import completed, read_status

    opened = Run.open(run)
    shown = ""
    while True:
        found, complete = read_status(opened), completed(opened) is not None
        queue = _queue(opened, complete) if queue_too else None
        text = _json(found, queue, compact=watch) if as_json else _text(opened, found, queue, complete)
        if text != shown:
            _show(text, again=watch and bool(shown) and not as_json)
        shown = text
        if not watch or found.state in ("done", "failed"):
            return
        time.sleep(REFRESH_SECONDS)


def _show(text: str, again: bool) -> None:
    """Print; on a terminal in place of what was there."""
    if again and sys.stdout.isatty():
        click.clear()
    elif again:
        click.echo()
    click.echo(text)


def _queue(run: Run, complete: bool) -> tuple[SubmitRecord, QueueLook] | None:
    """The jobs of a run and what the queue says of them; None for a run that was not submitted."""
    from hpcxpcs.batch.submissions import CHANGING_SECONDS, queue_look, read_record

    record = read_record(run)
    if record is None:
        return None
    look = queue_look(run, record)
    if complete and any(look.alive(one) for one in record.submissions):
        look = queue_look(run, record, fresh_seconds=CHANGING_SECONDS)
    return record, look


def _json(found: RunStatus, queue: tuple[SubmitRecord, QueueLook] | None, compact: bool) -> str:
    import json

    from hpcxpcs.files.json_safe import json_safe

    content = {"schema_version": 1, "state": found.state, **vars(found)}
    content["queue"] = None if queue is None else _queue_content(*queue)
    return json.dumps(json_safe(content), indent=None if compact else 2, ensure_ascii=False)


def _queue_content(record: SubmitRecord, look: QueueLook) -> dict[str, object]:
    jobs = [
        {**vars(one), "states": look.counts(one), "tasks_seen": [vars(task) for task in look.of(one)]}
        for one in record.submissions
    ]
    age = round(max(0.0, time.time() - look.asked), 1)
    return {"age_seconds": age, "problem": look.problem, "jobs": jobs}


def _queue_lines(record: SubmitRecord, look: QueueLook) -> Iterator[str]:
    age = f"{max(0.0, time.time() - look.asked):.0f} s ago"
    for one in record.submissions:
        states = _job_states(one, look)
        if states:
            yield f"{'job':<9}{one.job} ({one.kind}, {one.scheduler}): {states}, seen {age}"
    if look.problem is not None:
        yield f"{'queue':<9}did not answer {age}: {look.problem}"


def _job_states(one: Submission, look: QueueLook) -> str:
    """How many tasks of a job are in which state, and why; "" for one that is forgotten."""
    counts = look.counts(one)
    if set(counts) <= {"gone"}:
        return ""
    parts = []
    for state, count in counts.items():
        reasons = sorted({task.reason for task in look.of(one) if task.state == state and task.reason})
        parts.append(f"{count} {state} ({'; '.join(reasons)})" if reasons else f"{count} {state}")
    return ", ".join(parts)


def _text(run: Run, found: RunStatus, queue: tuple[SubmitRecord, QueueLook] | None, complete: bool) -> str:
    return "\n".join(_lines(run, found, queue, complete))


def _lines(run: Run, found: RunStatus, queue: tuple[SubmitRecord, QueueLook] | None, complete: bool) -> Iterator[str]:
    from hpcxpcs.runs.plan import CAMPAIGN

    yield f"{'run':<9}{found.folder} ({found.method}, begun {found.created})"
    for kind, states in found.counts.items():
        parts = ", ".join(f"{count} {state}" for state, count in states.items() if count or state == "done")
        yield f"{kind:<9}{sum(states.values())} in all: {parts}"
    if found.method == CAMPAIGN:
        from hpcxpcs.cli.campaign import status_lines

        yield from status_lines(run, found)
    yield from _progress(found)
    running = [task for task in found.tasks if task.state == "running"]
    for task in running[:MOST_RUNNING]:
        yield f"{'running':<9}{task.name}  {_steps(task)}  {task.holder}, sign of life {task.silent_seconds:.0f} s ago"
    if len(running) > MOST_RUNNING:
        yield f"{'':<9}… and {len(running) - MOST_RUNNING} more"
    for task in found.tasks:
        if task.lost and task.state == "waiting":
            yield (
                f"{'lost':<9}{task.name}  {_steps(task)}  {task.holder} has ended without a word; "
                "whoever works on this run takes over"
            )
    for task in found.tasks:
        if task.failure is not None and task.state != "done":
            yield from _failure(task)
    if queue is not None:
        yield from _queue_lines(*queue)
    yield f"{'state':<9}{_advice(found, queue, complete)}"


def _progress(found: RunStatus) -> Iterator[str]:
    from hpcxpcs.runs.status import duration

    if not found.steps_total:
        return
    share = found.steps_done / found.steps_total
    speed = "" if found.steps_per_second is None else f", {found.steps_per_second:.3g}/s"
    left = "" if found.eta_seconds is None else f", about {duration(found.eta_seconds)} to go"
    yield f"{'steps':<9}{found.steps_done} of {found.steps_total} ({share:.0%}){speed}{left}"


def _steps(task: TaskStatus) -> str:
    return "not begun" if task.done is None else f"{task.done}/{'?' if task.total is None else task.total}"


def _failure(task: TaskStatus) -> Iterator[str]:
    if task.failure is None:
        return
    attempts = f"{task.failure.attempts} attempt{'s' if task.failure.attempts > 1 else ''}"
    what = "given up" if task.state == "failed" else "will be tried again"
    yield f"{'failed':<9}{task.name}  {attempts}, {what}, last: {task.failure.cause}"
    for line in task.failure.lines:
        yield f"{'':<11}{line}"


def _advice(found: RunStatus, queue: tuple[SubmitRecord, QueueLook] | None, complete: bool) -> str:
    if found.state == "running":
        return "at work"
    if complete:
        given_up = sum(task.state == "failed" for task in found.tasks)
        done = "all tasks are done" if not given_up else f"all tasks are done but {given_up}, which failed"
        return f"{done}; results are in {found.folder / 'results'}"
    if queue is not None and any(queue[1].alive(one) for one in queue[0].submissions):
        return "its jobs are in the queue"
    if queue is not None and found.state == "waiting" and queue[1].problem is None:
        return f"no job of this run waits or runs: 'hpcxpcs resume {found.folder}' submits again"
    if found.state == "waiting":
        return "nobody is at work: continue with the command that began it, or help with hpcxpcs work"
    if found.state == "failed":
        return "some tasks were given up: the causes are above, all of them in the folder failures"
    rest = (
        f", results are in {found.folder / 'results'}"
        if found.results
        else f": 'hpcxpcs resume {found.folder}' gathers"
    )
    return f"all tasks are done{rest}"
