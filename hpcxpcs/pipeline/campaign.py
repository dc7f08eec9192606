"""Campaigns: a run whose tasks are whole fits. It begins, grows with new files, and becomes one table."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcxpcs import __version__
from hpcxpcs.answer.campaign import CampaignTable, ItemRow
from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.errors import FINISHED_BUT_DOUBTFUL, PlanMismatch, Stopped, StoreError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.inference.stream import STREAM_VERSION
from hpcxpcs.log.process import log_into, process_log
from hpcxpcs.pipeline.item_rows import read_row
from hpcxpcs.pipeline.items import Item, digest_of, item_from_record, items_of, recorded_item
from hpcxpcs.pipeline.plan import NOT_COMPARED, start_over, versions
from hpcxpcs.pipeline.reporter import LoggingReporter, Reporter, Silent, logged
from hpcxpcs.pipeline.settings import run_folder
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.plan import CAMPAIGN, Plan, Task, differing, new_run_id, new_task
from hpcxpcs.runs.run import PLAN_FILE, Run, State, forget_failures, read_failures, state_of, states_of
from hpcxpcs.runs.status import COMPLETE_FILE, mark_complete, open_tasks, refuse_complete, report_progress
from hpcxpcs.workers.mpi import Executor

GROWTH = "growth"
"""Name of the claim on adding items."""

FIXED_COST = 7.0e6
"""Pairs of frames that take as long as what every fit does besides: 2.0 s and 0.3 s per million pairs (a point fit of
18 × 256² takes 2.2 CPU s, one of 23 × 1001² 5.6)."""

SECONDS_PER_PAIR = 0.3e-6
"""CPU seconds of one core per pair of frames, and per pair of FIXED_COST."""

SAMPLING = {"nlsq": 0.0, "importance": 4.0, "exact": 36.0, "cmc": 36.0}
"""CPU seconds of one core that draws and their check take by method, next to which the pairs hardly matter: 4.2 for
importance (12 × 400², compiling included), 36 and 38 for exact (23 × 1001² and 18 × 256²)."""


G2_SECONDS = 5.0
"""CPU seconds of a file of g2 with chains: 37 for 270 bins of 60 delays, 5 for the usual 36 bins."""


@dataclass(frozen=True)
class CampaignRun:
    """A campaign that has been written: its table, where that is, and how it ended."""

    table: CampaignTable
    results: Path
    files: tuple[Path, ...]
    exit_code: int


def seconds_of(item: Item, method: str) -> float:
    """Roughly the CPU seconds of one core that an item takes."""
    if item.analysis == "g2":
        return G2_SECONDS
    point = (item.cost + FIXED_COST) * SECONDS_PER_PAIR
    return point + SAMPLING[method]


def begin_campaign(
    folder: Path, config: Config, reporter: Reporter, *, fresh: bool = False, changed: bool = False, rested: float = 0.0
) -> Run:
    """Begin the campaign of a configuration in a folder, or go on with it and add the items that are new.

    Finished items stay. PlanMismatch names the first one whose file or settings are not those of its answer, unless
    `changed` has these computed anew. Files that were written in the last `rested` seconds are left for later: somebody
    may still be at it.
    """
    settled, items = items_of(config)
    if rested:
        items = [item for item in items if _age(item) >= rested]
    if fresh:
        start_over(folder)
    if not (folder / PLAN_FILE).exists():
        return Run.create(folder, _plan(settled, items, _empty(settled)))
    run = Run.open(folder)
    if run.plan.method != CAMPAIGN:
        raise PlanMismatch(
            f"{folder}: holds a run with method {run.plan.method}, not a campaign: choose another folder with --run, "
            "or discard that run with --fresh"
        )
    claim = take(run.claims, GROWTH)
    if claim is None:
        raise StoreError(f"{folder}: another process adds items at this moment: run the same command again")
    try:
        return _grown(Run.open(folder), settled, items, reporter, changed=changed)
    finally:
        claim.release()


def _age(item: Item) -> float:
    """Seconds since the newest file of an item was written."""
    return time.time() - 1e-9 * max(stamp[1] for stamp in (item.stamp, *(one.stamp for one in item.members)))


def planned(folder: Path, config: Config) -> Run:
    """The run that `begin_campaign` would begin in a folder without one; nothing is written."""
    settled, items = items_of(config)
    return Run(folder, _plan(settled, items, _empty(settled)))


def _empty(config: Config) -> Plan:
    """A plan without items. What a campaign's items are made of is compared item by item, not as a whole."""
    assert config.campaign is not None
    written = {**config.written, **_sections(config)}
    return Plan(
        run_id=new_run_id(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        hpcxpcs_version=__version__,
        versions=versions(),
        stream_version=STREAM_VERSION,
        method=CAMPAIGN,
        config={},
        config_fingerprint="",
        data={"path": str(config.campaign.files), "fingerprint": ""},
        seed=0,
        shards={},
        chains=0,
        tasks=(),
        extra={"config": written, "base": str(config.base), "variants": [], "items": [], "groups": []},
    )


def _sections(config: Config) -> dict[str, Any]:
    """The sections that steer the run and no answer, with all their keys."""
    settings = config.to_mapping()
    return {name: settings[name] for name in ("runtime", "output", "logging")}


def _plan(config: Config, items: Sequence[Item], before: Plan) -> Plan:
    """The plan with these items: those it knows keep their numbers, and what is no longer asked for is left out."""
    assert config.campaign is not None
    variants = list(before.extra["variants"])
    settings = [one.to_mapping() for one in config.variants]
    places = []
    for one in settings:
        if one not in variants:
            variants.append(one)
        places.append(variants.index(one))
    compared = [_compared(one) for one in settings]
    records = [dict(record) for record in before.extra["items"]]
    known = {record["name"]: index for index, record in enumerate(records)}
    asked = {}
    for item in items:
        record = recorded_item(replace(item, variant=places[item.variant]), digest_of(item, compared[item.variant]))
        index = known.get(item.name, len(records))
        if index == len(records):
            records.append(record)
        records[index] = record
        asked[index] = float(item.cost + FIXED_COST)
    done = {task.index: task.cost for task in before.tasks if task.index not in asked}
    tasks = tuple(new_task("item", index, cost) for index, cost in sorted((asked | done).items()))
    extra = {
        **before.extra,
        "config": {**config.written, **_sections(config)},
        "base": str(config.base),
        "variants": variants,
        "items": records,
        "groups": list(config.campaign.group_by),
    }
    return replace(before, tasks=tasks, extra=extra)


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a variant's settings decides an answer; preparation of the data does."""
    left_out = NOT_COMPARED - {"quality_control", "preprocessing"}
    return {key: value for key, value in settings.items() if key not in left_out and (key, value) != ("joint", None)}


def _grown(run: Run, config: Config, items: Sequence[Item], reporter: Reporter, *, changed: bool) -> Run:
    """The run with the items that are asked for now."""
    states = states_of(run, run.plan.tasks)
    kept = replace(run.plan, tasks=tuple(task for task in run.plan.tasks if states[task.name] in ("done", "failed")))
    plan = _plan(config, items, kept)
    before = {record["name"]: record for record in run.plan.extra["items"]}
    planned_before = {task.index for task in run.plan.tasks}
    other, new = [], 0
    for task in plan.tasks:
        record = plan.extra["items"][task.index]
        known = before.get(record["name"]) if task.index in planned_before else None
        new += known is None
        if known is not None and known["digest"] != record["digest"]:
            other.append((task, known, record))
    finished = [one for one in other if state_of(run, one[0]) == "done"]
    if finished and not changed:
        task, known, record = finished[0]
        more = f" (and {len(finished) - 1} more)" if len(finished) > 1 else ""
        raise PlanMismatch(
            f"{run.folder}: item {record['name']}{more} was computed with something else: "
            f"{_difference(run.plan, known, plan, record)}: --changed computes such items anew, and what they gave "
            "before is lost; another folder (--run) keeps both"
        )
    for task, _, _ in other:
        _forget(run, task)
    if plan.tasks != run.plan.tasks or plan.extra != run.plan.extra:
        atomic_write_text(run.folder / PLAN_FILE, plan.text())
    if new or other:
        (run.folder / COMPLETE_FILE).unlink(missing_ok=True)
    done = sum(state == "done" for state in states_of(run, plan.tasks).values())
    reporter.phase(
        f"continuing {run.folder}: {done} of {len(plan.tasks)} items are done"
        + (f", {new} are new" if new else "")
        + (f", {len(other)} are computed anew" if other else "")
    )
    return Run(run.folder, plan)


def _difference(old: Plan, known: Mapping[str, Any], new: Plan, record: Mapping[str, Any]) -> str:
    """The first thing that differs between two records of an item, in words."""
    was_set, is_set = (_compared(plan.extra["variants"][one["variant"]]) for plan, one in ((old, known), (new, record)))
    for key, was, now in differing(was_set, is_set):
        return f"the setting {key} was {was}, is {now}"
    for key in ("file", "q", "frames", "free"):
        if known.get(key) != record.get(key):
            return f"its {key} was {known.get(key)}, is {record.get(key)}"
    was_members, is_members = ({file for file, *_ in one.get("members", ())} for one in (known, record))
    if was_members != is_members:
        return f"it pooled {len(was_members) or 1} files, and pools {len(is_members) or 1} now"
    return f"{record['file']} has changed since (size or time of writing)"


def _forget(run: Run, task: Task) -> None:
    """Remove what is kept of an item, its checkpoints too."""
    file = run.task_file(task)
    with writing(file):
        for path in file.parent.glob(f"{file.stem}.*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    forget_failures(run, task)


def retry_failed(run: Run) -> int:
    """Let all items that failed be tried again; how many these are."""
    states = states_of(run, run.plan.tasks)
    failed = [task for task in run.plan.tasks if states[task.name] == "failed"]
    for task in failed:
        _forget(run, task)
    if failed:
        (run.folder / COMPLETE_FILE).unlink(missing_ok=True)
    return len(failed)


def find_table(run: Run, executor: Executor, reporter: LoggingReporter, *, gather_only: bool = False) -> CampaignRun:
    """Fit what is open of a campaign, or only gather, and write its table; Stopped when not all is done.

    A table is written in any case: what is not done has a row that says so.
    """
    from hpcxpcs.results.campaign import write_campaign  # it imports JAX: not before this process has its cores

    log_into(run)
    if not gather_only:
        refuse_complete(run)
        left = len(open_tasks(run, run.plan.tasks))
        if left:
            reporter.phase(f"fitting {left} items with {min(executor.workers, left)} workers")
        with report_progress(run, reporter.detail):
            report = executor.run_tasks(run, run.plan.tasks)
    reporter.phase("writing the table")
    table = read_table(run)
    files = write_campaign(run.results, table)
    states = Counter(row.state for row in table.rows)
    missing = states["waiting"] + states["running"]
    if missing:
        why = report.stopped if not gather_only and report.stopped else f"{missing} items are not done"
        raise Stopped(
            f"{run.folder}: stopped with everything saved, {states['done']} of {len(table.rows)} items done ({why}); "
            f"the table is in {run.results}; run the same command again"
        )
    poor = sum(row.quality == "poor" for row in table.rows)
    code = FINISHED_BUT_DOUBTFUL if poor or states["failed"] else 0
    words = f"{states['done']} items done, {states['failed']} failed, {poor} not to be quoted"
    mark_complete(run, "complete", words, code)
    return CampaignRun(table, run.results, files, code)


def read_table(run: Run) -> CampaignTable:
    """The table of a campaign as far as it is."""
    states = states_of(run, run.plan.tasks)
    rows = tuple(_row(run, task, states[task.name]) for task in run.plan.tasks)
    labels = tuple(dict.fromkeys(name for row in rows for name in row.labels))
    return CampaignTable(
        name=run.folder.name,
        run_id=run.plan.run_id,
        created=run.plan.created,
        labels=labels,
        group_by=tuple(run.plan.extra["groups"]),
        rows=rows,
        settings=run.plan.extra["config"],
    )


def _row(run: Run, task: Task, state: State) -> ItemRow:
    item = item_from_record(run.plan.extra["items"][task.index])
    if state in ("done", "failed") and run.task_file(task).exists():
        return replace(read_row(run, task), labels=item.labels)
    settings = run.plan.extra["variants"][item.variant]
    failures = read_failures(run, task) if state == "failed" else ()
    return ItemRow(
        index=task.index,
        name=item.name,
        labels=item.labels,
        file=str(item.file),
        model=settings["analysis_mode"] if item.analysis == "twotime" else settings["g2"]["model"],
        method=settings["optimization"]["method"] if item.analysis == "twotime" else settings["g2"]["method"],
        state=state,
        reason=f"given up after {len(failures)} attempts: {failures[-1]['cause']}" if failures else "",
    )


def config_of_campaign(run: Run) -> Config:
    """The configuration that a campaign was started with."""
    return config_from_mapping(dict(run.plan.extra["config"]), Path(run.plan.extra["base"]))


def find_item(run: Run, name: str) -> Task:
    """The item of a name or a number; StoreError when there is none."""
    records = run.plan.extra["items"]
    for task in run.plan.tasks:
        if name in (str(task.index), records[task.index]["name"]):
            return task
    near = [records[task.index]["name"] for task in run.plan.tasks if name in records[task.index]["name"]]
    hint = f"; there are {', '.join(near[:4])}" if near else f"; they are numbered from 0 to {len(records) - 1}"
    raise StoreError(f"{run.folder}: has no item {json.dumps(name)}{hint}")


def run_campaign(
    config: Config,
    *,
    run: Path | None = None,
    executor: Executor,
    reporter: LoggingReporter,
    fresh: bool = False,
    changed: bool = False,
    watch: float | None = None,
) -> CampaignRun:
    """Begin or continue the campaign of a configuration, do what is open, and write its table.

    With `watch` (s), look for new files that often afterwards, and fit these, until the executor is asked to stop.
    """
    folder = run_folder(config) if run is None else run
    with process_log("lead") as log, logged(reporter) as teller:
        log.follow(config.logging)
        rested = 0.0 if watch is None else RESTED
        begun = begin_campaign(folder, config, teller, fresh=fresh, changed=changed, rested=rested)
        if watch is None:
            return find_table(begun, executor, teller)
        found = find_table(begun, executor, teller, gather_only=not open_tasks(begun, begun.plan.tasks))
        teller.phase(f"{len(found.table.rows)} items are done; looking for new files every {watch:g} s until stopped")
        while _waited(watch, executor):
            begun = begin_campaign(folder, config, LoggingReporter(Silent()), changed=changed, rested=rested)
            if open_tasks(begun, begun.plan.tasks):
                found = find_table(begun, executor, teller)
                teller.phase(f"{len(found.table.rows)} items are done; looking for new files every {watch:g} s")
        return found


RESTED = 10.0
"""Seconds that a file must have been left alone before it is fitted while files are still coming."""

LOOK_SECONDS = 0.5
"""Between two looks at whether to stop waiting."""


def _waited(seconds: float, executor: Executor) -> bool:
    """Wait; False when the executor was asked to stop meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if executor.stop.should_stop() is not None:
            return False
        time.sleep(min(LOOK_SECONDS, seconds))
    return True
