"""Campaigns at the command line: what would be fitted, the table of a run, and the report of one of its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import Session, aligned, log_level_option, run_argument, session, set_option, settings_given

if TYPE_CHECKING:
    from hpcxpcs.answer.campaign import ItemRow
    from hpcxpcs.config import Config
    from hpcxpcs.pipeline.campaign import CampaignRun
    from hpcxpcs.runs.run import Run
    from hpcxpcs.runs.status import RunStatus

MOST_ITEMS = 40
"""Items that are listed one by one before anything is computed."""

MOST_WORST = 12
"""Items that failed or must not be quoted which are named at the end."""

MANIFEST_EXAMPLES = """\
\b
Examples:
  hpcxpcs campaign manifest campaign.yaml > manifest.csv
  hpcxpcs campaign config runs/campaign A001_q0.0054 > one.yaml
"""

REPORT_EXAMPLES = """\
\b
Examples:
  hpcxpcs report runs/campaign
  hpcxpcs report runs/campaign --item A001_q0.0054 --item 17
"""


@click.group(epilog=MANIFEST_EXAMPLES)
def campaign() -> None:
    """List the items of a campaign, and show what single fit an item is."""


@campaign.command()
@click.argument("config", type=click.Path(path_type=Path))
@set_option
def manifest(config: Path, overrides: tuple[str, ...]) -> None:
    """Print the items of the campaign CONFIG as a table, to be edited and named in campaign.files: {manifest: FILE}."""
    from hpcxpcs.pipeline.items import manifest_text, single_items

    settings = settings_given(config, overrides)
    _require_campaign(config, settings)
    click.echo(manifest_text(*single_items(settings)), nl=False)


@campaign.command(name="config")
@run_argument
@click.argument("item")
def item_config(run: Path, item: str) -> None:
    """Print the configuration of a single fit that is ITEM (its name or number) of the campaign in the folder RUN."""
    import yaml

    from hpcxpcs.config import config_from_mapping
    from hpcxpcs.pipeline.campaign import find_item
    from hpcxpcs.pipeline.items import item_from_record
    from hpcxpcs.runs.run import Run

    opened = _opened(Run.open(run))
    found = item_from_record(opened.plan.extra["items"][find_item(opened, item).index])
    variants = [config_from_mapping(dict(settings)) for settings in opened.plan.extra["variants"]]
    click.echo(yaml.safe_dump(found.configure(variants).to_mapping(), sort_keys=False, allow_unicode=True), nl=False)


@click.command(epilog=REPORT_EXAMPLES)
@run_argument
@click.option("--item", "items", multiple=True, help="Write the report of this item, by name or number, too.")
@log_level_option
def report(run: Path, items: tuple[str, ...], log_level: str | None) -> None:
    """Write the table of the campaign in the folder RUN again, as far as it is, and the reports of items.

    Nothing is fitted: reports are drawn from the answers that are kept, and from the data.
    """
    from hpcxpcs.pipeline.campaign import find_item, read_table
    from hpcxpcs.results.campaign import write_campaign
    from hpcxpcs.runs.run import Run

    opened = _opened(Run.open(run))
    chosen = [find_item(opened, name) for name in items]
    with session("report", log_level) as current:
        for task in chosen:
            from hpcxpcs.pipeline.item_fit import restored, write_report

            name = opened.plan.extra["items"][task.index]["name"]
            current.reporter.phase(f"drawing {name}")
            found = restored(opened, task.index, current.reporter)
            place = write_report(opened, task.index, found, current.reporter)
            current.console.clear()
            click.echo(f"report   {place}")
        for path in write_campaign(opened.results, read_table(opened)):
            current.console.clear()
            click.echo(f"wrote    {path}")


def status_lines(run: Run, found: RunStatus) -> Iterator[str]:
    """How far a campaign is, group by group with the qualities of its answers, and why items failed."""
    from hpcxpcs.pipeline.item_rows import read_row
    from hpcxpcs.runs.sealed import peek

    records, names = run.plan.extra["items"], run.plan.extra["groups"]
    groups: dict[str, Counter[str]] = {}
    tasks = list(zip(run.plan.tasks, found.tasks, strict=True))
    for task, seen in tasks:
        labels = records[task.index]["labels"]
        group = ", ".join(f"{name} {labels.get(name, 'unknown')}" for name in names)
        groups.setdefault(group, Counter())[seen.quality if seen.state == "done" else seen.state] += 1
    for group, counts in groups.items():
        said = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        yield f"{'group' if group else 'answers':<9}{group + ': ' if group else ''}{said}"
    refused = [task for task, seen in tasks if seen.state == "failed" and seen.failure is None]
    for task in refused[:MOST_WORST]:
        if peek(run.task_file(task)) is not None:
            yield f"{'failed':<9}{records[task.index]['name']}: {read_row(run, task).reason}"
    if len(refused) > MOST_WORST:
        yield f"{'':<9}… and {len(refused) - MOST_WORST} more; the table has all"


def _require_campaign(config: Path, settings: Config) -> None:
    if settings.campaign is None:
        raise click.UsageError(f"{config} has no section campaign: it is one fit, not a campaign")


def _opened(run: Run) -> Run:
    """The run itself if it is a campaign."""
    from hpcxpcs.runs.plan import CAMPAIGN

    if run.plan.method != CAMPAIGN:
        raise click.UsageError(f"{run.folder} is one fit (method {run.plan.method}): its report is in {run.results}")
    return run


def show_items(settings: Config, folder: Path | None) -> None:
    """Print what a campaign would fit, and roughly how long that takes; nothing is written."""
    from hpcxpcs.pipeline.campaign import seconds_of
    from hpcxpcs.pipeline.items import items_of
    from hpcxpcs.pipeline.settings import run_folder
    from hpcxpcs.runs.status import duration

    settled, items = items_of(settings)
    of_g2 = settled.campaign is not None and settled.campaign.analysis == "g2"
    method = settled.g2.method if of_g2 else settled.optimization.method
    labels = list(dict.fromkeys(name for item in items for name in item.labels))
    rows = [["item", *labels, "file", *([] if of_g2 else ["pairs"])]]
    for item in items[:MOST_ITEMS]:
        pairs = f"{item.cost:.3g}" if item.cost else "cannot be read"
        size = [] if of_g2 else [pairs]
        rows.append([item.name, *(str(item.labels.get(name, "")) for name in labels), item.file.name, *size])
    click.echo("\n".join(aligned(rows)))
    if len(items) > MOST_ITEMS:
        click.echo(f"… and {len(items) - MOST_ITEMS} more ('hpcxpcs campaign manifest' lists all)")
    unread = sorted({str(item.file) for item in items if not item.cost})
    for path in unread[:MOST_WORST]:
        click.echo(f"careful  {path} cannot be read: its items will fail")
    total = sum(seconds_of(item, settled.optimization.method) for item in items)
    files = len({file for item in items for file in (item.file, *(one.file for one in item.members))})
    click.echo(f"\n{len(items)} items of {files} files, {len(settled.variants)} variants, method {method}")
    click.echo(f"about {duration(total)} of one core in all; the run would be {folder or run_folder(settled)}")


def find_and_print(
    current: Session,
    settings: Config,
    *,
    run: Path | None,
    fresh: bool,
    changed: bool,
    watch: float | None,
    time_limit: float | None,
    workers: int | None,
) -> int:
    """Begin or continue a campaign with the crew, and print what came of it; the exit code on all ranks."""
    from hpcxpcs.pipeline.campaign import run_campaign

    def find(**how: object) -> CampaignRun:
        return run_campaign(settings, run=run, fresh=fresh, changed=changed, watch=watch, **how)  # type: ignore[arg-type]

    return _with_crew(current, settings, find, time_limit, workers)


def finish_and_print(
    current: Session, run: Run, *, time_limit: float | None, workers: int | None, gather_only: bool
) -> int:
    """Finish a campaign that was begun, or only write its table, and print what came of it."""
    from hpcxpcs.pipeline.campaign import config_of_campaign, find_table

    def find(**how: object) -> CampaignRun:
        return find_table(run, gather_only=gather_only, **how)  # type: ignore[arg-type]

    return _with_crew(current, config_of_campaign(run), find, time_limit, workers)


def _with_crew(current: Session, settings: Config, find, time_limit: float | None, workers: int | None) -> int:  # type: ignore[no-untyped-def]
    from hpcxpcs.errors import AlreadyComplete
    from hpcxpcs.pipeline.crew import crew
    from hpcxpcs.workers.mpi import as_rank_0_has_it

    current.log.follow(settings.logging)
    code = 0
    with crew(settings, time_limit, current.reporter, workers) as executor:
        if executor is not None:
            try:
                found = find(executor=executor, reporter=current.reporter)
            except AlreadyComplete as complete:
                current.console.clear()
                click.echo(f"hpcxpcs: {complete}")
                code = complete.exit_code
            else:
                current.console.clear()
                click.echo("\n".join(_summary(found)))
                code = found.exit_code
    return as_rank_0_has_it(code)


def _summary(found: CampaignRun) -> Iterator[str]:
    """How a campaign ended: counts, the items to look at, and where everything is."""
    rows = found.table.rows
    states, qualities = Counter(row.state for row in rows), Counter(row.quality for row in rows if row.quality)
    said = ", ".join(f"{count} {word}" for word, count in qualities.most_common())
    failed = f", {states['failed']} failed" if states["failed"] else ""
    yield f"items    {len(rows)}: {states['done']} done ({said}){failed}"
    worst = [row for row in rows if row.state == "failed" or row.quality == "poor"]
    for row in worst[:MOST_WORST]:
        yield f"careful  {row.name}: {_why(row)}"
    if len(worst) > MOST_WORST:
        yield f"careful  … and {len(worst) - MOST_WORST} more"
    for path in found.files:
        yield f"wrote    {path}"


def _why(row: ItemRow) -> str:
    return row.reason if row.state == "failed" else row.verdict
