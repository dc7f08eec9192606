"""How far a run is, from what its processes leave in its folder: no process is asked; and that it is complete."""

from __future__ import annotations

import datetime
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.errors import AlreadyComplete, HpcxpcsError
from hpcxpcs.files.json_safe import json_object, write_json
from hpcxpcs.runs.claims import Holding, holding
from hpcxpcs.runs.events import append, introduced, read_events
from hpcxpcs.runs.plan import CAMPAIGN, TASK_FOLDERS, Task, longest_first, new_task
from hpcxpcs.runs.run import Run, State, is_done, read_failures, share_left, state_of, touched
from hpcxpcs.runs.sealed import peek

COMPLETE_FILE = "complete.json"
"""Says that the results of a run are written, and how it ended."""

EVENT_BYTES = 1_000_000
"""Of the newest events that are read: hours of a large run, in a few hundredths of a second."""

RATE_SECONDS = 600.0
"""Of the most recent work that the speed is taken from."""

CAUSE_LINES = 3


@dataclass(frozen=True)
class Failure:
    """The last failed attempt at a task: how many there were, its cause and the end of its details."""

    attempts: int
    cause: str
    lines: tuple[str, ...]
    ts: str


@dataclass(frozen=True)
class TaskStatus:
    """One task: steps `done` of `total` (None when not begun), who has it, seconds since its last sign of life.

    `lost` says that the process which has it has died or fallen silent: the next process to look takes over. `quality`
    is that of the answer of a finished item.
    """

    name: str
    kind: str
    state: State
    done: int | None
    total: int | None
    holder: str | None
    silent_seconds: float | None
    lost: bool
    failure: Failure | None
    quality: str = ""


@dataclass(frozen=True)
class RunStatus:
    """A run: tasks by name, counts {kind: {state: tasks}}, steps, speed in steps per second, seconds to go."""

    folder: Path
    run_id: str
    method: str
    created: str
    tasks: tuple[TaskStatus, ...]
    counts: Mapping[str, Mapping[State, int]]
    steps_done: int
    steps_total: int | None
    steps_per_second: float | None
    eta_seconds: float | None
    last_event: str | None
    results: bool

    @property
    def state(self) -> State:
        """The state of the whole: failed only when nobody is at work on the rest."""
        states = {task.state for task in self.tasks}
        for state in ("running", "waiting", "failed"):
            if state in states:
                return state
        return "done"


def read_status(run: Run) -> RunStatus:
    """Read how far a run is; `run` was opened before, its plan never changes."""
    events = read_events(run.events, most_bytes=EVENT_BYTES)
    workers = introduced(events)
    planned = all_tasks(run)
    begun = touched(run, planned)
    tasks = tuple(_task_status(run, task, workers) if task.name in begun else _not_begun(task) for task in planned)
    rate = speed(events) if any(task.state == "running" for task in tasks) else None
    done, total = sum(task.done or 0 for task in tasks), _total(planned, tasks)
    return RunStatus(
        folder=run.folder,
        run_id=run.plan.run_id,
        method=run.plan.method,
        created=run.plan.created,
        tasks=tasks,
        counts=_counts(tasks),
        steps_done=done,
        steps_total=total,
        steps_per_second=rate,
        eta_seconds=None if not rate or total is None else max(0, total - done) / rate,
        last_event=events[-1]["ts"] if events else None,
        results=run.results.is_dir(),
    )


def all_tasks(run: Run) -> tuple[Task, ...]:
    """Return the tasks of the plan, and those added later, of which there are files or claims.

    Of a plan that shares nothing out, the preparation stands for the work that there is.
    """
    if run.plan.method == CAMPAIGN:
        return run.plan.tasks
    tasks = {task.name: task for task in run.plan.tasks or (new_task("prepare", 0),)}
    for kind, folder in TASK_FOLDERS.items():
        stems = [path.stem for path in _listed(run.folder / folder) if path.suffix == ".h5"]
        stems += [path.name.removeprefix(f"{kind}-") for path in _listed(run.claims)]
        for stem in sorted(stem for stem in stems if stem.isdigit()):
            task = new_task(kind, int(stem))
            tasks.setdefault(task.name, task)
    return tuple(tasks.values())


def speed(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Steps per second of all processes together over the last ten minutes of work; None when too little is known."""
    steps = [event for event in events if event["event"] == "progress" and "done" in event]
    if not steps:
        return None
    newest = max(_seconds(event) for event in steps)
    recent = [event for event in steps if newest - _seconds(event) <= RATE_SECONDS]
    span = newest - min(_seconds(event) for event in recent)
    gained = 0
    for _, group in itertools.groupby(sorted(recent, key=_whose), key=_whose):
        counts = [int(event["done"]) for event in sorted(group, key=_seconds)]
        gained += sum(max(0, after - before) for before, after in itertools.pairwise(counts))
    return gained / span if span > 0 and gained > 0 else None


def _whose(event: Mapping[str, Any]) -> tuple[str, str, int]:
    return str(event.get("task")), str(event.get("host")), int(event.get("pid", 0))


def _seconds(event: Mapping[str, Any]) -> float:
    return datetime.datetime.fromisoformat(str(event["ts"])).timestamp()


def _task_status(run: Run, task: Task, workers: Mapping[tuple[Any, Any], Mapping[str, Any]]) -> TaskStatus:
    header = peek(run.task_file(task))
    progress = {} if header is None else header.progress
    if run.plan.method == CAMPAIGN and is_done(run, header):
        quality = str(progress.get("quality", ""))
        return TaskStatus(task.name, task.kind, "done", 1, 1, None, None, lost=False, failure=None, quality=quality)
    state, held = state_of(run, task), holding(run.claims, task.name)
    return TaskStatus(
        name=task.name,
        kind=task.kind,
        state=state,
        done=_count(progress.get("done")),
        total=_count(progress.get("total")),
        holder=None if held is None else _holder(held, workers),
        silent_seconds=None if held is None else round(max(0.0, held.age), 1),
        lost=held is not None and not held.live and state != "done",
        failure=_failure(read_failures(run, task)),
        quality=str(progress.get("quality", "")),
    )


def _not_begun(task: Task) -> TaskStatus:
    return TaskStatus(task.name, task.kind, "waiting", None, None, None, None, lost=False, failure=None)


def _holder(held: Holding, workers: Mapping[tuple[Any, Any], Mapping[str, Any]]) -> str:
    owner = held.owner
    known = workers.get((owner.host, owner.pid))
    place = f"pid {owner.pid} on {owner.host}"
    return place if known is None else f"{known.get('name')} ({place})"


def _failure(found: Sequence[Mapping[str, Any]]) -> Failure | None:
    if not found:
        return None
    last = found[-1]
    lines = str(last.get("details") or "").rstrip().splitlines()[-CAUSE_LINES:]
    return Failure(len(found), str(last.get("cause")), tuple(lines), str(last.get("ts") or ""))


def _total(planned: Iterable[Task], tasks: Sequence[TaskStatus]) -> int | None:
    """Steps of all tasks; one that has not begun is taken to be as long as the average of its kind."""
    known: dict[str, list[int]] = {}
    for task in tasks:
        if task.total is not None:
            known.setdefault(task.kind, []).append(task.total)
    if not known:
        return None
    average = {kind: sum(totals) / len(totals) for kind, totals in known.items()}
    return round(sum(task.total or average.get(task.kind, 0.0) for task in tasks))


def _counts(tasks: Iterable[TaskStatus]) -> dict[str, dict[State, int]]:
    counts: dict[str, dict[State, int]] = {}
    for task in tasks:
        of_kind = counts.setdefault(task.kind, {"done": 0, "running": 0, "waiting": 0, "failed": 0})
        of_kind[task.state] += 1
    return counts


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except FileNotFoundError:
        return


@dataclass(frozen=True)
class Completed:
    """A run whose results are there: verdict in one word, why, and the exit code it ended with."""

    verdict: str
    words: str
    exit_code: int


def completed(run: Run) -> Completed | None:
    """How a run ended; None when its results are not written."""
    try:
        found = json_object((run.folder / COMPLETE_FILE).read_bytes())
    except OSError:
        return None
    if found is None or found.get("run_id") != run.plan.run_id:
        return None
    return Completed(str(found["verdict"]), str(found["words"]), int(found["exit_code"]))


def refuse_complete(run: Run) -> None:
    """Raise AlreadyComplete when nothing is left to do."""
    ended = completed(run)
    if ended is not None:
        raise AlreadyComplete(
            f"{run.folder}: complete ({ended.verdict}: {ended.words}); nothing is left to do. The report is "
            f"{report_of(run)}; hpcxpcs fit --fresh computes everything anew",
            ended.exit_code,
        )


def report_of(run: Run) -> Path:
    """The page that a finished run has for its reader."""
    return run.results / ("campaign.html" if run.plan.method == CAMPAIGN else "report.html")


def mark_complete(run: Run, verdict: str, words: str, exit_code: int) -> None:
    """Note that the results of a run are written."""
    record = {"run_id": run.plan.run_id, "verdict": verdict, "words": words, "exit_code": exit_code}
    write_json(run.folder / COMPLETE_FILE, record)
    append(run, "complete", verdict=verdict)


TELL_SECONDS = 5.0
"""Between two looks at the files of the tasks; the draws do not depend on whether anybody looks."""

MANY = {"shard": "shards", "exact": "chains", "check": "angle checks", "item": "items"}
"""What several tasks of a kind are called; there is one preparation, and no need to count it."""


def report_progress(
    run: Run, tell: Callable[[str], None], seconds: float = TELL_SECONDS
) -> AbstractContextManager[None]:
    """Inside this block, `tell` is called with a headline every few `seconds`."""

    def look() -> None:
        try:
            text = headline(read_status(run))
        except (HpcxpcsError, OSError):
            return  # a file system that answers later is no reason to disturb the work
        tell(text)

    return repeatedly(look, seconds, f"progress of {run.folder}")


@contextmanager
def repeatedly(act: Callable[[], None], seconds: float, name: str) -> Iterator[None]:
    """Inside this block, `act` is called every few `seconds`, from a thread of its own called `name`."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def headline(found: RunStatus) -> str:
    """One line: tasks by state, steps, speed and time to go, as far as they are known."""
    parts = [
        f"{states['done']} of {sum(states.values())} {MANY[kind]} done" + _others(states["running"], states["failed"])
        for kind, states in found.counts.items()
        if kind in MANY
    ]
    if found.steps_total:
        parts.append(f"{found.steps_done / found.steps_total:.0%} of all steps")
    if found.steps_per_second is not None:
        parts.append(f"{found.steps_per_second:.3g} steps/s")
    if found.eta_seconds is not None:
        parts.append(f"about {duration(found.eta_seconds)} to go")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _others(running: int, failed: int) -> str:
    words = [f"{count} {what}" for count, what in ((running, "running"), (failed, "failed")) if count]
    return f" ({', '.join(words)})" if words else ""


def open_tasks(run: Run, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks that are neither done nor given up, longest first, by what is left to do of each."""
    begun = touched(run, tasks)
    left = [task for task in tasks if task.name not in begun or state_of(run, task) not in ("done", "failed")]
    return longest_first(left, lambda task: task.cost * (share_left(run, task) if task.name in begun else 1.0))
