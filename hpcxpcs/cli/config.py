"""`hpcxpcs config`: make, check, translate and describe configuration files, and the sites they may name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcxpcs.cli.session import aligned, set_option
from hpcxpcs.errors import ConfigError, HpcxpcsError, OutputError

if TYPE_CHECKING:
    from hpcxpcs.config import Config, DataScale, ParameterChoice, ResolvedParameter
    from hpcxpcs.config.site import NodeType, Queue, Site

EXAMPLES = """\
\b
Examples:
  hpcxpcs config new laminar_flow -o config.yaml
  hpcxpcs config check config.yaml
  hpcxpcs config migrate old.yaml -o new.yaml
  hpcxpcs config sites
"""


force_option = click.option("--force", is_flag=True, help="Replace the file when it exists.")


def output_option(help_text: str) -> Callable[..., Any]:
    """The option -o, a file."""
    return click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help=help_text)


@click.group(name="config", epilog=EXAMPLES)
def command() -> None:
    """Make, check and describe configuration files."""


@command.command(epilog="\b\nExample:\n  hpcxpcs config new two_component -o config.yaml")
@click.argument("model")
@output_option("File to write; without it, print.")
@force_option
def new(model: str, output: Path | None, force: bool) -> None:
    """Print or write a commented configuration for MODEL.

    MODEL is static, laminar_flow, two_component, static_ref or static_both. With -o, the JSON Schema that
    editors use is written beside the file.
    """
    from hpcxpcs.config.template import SCHEMA_FILE_NAME, template

    _refuse_idle_force(output, force)
    text = template(model)
    if output is None:
        click.echo(text, nl=False)
        return
    _refuse_existing(output, force)
    _write(output, text)
    _write(output.with_name(SCHEMA_FILE_NAME), _schema_text())
    click.echo(f"wrote {output} and {output.with_name(SCHEMA_FILE_NAME)}")


@command.command(epilog="\b\nExample:\n  hpcxpcs config check config.yaml --set scaling.mode=individual")
@click.argument("file", type=click.Path(path_type=Path))
@set_option
def check(file: Path, overrides: tuple[str, ...]) -> None:
    """Show what FILE resolves to, of a campaign its items, or everything that is wrong with it."""
    from hpcxpcs.config import load_config

    config = load_config(file, overrides)
    if config.campaign is not None:
        from hpcxpcs.cli.campaign import show_items

        show_items(config, None)
        return
    for line in chain(_summary(config), [""], parameter_lines(config), _doubts(config)):
        click.echo(line)


@command.command(epilog="\b\nExample:\n  hpcxpcs config schema > hpcxpcs.schema.json")
def schema() -> None:
    """Print the JSON Schema of configuration files."""
    click.echo(_schema_text(), nl=False)


def _schema_text() -> str:
    import json

    from hpcxpcs.config import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _refuse_idle_force(output: Path | None, force: bool) -> None:
    if force and output is None:
        raise click.UsageError("--force replaces a file, and without -o none is written: name it with -o")


def _refuse_existing(output: Path | None, force: bool) -> None:
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output}: exists already; give --force to replace it")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


def _summary(config: Config) -> Iterator[str]:
    """One aligned line per subject: model, file, q, frames, angles, scaling, noise, fingerprint."""
    analyzer, filtering = config.analyzer_parameters, config.data_filtering
    missing = "" if os.path.isfile(config.data_file) else "   (not there)"  # noqa: PTH113
    last = "last" if analyzer.end_frame == -1 else str(analyzer.end_frame)
    words = {"auto": "from the file", "frames": "1 frame"}
    dt = words[analyzer.dt] if isinstance(analyzer.dt, str) else f"{analyzer.dt:g} s"
    angles = ", ".join(f"{allowed.min:g} ... {allowed.max:g}" for allowed in filtering.phi_ranges)
    q = analyzer.scattering.wavevector_q
    yield f"model        {config.analysis_mode}   (schema {config.schema_version})"
    yield f"file         {config.data_file}{missing}"
    yield (
        "q            unknown   (rates are q²D and q·v)"
        if q == "unknown"
        else (f"q            {q:g} 1/Å   (nearest bin within {100 * filtering.q_tolerance:g} %)")
    )
    yield f"frames       {analyzer.start_frame} ... {last}   (dt {dt})"
    yield f"angles       {angles} degrees"
    yield f"scaling      {config.scaling.mode}"
    yield f"noise        sigma {config.noise.sigma}, scale {config.noise.scale}"
    yield f"fingerprint  {config.fingerprint()}"


def _doubts(config: Config) -> Iterator[str]:
    """What is possible but hardly meant, a line each."""
    from hpcxpcs.config.plausible import check_config

    found = check_config(config)
    lines = [
        *(f"warning      {text}" for text in found.of("warning")),
        *(f"note         {text}" for text in found.of("info")),
    ]
    yield from ["", *lines] if lines else []


OPEN = "from the data"
"""Stands for a number that the data decide."""


def parameter_lines(config: Config) -> Iterator[str]:
    """The parameters as a fit of the configured data treats them, with what their scale makes doubtful.

    Without the data file, bounds and priors that it decides are left open; so they are when it cannot be read.
    """
    from hpcxpcs.config import parameter_choices, resolved_parameters
    from hpcxpcs.config.plausible import check_parameters
    from hpcxpcs.config.scale import OFFSET_REACH, OFFSET_SPREAD

    if not os.path.isfile(config.data_file):  # noqa: PTH113
        yield from parameter_table(parameter_choices(config))
        yield from ("", f"{OPEN}: from what their frames can show at their q; the file is not there yet")
        return
    try:
        scale = _scale(config)
    except HpcxpcsError as error:
        yield from parameter_table(parameter_choices(config))
        yield from ("", f"{OPEN}, which cannot be read: {error}")
        return
    parameters = resolved_parameters(config, scale)
    yield from parameter_table(parameters)
    yield ""
    slowest, fastest = (value * scale.factor("diffusion") for value in scale.visible("diffusion"))
    unit = "frame" if config.analyzer_parameters.dt == "frames" else "s"
    yield (
        f"data scale   times {scale.first:g} ... {scale.last:g} {unit}, step {scale.dt:g} {unit}: decay rates q²J of "
        f"{slowest:.3g} ... {fastest:.3g} 1/{unit} can be seen; what is not configured follows from that"
    )
    if any(item.parameter.kind == "offset" and item.fixed is None and not item.given for item in parameters):
        yield (
            f"offsets      these are outer limits: a fit allows {OFFSET_REACH:g} times the rate that it finds, and a "
            f"posterior expects {OFFSET_SPREAD:g} times"
        )
    yield from (f"warning      {text}" for text in check_parameters(parameters, scale).of("warning"))


def _scale(config: Config) -> DataScale:
    from hpcxpcs.data.select import load
    from hpcxpcs.pipeline.plan import scale_of

    return scale_of(config, load(config))


def parameter_table(parameters: Sequence[ParameterChoice | ResolvedParameter]) -> Iterator[str]:
    """The parameters as an aligned table."""
    return aligned([("parameter", "start", "bounds", "prior", "unit"), *map(_row, parameters)])


def _row(item: ParameterChoice | ResolvedParameter) -> tuple[str, str, str, str, str]:
    start = OPEN if item.start is None else f"{item.start:g}"
    bounds = f"{_number(item.lower)} ... {_number(item.upper)}"
    if item.lower is None and item.upper is None:
        bounds = OPEN
    prior = OPEN
    if item.prior is not None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in item.prior.values)
        prior = f"{item.prior.kind}({values})" if values else item.prior.kind
    if item.fixed is not None:
        start, bounds, prior = f"{item.fixed:g}", "fixed", "-"
    return item.parameter.name, start, bounds, prior, item.parameter.unit or "-"


def _number(value: float | None) -> str:
    return OPEN if value is None else f"{value:.4g}"


SITES_EXAMPLES = """\
\b
Examples:
  hpcxpcs config sites
  hpcxpcs config sites alcf-polaris
"""


@command.command(epilog=SITES_EXAMPLES)
@click.argument("name", required=False)
def sites(name: str | None) -> None:
    """List the sites that are described, and say which one is meant here and why; or show the one of NAME (or file).

    A site is what `hpcxpcs submit` knows of a machine: its scheduler, queues, nodes and launcher. Files of your own in
    ~/.config/hpcxpcs/sites come before those that are shipped.
    """
    from hpcxpcs.config.site import find_site, load_site, site_files

    if name is not None:
        click.echo("\n".join(_details(load_site(name))))
        return
    meant = find_site()
    listed = _listed([load_site(path) for path in site_files().values()])
    click.echo("\n".join([*listed, "", f"here: {meant.site.name} ({meant.why})"]))


def _listed(sites: Sequence[Site]) -> Iterator[str]:
    """One aligned line per site."""
    from hpcxpcs.config.site import shipped_folder

    rows = [("site", "scheduler", "queues", "from", "what")]
    for site in sorted(sites, key=lambda site: site.name):
        shipped = site.source is not None and site.source.parent == shipped_folder()
        origin = "shipped" if shipped else "yours"
        rows.append((site.name, site.scheduler, str(len(site.queues) or "-"), origin, site.description))
    yield from aligned(rows)


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
        yield from aligned([("queue", "node", "nodes", "time", "notes"), *_queues(site)])


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


MIGRATE_EXAMPLES = """\
\b
Examples:
  hpcxpcs config migrate old.yaml                      show what becomes of every key
  hpcxpcs config migrate old.yaml -o new.yaml          write it, too
  hpcxpcs config migrate --keys homodyne               what becomes of every key there ever was

\b
What becomes of a key:
  kept         name and meaning are ours
  renamed      the same under our name
  replaced by  the value is translated
  dropped      nothing of the kind is needed here, or nothing ever read it
  unknown      no key of that program

\b
In short:
  phi_filtering.target_ranges            data_filtering.phi_ranges
  optimization.nlsq...per_angle_mode     scaling.mode
  optimization.mcmc                      optimization.cmc.per_shard_mcmc
  parameters.GROUP.NAME                  initial_parameters and parameter_space.bounds
  parameter_space.bounds[].prior_mu      the same entry's prior
  the formula (shear law, sum, sign)     conventions
"""


@command.command(epilog=MIGRATE_EXAMPLES)
@click.argument("old", type=click.Path(path_type=Path), required=False)
@output_option("File to write; without it, only the table is shown.")
@click.option("--accept", is_flag=True, help="Leave behind what has no counterpart, although it changes the answer.")
@force_option
@click.option(
    "--from",
    "dialect",
    type=click.Choice(["homodyne", "heterodyne"]),
    help="Whose file it is, when it has no key that tells.",
)
@click.option("--keys", type=click.Choice(["homodyne", "heterodyne"]), help="Show the rules for all keys, and stop.")
def migrate(
    old: Path | None, output: Path | None, accept: bool, force: bool, dialect: str | None, keys: str | None
) -> None:
    """Translate OLD, a YAML or JSON configuration of homodyne or heterodyne, and account for every key.

    fit, submit and check read such files directly, in the same way.
    """
    from hpcxpcs.config.dialects import text
    from hpcxpcs.config.dialects.recognise import dialect_of
    from hpcxpcs.config.dialects.translate import from_old
    from hpcxpcs.config.document import read_document
    from hpcxpcs.config.load import validated

    _refuse_idle_force(output, force)
    if keys is not None:
        if old is not None or output is not None or accept or dialect is not None:
            raise click.UsageError("--keys shows rules and translates nothing: leave the file and other options out")
        click.echo("\n".join(text.rules(keys)))
        return
    if old is None:
        raise click.UsageError("give the file to translate, or --keys")
    _refuse_existing(output, force)
    document = read_document(old)
    dialect = dialect or dialect_of(document.data)
    if dialect is None:
        raise ConfigError(f"{old}: is no configuration of homodyne or heterodyne; --from says that it is one")
    folder = old.absolute().parent
    translation = from_old(document, folder, dialect, accept=True)
    click.echo("\n".join(text.table(translation)))
    click.echo(text.summary(translation))
    from_old(document, folder, dialect, accept=accept)
    validated(translation.document)
    if output is not None:
        _write(output, text.migrated(_seen_from(output, old, translation)))
        click.echo(f"wrote {output}")


def _seen_from(output: Path, old: Path, translation: Any) -> Any:
    """The translation with data paths that start at the folder of the new file."""
    source, target = old.absolute().parent, output.absolute().parent
    data = translation.document.data["experimental_data"]
    for key in ("file_path", "data_folder_path"):
        value = data.get(key)
        if source != target and value and not Path(value).expanduser().is_absolute():
            data[key] = os.path.relpath(source / value, target)
    return translation
