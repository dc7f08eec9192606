"""`hpcxpcs config sites`: which computing centres are described, and which of them is meant here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hpcxpcs.config.site import NodeType, Queue, Site
    from hpcxpcs.config.site_files import ChosenSite

EXAMPLES = """\
\b
Examples:
  hpcxpcs config sites
  hpcxpcs config sites alcf-polaris
"""


@click.command(epilog=EXAMPLES)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the sites that are described, and say which one is meant here and why; or show the one of NAME (or file).

    A site is what `hpcxpcs submit` knows of a machine: its scheduler, queues, nodes and launcher. Files of your own in
    ~/.config/hpcxpcs/sites come before those that are shipped.
    """
    from hpcxpcs.config.site_files import find_site, load_site, site_files

    if name is not None:
        lines = [*_details(load_site(name))]
    else:
        lines = [*_listed([load_site(path) for path in site_files().values()]), "", _meant(find_site())]
    for line in lines:
        click.echo(line)


def _listed(sites: Sequence[Site]) -> Iterator[str]:
    """One aligned line per site."""
    from hpcxpcs.config.site_files import shipped_folder

    rows = [("site", "scheduler", "queues", "from", "what")]
    for site in sorted(sites, key=lambda site: site.name):
        shipped = site.source is not None and site.source.parent == shipped_folder()
        origin = "shipped" if shipped else "yours"
        rows.append((site.name, site.scheduler, str(len(site.queues) or "-"), origin, site.description))
    yield from _aligned(rows)


def _meant(chosen: ChosenSite) -> str:
    return f"here: {chosen.site.name} ({chosen.why})"


def _details(site: Site) -> Iterator[str]:
    """Everything about one site that decides how a job is submitted."""
    account = "required" if site.account.required else "not required"
    if site.account.default:
        account = f"{site.account.default} unless another is named"
    yield f"site       {site.name}: {site.description}"
    yield f"file       {site.source}"
    yield f"scheduler  {site.scheduler}"
    yield f"account    {account}"
    for name, node in site.nodes.items():
        yield f"node       {name}: {_node(node)}"
    for title, words in (("launcher", site.launcher), ("scratch", (site.scratch or "",))):
        if any(words):
            yield f"{title:<10} {' '.join(words)}"
    for title, lines in (
        ("directive", site.directives),
        ("setup", site.setup_lines),
        ("source", site.sources),
    ):
        yield from (f"{title:<10} {line}" for line in lines)
    if site.queues:
        yield ""
        yield from _aligned([("queue", "node", "nodes", "time", "notes"), *_queues(site)])


def _node(node: NodeType) -> str:
    parts = [f"{node.cores} cores"]
    if node.smt > 1:
        parts.append(f"{node.smt} threads each")
    if node.numa_nodes is not None:
        parts.append(f"{node.numa_nodes} NUMA nodes")
    if node.memory is not None:
        parts.append(f"{node.memory / 1024**3:.4g} GiB")
    return ", ".join(parts)


def _queues(site: Site) -> Iterator[tuple[str, ...]]:
    from hpcxpcs.config.site import walltime_text

    for name, queue in site.queues.items():
        most = "..." if queue.max_nodes is None else str(queue.max_nodes)
        longest = "-" if queue.max_walltime is None else walltime_text(queue.max_walltime)
        yield name, queue.node or "-", f"{queue.min_nodes}-{most}", longest, _notes(site, name, queue)


def _notes(site: Site, name: str, queue: Queue) -> str:
    """What limits and rules besides size and time there are, in words."""
    from hpcxpcs.config.site import walltime_text

    parts = ["usual"] if name == site.default_queue else []
    parts += ["usual for arrays"] if name == site.array_queue else []
    parts += ["whole nodes"] if queue.exclusive else []
    parts += [] if queue.array else ["no arrays"]
    parts += [] if queue.automatic else ["only when named"]
    for step in queue.walltime_by_nodes:
        parts.append(f"{walltime_text(step.max_walltime)} up to {step.max_nodes} nodes")
    parts += [f"at most {queue.max_running} running"] if queue.max_running is not None else []
    parts += [f"at most {queue.max_queued} queued"] if queue.max_queued is not None else []
    parts += [queue.notes] if queue.notes else []
    return "; ".join(parts)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
