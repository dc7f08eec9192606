"""What is known of a computing centre: its scheduler, queues and limits, nodes, modules, launcher and account."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PrivateAttr, StrictBool

from hpcxpcs.config.field_types import MemorySize, Section, Text, Whole
from hpcxpcs.config.problems import Problem, suggestion

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

    required: StrictBool = Field(
        default=False, description="whether a job is refused that names no account (project)"
    )
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
    automatic: StrictBool = Field(
        default=True, description="whether it is chosen for a job that names no queue"
    )
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
    sources: tuple[Text, ...] = Field(
        default=(), description="where the numbers are from, and when looked up"
    )
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
    default_queue: Name | None = Field(
        default=None, description="queue to try first for a job that names none"
    )
    array_queue: Name | None = Field(
        default=None, description="queue to try first for a job array that names none"
    )
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
            filled = re.sub(
                r"\$(?:(\w+)|\{(\w+)\})", lambda found: environ[found[1] or found[2]], self.scratch
            )
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
