"""`hpcxpcs doctor`: check this machine and this installation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs import __version__

if TYPE_CHECKING:
    from hpcxpcs.runtime.checks import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

EXAMPLES = """\
\b
Examples:
  hpcxpcs doctor
  hpcxpcs doctor --dir /scratch/me/runs
  hpcxpcs doctor --json > doctor.json      (attach this to a bug report)
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.pass_context
def command(context: click.Context, folder: Path, as_json: bool) -> None:
    """Check Python, packages, memory, cores, file locking, compile cache, JAX and MPI.

    Each line says ok, warn or fail, what was found and what to do. The exit code is 1 when something fails.
    """
    from hpcxpcs.runtime.checks import examine

    findings = []
    for finding in examine(folder):
        findings.append(finding)
        if not as_json:
            click.echo(_line(finding))
    healthy = all(finding.status != "fail" for finding in findings)
    if as_json:
        click.echo(_document(findings, healthy))
    context.exit(0 if healthy else 1)


def _line(finding: Finding) -> str:
    status = click.style(f"{finding.status:<5}", fg=COLOURS[finding.status])
    line = f"{status} {finding.name:<14} {finding.found}"
    return f"{line}\n{'':20} -> {finding.remedy}" if finding.remedy else line


def _document(findings: list[Finding], healthy: bool) -> str:
    checks = [asdict(finding) for finding in findings]
    return json.dumps(
        {"schema_version": 1, "hpcxpcs": __version__, "ok": healthy, "checks": checks}, indent=2
    )
