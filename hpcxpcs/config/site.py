"""Where descriptions of sites are, and which one describes the machine that this process runs on."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    StrictBool,
)

from hpcxpcs.config.document import Document, FileKind, read_document
from hpcxpcs.config.problems import KeyPath, Problem, config_error, suggestion
from hpcxpcs.config.section import Section, read_section
from hpcxpcs.config.values import MemorySize, Text, Whole
from hpcxpcs.errors import ConfigError

LAUNCHER_WORDS = ("mpiexec", "ranks", "ranks_per_node", "cores_per_rank", "cpus_per_rank", "nodes")
QUEUE_WORD = ("queue",)
MODULES_KNOWN = (
    "# shellcheck source=/dev/null",
    "type -t module > /dev/null || source /etc/profile || true   # not every job's shell knows modules",
)
"""Lines before the first module: the shell of a job need not be a login shell."""

_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")


def read_walltime(value: object) -> int:
    """Seconds of a time limit such as "72:00:00" or "3-00:00:00" (days, hours, minutes, seconds)."""
    found = _WALLTIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError('is not a time limit; write hours, minutes and seconds, for example "1:30:00"')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise ValueError("must be longer than 0:00:00")
    return total


def walltime_text(seconds: int) -> str:
    """A time limit in seconds as hours, minutes and seconds: 5400 gives "1:30:00"."""
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("is not a name; use letters, digits and . _ - + @, without blanks")
    return value


def _module(value: str) -> str:
    if not _MODULE.fullmatch(value):
        raise ValueError("is not the name of a module, such as gcc/13.2; give further commands under setup")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def _directive(value: str) -> str:
    if value.startswith("#"):
        raise ValueError("begins with #; leave out the prefix, for example: -l filesystems=home")
    return _line(value)


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return value


def _template(value: str, known: tuple[str, ...]) -> str:
    """Text whose placeholders are all known."""
    try:
        words = [word for _, word, _, _ in Formatter().parse(value) if word is not None]
    except ValueError as error:
        raise ValueError(f"has a brace without its partner ({error}); double a brace that is meant") from None
    for word in words:
        if word not in known:
            places = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"has the placeholder {{{word}}}; known: {places}{suggestion(word, known)}")
    return _line(value)


def _launcher_word(value: str) -> str:
    return _template(value, LAUNCHER_WORDS)


def _queue_directive(value: str) -> str:
    if "{queue}" not in value:
        raise ValueError("has no place for the queue; write {queue} there, for example --qos={queue}")
    return _template(_directive(value), QUEUE_WORD)


Name = Annotated[Text, AfterValidator(_name)]
Line = Annotated[Text, AfterValidator(_line)]
Directive = Annotated[Text, AfterValidator(_directive)]
Walltime = Annotated[int, BeforeValidator(read_walltime), PlainSerializer(walltime_text)]


class Account(Section):
    """Who pays."""

    required: StrictBool = Field(default=False, description="whether a job is refused that names no account (project)")
    default: Name | None = Field(default=None, description="the account that pays when none is given")


class NodeType(Section):
    """A kind of node."""

    cores: Whole = Field(ge=1, description="physical cores of a node that jobs may use")
    numa_nodes: Whole | None = Field(
        default=None, ge=1, description="NUMA nodes with cores, per node; left out: not known"
    )
    smt: Whole = Field(default=1, ge=1, le=8, description="hardware threads per core")
    memory: MemorySize | None = Field(
        default=None, description='memory of a node, for example "512 GiB"; left out: not checked'
    )


class Step(Section):
    """A time limit that holds up to a number of nodes."""

    max_nodes: Whole = Field(ge=1, description="the limit holds for jobs of at most so many nodes")
    max_walltime: Walltime = Field(description='longest job of that size, for example "3:00:00"')


class Queue(Section):
    """A queue or partition; a limit that is left out is not checked."""

    node: Name | None = Field(default=None, description="which of the node types its nodes are")
    min_nodes: Whole = Field(default=1, ge=1, description="fewest nodes of one job")
    max_nodes: Whole | None = Field(default=None, ge=1, description="most nodes of one job")
    min_walltime: Walltime | None = Field(default=None, description="shortest time that may be asked for")
    max_walltime: Walltime | None = Field(default=None, description='longest job, for example "72:00:00"')
    walltime_by_nodes: tuple[Step, ...] = Field(
        default=(), description="shorter time limits for smaller jobs: a list of {max_nodes, max_walltime}"
    )
    default_walltime: Walltime | None = Field(default=None, description="time to ask for when none is given")
    array: StrictBool = Field(default=True, description="whether it takes job arrays")
    exclusive: StrictBool = Field(
        default=False, description="whether a job gets, and pays for, whole nodes; needs node"
    )
    max_running: Whole | None = Field(
        default=None, ge=1, description="most jobs, each task of an array counted, that run at once"
    )
    max_queued: Whole | None = Field(
        default=None, ge=1, description="most jobs, each task of an array counted, that it holds at once"
    )
    automatic: StrictBool = Field(default=True, description="whether it is chosen for a job that names no queue")
    directives: tuple[Directive, ...] = Field(
        default=(), description="further lines for the scheduler, without their prefix"
    )
    notes: Text | None = Field(default=None, description="what people should know before they use it")

    def longest(self, nodes: int) -> int | None:
        """The time limit in seconds of a job of so many nodes; None when none is known."""
        fitting = [step.max_walltime for step in self.walltime_by_nodes if nodes <= step.max_nodes][:1]
        limits = [*fitting, *([] if self.max_walltime is None else [self.max_walltime])]
        return min(limits, default=None)


class Site(Section):
    """A computing centre's machine, as `site_configs/NAME.yaml` describes it."""

    extends: Text | None = Field(
        default=None, description="site (name or file) that this one changes; keys are merged, lists replaced"
    )
    description: Text = Field(description="one line on the machine")
    sources: tuple[Text, ...] = Field(default=(), description="where the numbers are from, and when looked up")
    environment: Mapping[Name, Line] = Field(
        default_factory=dict, description="variables and their values by which the machine is recognised"
    )
    hostnames: tuple[Annotated[Text, AfterValidator(_pattern)], ...] = Field(
        default=(), description="regular expressions that whole host names match, short or full"
    )
    scheduler: Literal["slurm", "pbs", "torque", "local"] = Field(
        description="slurm, pbs (PBS Pro, OpenPBS), torque, or local: no scheduler"
    )
    account: Account = Field(default_factory=Account, description="who pays")
    nodes: Mapping[Name, NodeType] = Field(default_factory=dict, description="node types by a name of yours")
    queues: Mapping[Name, Queue] = Field(
        default_factory=dict, description="queues by name; without any, the scheduler's own default is used"
    )
    default_queue: Name | None = Field(default=None, description="queue to try first for a job that names none")
    array_queue: Name | None = Field(default=None, description="queue to try first for a job array that names none")
    queue_directive: Annotated[Text, AfterValidator(_queue_directive)] | None = Field(
        default=None, description="how a job names its queue where that is unusual, such as --qos={queue}"
    )
    directives: tuple[Directive, ...] = Field(
        default=(), description="lines for the scheduler in every job, without their prefix"
    )
    modules: tuple[Annotated[Text, AfterValidator(_module)], ...] = Field(
        default=(), description="modules that a job loads"
    )
    setup: tuple[Line, ...] = Field(default=(), description="shell lines of a job after its modules")
    launcher: tuple[Annotated[Text, AfterValidator(_launcher_word)], ...] = Field(
        default=(),
        description="words that start MPI ranks; {ranks}, {ranks_per_node}, {cores_per_rank}, {cpus_per_rank} "
        "(hardware threads), {nodes} and {mpiexec} (that of the installed MPI library) are filled in",
    )
    array_throttle: Whole | None = Field(
        default=None, ge=1, description="most tasks of an array that run at once, in any queue"
    )
    scratch: Line | None = Field(
        default=None,
        description="folder on a large and fast file system, such as $SCRATCH; variables are filled in where a job is "
        "submitted, and jobs keep compiled code there",
    )

    _name: str = PrivateAttr(default="")
    _source: Path | None = PrivateAttr(default=None)

    def located(self, name: str, source: Path | None) -> Site:
        """The same site, knowing its name and its file."""
        copy = self.model_copy()
        copy._name, copy._source = name, source
        return copy

    @property
    def name(self) -> str:
        """What the site is called: its file's name without suffix."""
        return self._name

    @property
    def source(self) -> Path | None:
        """The file that describes the site."""
        return self._source

    @property
    def setup_lines(self) -> tuple[str, ...]:
        """Shell lines that prepare a job: modules, then setup."""
        loading = (*MODULES_KNOWN, f"module load {' '.join(self.modules)}") if self.modules else ()
        return (*loading, *self.setup)

    def node_of(self, queue: Queue) -> NodeType | None:
        """The kind of node that a queue has, when the site says."""
        return None if queue.node is None else self.nodes.get(queue.node)

    def scratch_folder(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """The folder for large files of this user; None when the site names none or a variable is not set."""
        if self.scratch is None:
            return None
        try:
            filled = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: environ[found[1] or found[2]], self.scratch)
        except KeyError:
            return None
        return Path(filled)


def site_problems(site: Site) -> Iterator[Problem]:
    """What is wrong between keys of a site that are each right."""
    for name, queue in site.queues.items():
        yield from _queue_problems(site, name, queue)
    for key in ("default_queue", "array_queue"):
        named = getattr(site, key)
        if named is not None and named not in site.queues:
            there = f"; there are: {', '.join(site.queues)}" if site.queues else "; no queue is described"
            yield Problem((key,), f"is not among queues{suggestion(named, site.queues) or there}", named)


def _queue_problems(site: Site, name: str, queue: Queue) -> Iterator[Problem]:
    path = ("queues", name)
    if queue.node is not None and queue.node not in site.nodes:
        there = f"; there are: {', '.join(site.nodes)}" if site.nodes else "; no node type is described"
        hint = suggestion(queue.node, site.nodes)
        yield Problem((*path, "node"), f"is not among nodes{hint or there}", queue.node)
    if queue.exclusive and queue.node is None:
        yield Problem((*path, "exclusive"), "needs node, so that what whole nodes cost is known", True)
    if queue.max_nodes is not None and queue.max_nodes < queue.min_nodes:
        text = f"must be at least min_nodes ({queue.min_nodes})"
        yield Problem((*path, "max_nodes"), text, queue.max_nodes)
    sizes = [step.max_nodes for step in queue.walltime_by_nodes]
    if sizes != sorted(set(sizes)):
        yield Problem((*path, "walltime_by_nodes"), "must go from few nodes to many", sizes)
    longest = queue.longest(queue.max_nodes or max(sizes, default=1))
    for key in ("min_walltime", "default_walltime"):
        asked = getattr(queue, key)
        if longest is not None and asked is not None and asked > longest:
            text = f"is more than the limit of {walltime_text(longest)}"
            yield Problem((*path, key), text, walltime_text(asked))


SITE_VARIABLE = "HPCXPCS_SITE"
SUFFIXES = (".yaml", ".yml")
GENERIC = (("sbatch", "generic-slurm"), ("qsub", "generic-pbs"))
"""Which site is meant where nothing is known but that this program is there."""
NO_SCHEDULER = "laptop"

_A_SITE = FileKind("scheduler", "`extends: generic-slurm` is a beginning; site_configs/README.md lists the keys")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class ChosenSite:
    """A site, and in words why it was chosen."""

    site: Site
    why: str


def shipped_folder() -> Path:
    """The folder of the sites that come with the program: inside an installed package, beside that of a clone."""
    inside = _PACKAGE / "site_configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "site_configs"


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's own sites: $XDG_CONFIG_HOME/hpcxpcs/sites, by default below ~/.config."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "hpcxpcs" / "sites"


def site_files(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The file of each site by name, the user's own first; they hide shipped ones of the same name."""
    found: dict[str, Path] = {}
    for folder in (user_folder(environ), shipped_folder()):
        for path in sorted(folder.glob("*")):
            if path.suffix in SUFFIXES:
                found.setdefault(path.stem, path)
    return found


def load_site(name_or_path: str | Path, environ: Mapping[str, str] = os.environ) -> Site:
    """The site of this name, or in this file; ConfigError says what is wrong, or which sites there are."""
    path = _file_of(str(name_or_path), environ)
    layers = _layers(path, environ)
    data: Any = {}
    for layer in reversed(layers):
        data = _merged(data, layer.data)
    site, problems = read_section(Site, data)
    if site is not None:
        problems += site_problems(site)
    if problems or site is None:
        raise config_error(problems, lambda key: _place(layers, key), str(path))
    return site.located(path.stem, path)


def find_site(
    given: str | None = None,
    environ: Mapping[str, str] = os.environ,
    hostnames: Sequence[str] | None = None,
    program: Callable[[str], str | None] = shutil.which,
) -> ChosenSite:
    """The site to use: the one `given`, that of $HPCXPCS_SITE, a recognised one, a generic one, else a laptop.

    `hostnames` are the names of this machine, by default those that it gives itself.
    """
    if given:
        return ChosenSite(load_site(given, environ), "asked for by --site")
    if named := environ.get(SITE_VARIABLE):
        try:
            return ChosenSite(load_site(named, environ), f"asked for by {SITE_VARIABLE}={named}")
        except ConfigError as error:
            raise ConfigError(f"{SITE_VARIABLE}={named}: {error}") from None
    sites = [load_site(path, environ) for path in site_files(environ).values()]
    if (chosen := _by_environment(sites, environ) or _by_hostname(sites, hostnames)) is not None:
        return chosen
    for name, site in GENERIC:
        if program(name):
            return ChosenSite(load_site(site, environ), f"{name} is on PATH, and the machine is not recognised")
    return ChosenSite(load_site(NO_SCHEDULER, environ), "no program of a scheduler is on PATH")


def _by_environment(sites: Sequence[Site], environ: Mapping[str, str]) -> ChosenSite | None:
    """The first site that names variables and all of whose variables have their values."""
    for site in sites:
        if site.environment and all(environ.get(name) == value for name, value in site.environment.items()):
            why = ", ".join(f"{name}={value}" for name, value in site.environment.items())
            return ChosenSite(site, f"recognised by {why}")
    return None


def _by_hostname(sites: Sequence[Site], hostnames: Sequence[str] | None) -> ChosenSite | None:
    """The first site with a pattern that a name of this machine matches."""
    for hostname in _own_names() if hostnames is None else hostnames:
        for site in sites:
            for pattern in site.hostnames:
                if re.fullmatch(pattern, hostname):
                    return ChosenSite(site, f"recognised by the host name {hostname} ({pattern})")
    return None


def _own_names() -> Iterator[str]:
    """The short name first: the full one may take a question to a name server."""
    yield socket.gethostname()
    yield socket.getfqdn()


def _file_of(text: str, environ: Mapping[str, str], base: Path | None = None) -> Path:
    """The file that a name or a path means; a relative path starts at `base`."""
    if "/" in text or text.endswith(SUFFIXES):
        path = (base or Path.cwd()) / Path(text).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such site file")
        return path
    files = site_files(environ)
    if text not in files:
        hint = suggestion(text, files) or f"; there are: {', '.join(sorted(files))}."
        raise ConfigError(
            f"there is no site '{text}'{hint} `hpcxpcs config sites` lists them; your own go to {user_folder(environ)}"
        )
    return files[text]


def _layers(path: Path, environ: Mapping[str, str]) -> list[Document]:
    """The description in a file, the one it extends, and so on."""
    layers: list[Document] = []
    files: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following in files:
            chain = " extends ".join(map(str, [*files, following]))
            raise ConfigError(f"{path}: a site cannot extend itself: {chain}")
        files.append(following)
        layers.append(read_document(following, _A_SITE))
        following = _extended(layers[-1], following, environ)
    return layers


def _extended(layer: Document, path: Path, environ: Mapping[str, str]) -> Path | None:
    """The file that a layer extends; one that has the name of a shipped site extends the shipped one."""
    base = layer.data.get("extends")
    if base is None:
        return None
    place = layer.place(("extends",))
    if not isinstance(base, str):
        raise ConfigError(f"{place}extends: must be the name or the file of a site")
    shipped = [shipped_folder() / f"{base}{suffix}" for suffix in SUFFIXES]
    if base == path.stem and path not in shipped and (there := [file for file in shipped if file.is_file()]):
        return there[0]
    try:
        return _file_of(base, environ, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{place}extends: {error}") from None


def _merged(base: Any, changes: Any) -> Any:
    """Sections merged key by key, anything else replaced; null takes away what the base has."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    together = {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}
    return {key: value for key, value in together.items() if value is not None or key not in base}


def _place(layers: Sequence[Document], path: KeyPath) -> str:
    """File and line of a key, or of the nearest one above it, in the first layer that has it."""
    for length in range(len(path), 0, -1):
        for layer in layers:
            if path[:length] in layer.lines:
                return layer.place(path[:length])
    return layers[0].place(())
