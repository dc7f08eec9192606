"""Which queue of a site runs a job, with which nodes and cores, what it costs at most, and why another does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hpcxpcs.config.problems import suggestion
from hpcxpcs.config.site import NodeType, Queue, Site, walltime_text
from hpcxpcs.errors import ConfigError
from hpcxpcs.runtime.executors.launcher import own_launcher
from hpcxpcs.runtime.schedulers.jobs import JobKind, JobRequest, Resources

USUAL_WALLTIME = 3600
"""Seconds to ask for when nobody says how long: short jobs start soon, and what is not done goes on in the next."""

GIBIBYTE = 1024**3


@dataclass(frozen=True)
class Wish:
    """What is asked for; None leaves it to the site.

    `tasks` is the size of an array, `nodes` and `memory` (bytes per node) are those of one task, `ranks` is the number
    of MPI ranks in all, `cores` that of one process. `walltime` is in seconds. `at_once` limits the tasks that run
    together.
    """

    kind: JobKind
    tasks: int = 1
    queue: str | None = None
    account: str | None = None
    walltime: int | None = None
    nodes: int | None = None
    ranks: int | None = None
    cores: int | None = None
    memory: int | None = None
    at_once: int | None = None


@dataclass(frozen=True)
class Fit:
    """How a site runs a job: everything about it that depends on the site.

    `queue` is None where the scheduler's default is meant or where `directives` name it; `queue_name` is for people.
    `workers` is how many processes of the wished size have room in one task: more than its `resources.processes`
    where whole nodes are given. `core_hours` is what is charged when all of the time is used.
    """

    site: str
    queue: str | None
    queue_name: str
    why: str
    account: str | None
    resources: Resources
    workers: int
    at_once: int | None
    launcher: tuple[str, ...]
    setup: tuple[str, ...]
    directives: tuple[str, ...]
    core_hours: float
    exclusive: bool

    def applied(self, request: JobRequest) -> JobRequest:
        """The request with what the site decides; its own setup and directives come after those of the site."""
        return replace(
            request,
            queue=self.queue,
            account=self.account,
            resources=self.resources,
            at_once=self.at_once,
            launcher=self.launcher,
            setup=(*self.setup, *request.setup),
            directives=(*self.directives, *request.directives),
        )


def fit_to_queue(site: Site, wish: Wish) -> Fit:
    """How the site runs the job; ConfigError when it cannot: why, and which of its queues would."""
    if site.account.required and not (wish.account or site.account.default):
        raise ConfigError(
            f"{site.name} runs no job without an account (project): name one, or write it into a site file of your "
            f"own: {{extends: {site.name}, account: {{default: PROJECT}}}}"
        )
    if not site.queues:
        name = wish.queue or ""
        return _fit(site, wish, name, Queue(), "as asked for" if name else "the scheduler's own default")
    if wish.queue is not None:
        queue = _named(site, wish.queue)
        if reasons := refusals(site, queue, wish):
            raise ConfigError(_refusal(site, wish, reasons))
        return _fit(site, wish, wish.queue, queue, "as asked for")
    return _chosen(site, wish)


def refusals(site: Site, queue: Queue, wish: Wish) -> tuple[str, ...]:
    """Why a queue does not run a job, in words; empty when it does."""
    resources = _resources(site, queue, wish)
    node = site.node_of(queue)
    found = []
    if wish.kind == "array" and wish.tasks > 1 and not queue.array:
        found.append("it takes no job arrays")
    if resources.nodes < queue.min_nodes:
        found.append(f"{_asked(resources.nodes)} asked for, its fewest are {queue.min_nodes}")
    if queue.max_nodes is not None and resources.nodes > queue.max_nodes:
        found.append(f"{_asked(resources.nodes)} asked for, its most are {queue.max_nodes}")
    found += _refused_time(queue, resources)
    if node is not None:
        found += _refused_node(node, resources)
    jobs = wish.tasks + 1 if wish.kind == "array" else 1
    if queue.max_queued is not None and jobs > queue.max_queued:
        what = f"{wish.tasks} tasks and the job that gathers are {jobs}" if jobs > 1 else "this is a job"
        found.append(f"{what}, its most jobs at once are {queue.max_queued}")
    return tuple(found)


def described(name: str, queue: Queue) -> str:
    """A queue and its limits on one job, in a few words."""
    limits = []
    if queue.max_nodes is not None:
        limits.append(_nodes(f"{queue.min_nodes}-{queue.max_nodes}" if queue.max_nodes > 1 else "1"))
    if queue.max_walltime is not None:
        limits.append(f"up to {walltime_text(queue.max_walltime)}")
    if not queue.array:
        limits.append("no arrays")
    if not queue.automatic and queue.notes:
        limits.append(queue.notes)
    return f"{name} ({', '.join(limits)})" if limits else name


def _nodes(count: int | str) -> str:
    return f"{count} node" if str(count) == "1" else f"{count} nodes"


def _asked(nodes: int) -> str:
    return f"{_nodes(nodes)} {'is' if nodes == 1 else 'are'}"


def _refused_time(queue: Queue, resources: Resources) -> list[str]:
    asked = walltime_text(resources.walltime)
    longest = queue.longest(resources.nodes)
    if longest is not None and resources.walltime > longest:
        size = f" for {_nodes(resources.nodes)}" if queue.walltime_by_nodes else ""
        return [f"{asked} is asked for, its longest{size} is {walltime_text(longest)}"]
    if queue.min_walltime is not None and resources.walltime < queue.min_walltime:
        return [f"{asked} is asked for, its shortest is {walltime_text(queue.min_walltime)}"]
    return []


def _refused_node(node: NodeType, resources: Resources) -> list[str]:
    found = []
    wanted = resources.processes * resources.cores
    if wanted > node.cores:
        sizes = (
            f"{resources.processes} x {resources.cores} cores"
            if resources.processes > 1
            else f"{wanted} cores"
        )
        found.append(f"{sizes} per node are asked for, its nodes have {node.cores}")
    if node.memory is not None and resources.memory is not None and resources.memory > node.memory:
        asked, there = resources.memory / GIBIBYTE, node.memory / GIBIBYTE
        found.append(f"{asked:.4g} GiB per node are asked for, its nodes have {there:.4g} GiB")
    return found


def _named(site: Site, name: str) -> Queue:
    if name not in site.queues:
        hint = suggestion(name, site.queues) or f"; there are: {', '.join(site.queues)}."
        raise ConfigError(
            f"{site.name} has no queue '{name}'{hint} One that is not described yet goes into a site file of your "
            f"own: {{extends: {site.name}, queues: {{{name}: {{}}}}}}"
        )
    return site.queues[name]


def _chosen(site: Site, wish: Wish) -> Fit:
    """The site's first choice for this kind of job if it fits, else the smallest queue that does."""
    first = (site.array_queue if wish.kind != "mpi" else None) or site.default_queue
    if first is not None and not refusals(site, site.queues[first], wish):
        return _fit(site, wish, first, site.queues[first], f"the usual one of {site.name}")
    fitting = _fitting(site, wish, automatic=True)
    if not fitting:
        raise ConfigError(_nothing_fits(site, wish))
    name = min(fitting, key=lambda queue: _size(fitting[queue]))
    return _fit(site, wish, name, fitting[name], f"the smallest queue of {site.name} that runs this job")


def _fitting(site: Site, wish: Wish, *, automatic: bool = False) -> Mapping[str, Queue]:
    return {
        name: queue
        for name, queue in site.queues.items()
        if (queue.automatic or not automatic) and not refusals(site, queue, wish)
    }


def _size(queue: Queue) -> tuple[float, float]:
    return queue.max_nodes or math.inf, queue.max_walltime or math.inf


def _refusal(site: Site, wish: Wish, reasons: tuple[str, ...]) -> str:
    """Why the queue that was asked for does not run the job, and which would."""
    text = f"queue {wish.queue} of {site.name} does not run this job: {'; '.join(reasons)}"
    would = [described(name, queue) for name, queue in _fitting(site, wish).items()]
    if would:
        return f"{text}. These would: {', '.join(would)}"
    others = [line for line in _reasons(site, wish) if not line.startswith(f"{wish.queue}:")]
    return "\n  ".join([f"{text}. No other queue of the site does", *others])


def _nothing_fits(site: Site, wish: Wish) -> str:
    """Why no queue is chosen: what each that is chosen by itself says, and those that would do when named."""
    lines = [f"no queue of {site.name} is chosen for this job", *_reasons(site, wish)]
    if would := _fitting(site, wish):
        listed = ", ".join(described(name, queue) for name, queue in would.items())
        lines.append(f"when named, these would run it: {listed}")
    return "\n  ".join(lines)


def _reasons(site: Site, wish: Wish) -> list[str]:
    found = {name: refusals(site, queue, wish) for name, queue in site.queues.items()}
    return [f"{name}: {'; '.join(reasons)}" for name, reasons in found.items() if reasons]


def _resources(site: Site, queue: Queue, wish: Wish) -> Resources:
    """The layout of one task in a queue, with what was left to the site filled in."""
    node = site.node_of(queue)
    cores = wish.cores or 1
    room = max(1, node.cores // cores) if node is not None else None
    if wish.kind == "mpi":
        nodes, processes = _ranks(wish, queue, room)
    else:
        nodes, processes = wish.nodes or 1, 1
        if queue.exclusive and node is not None:
            cores = max(cores, node.cores)
    longest = queue.longest(nodes)
    walltime = wish.walltime or queue.default_walltime or min(USUAL_WALLTIME, longest or USUAL_WALLTIME)
    return Resources(walltime, nodes, processes, cores, wish.memory)


def _ranks(wish: Wish, queue: Queue, room: int | None) -> tuple[int, int]:
    """Nodes and ranks per node; `room` is how many ranks a node has cores for."""
    if wish.ranks is None:
        return wish.nodes or queue.min_nodes, room or 1
    nodes = wish.nodes or (math.ceil(wish.ranks / room) if room else 1)
    return nodes, math.ceil(wish.ranks / nodes)


def _fit(site: Site, wish: Wish, name: str, queue: Queue, why: str) -> Fit:
    resources = _resources(site, queue, wish)
    node = site.node_of(queue)
    naming = (site.queue_directive.format(queue=name),) if site.queue_directive and name else ()
    workers = resources.processes if wish.kind == "mpi" else max(1, resources.cores // (wish.cores or 1))
    return Fit(
        site=site.name,
        queue=None if naming or not name else name,
        queue_name=name,
        why=why,
        account=wish.account or site.account.default,
        resources=resources,
        workers=workers if queue.exclusive or wish.kind == "mpi" else 1,
        at_once=_at_once(site, queue, wish),
        launcher=_launcher(site, node, resources) if wish.kind == "mpi" else (),
        setup=site.setup_lines,
        directives=(*naming, *site.directives, *queue.directives),
        core_hours=core_hours(resources, wish.tasks, node if queue.exclusive else None),
        exclusive=queue.exclusive,
    )


def core_hours(resources: Resources, tasks: int, whole: NodeType | None) -> float:
    """What `tasks` tasks cost that use all of their time; `whole` is the node when whole nodes are charged."""
    per_node = resources.processes * resources.cores if whole is None else whole.cores
    return tasks * resources.nodes * per_node * resources.walltime / 3600


def _at_once(site: Site, queue: Queue, wish: Wish) -> int | None:
    """The tightest limit on tasks that run together, None when none binds."""
    if wish.kind != "array":
        return None
    limits = [limit for limit in (wish.at_once, site.array_throttle, queue.max_running) if limit is not None]
    limits = [limit for limit in limits if limit < wish.tasks]
    return min(limits, default=None)


def _launcher(site: Site, node: NodeType | None, resources: Resources) -> tuple[str, ...]:
    """The words that start the ranks, filled in."""
    values = {
        "mpiexec": own_launcher(),
        "ranks": resources.nodes * resources.processes,
        "ranks_per_node": resources.processes,
        "cores_per_rank": resources.cores,
        "cpus_per_rank": resources.cores * (node.smt if node is not None else 1),
        "nodes": resources.nodes,
    }
    return tuple(word.format(**values) for word in site.launcher)
