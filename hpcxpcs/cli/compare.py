"""`hpcxpcs compare`: which of several models the data speak for."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\
\b
Examples:
  hpcxpcs compare runs/static runs/shear
  hpcxpcs compare runs/static runs/shear --json

\b
Exit codes:
  0 done   1 a run has no evidence   2 usage, or runs that cannot be compared   3 done, but not to be quoted as it is
"""


@click.command(epilog=EXAMPLES)
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, runs: tuple[Path, ...], as_json: bool) -> None:
    """Compare models that were fitted to the same data by their evidence, the best first.

    The evidence is the probability of the data, averaged over the prior: it rewards a model that fits, and charges for
    every parameter that need not have been free. Posteriors of the methods importance, cmc and exact have it. Runs of
    other data, frames, noise treatment or scaling are refused with the reason.
    """
    from hpcxpcs.results.ranking import doubtful, ranked

    if len(set(runs)) < 2:
        raise click.UsageError("a comparison needs two runs at least, each named once")
    found = ranked(list(dict.fromkeys(runs)))
    if as_json:
        from hpcxpcs.files.json_safe import dumps

        click.echo(dumps(found.record()))
    else:
        click.echo(found.text)
    context.exit(3 if doubtful(found) else 0)
