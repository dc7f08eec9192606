"""`hpcxpcs doctor`: check this machine and this installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs import __version__

if TYPE_CHECKING:
    from hpcxpcs.workers.checks import Check

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

EXAMPLES = """\
\b
Examples:
  hpcxpcs doctor
  hpcxpcs doctor --dir /scratch/me/runs
  hpcxpcs doctor --json > doctor.json      (attach this to a bug report)
  srun -n 4 hpcxpcs doctor --site          (in a job: ranks, their cores, saving and taking over)
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="current folder",
    help="Folder in which to try HDF5 files and their locks.",
)
@click.option(
    "--site",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Check this node for the site of that name too, by default the one that is recognised.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.pass_context
def command(context: click.Context, folder: Path, site: str | None, as_json: bool) -> None:
    """Check Python, packages, memory, cores, file locking, compile cache, JAX and MPI.

    With --site, also the scheduler's programs, whether this node is as the site file says, and that a file can be
    saved and a task be taken over; under a launcher, that ranks find each other and have cores of their own.

    Each line says ok, warn or fail, what was found and what to do. The exit code is 1 when something fails.
    """
    checks = []
    for check in _checks(folder, site):
        checks.append(check)
        if not as_json:
            click.echo(_line(check))
    healthy = all(check.status != "fail" for check in checks)
    if as_json and checks:
        content = {"schema_version": 1, "hpcxpcs": __version__, "ok": healthy}
        click.echo(json.dumps({**content, "checks": [asdict(check) for check in checks]}, indent=2))
    context.exit(0 if healthy else 1)


def _checks(folder: Path, site: str | None) -> Iterator[Check]:
    """All checks; of the ranks of an MPI job, the first one alone has some."""
    from hpcxpcs.workers.checks import examine

    if site is None:
        yield from examine(folder)
        return
    from hpcxpcs.config.site import find_site
    from hpcxpcs.workers.site_checks import examine_site, look_around

    chosen = find_site(site or None)
    ranks = look_around(folder)
    if ranks is not None:
        yield from examine(folder)
        yield from examine_site(chosen, ranks, folder)


def _line(check: Check) -> str:
    status = click.style(f"{check.status:<5}", fg=COLOURS[check.status])
    line = f"{status} {check.name:<14} {check.found}"
    return f"{line}\n{'':20} -> {check.remedy}" if check.remedy else line
