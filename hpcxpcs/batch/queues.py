"""Which queue of a site runs a job, with which nodes and cores, what it costs at most, and why another does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from hpcxpcs.batch.jobs import Job, JobKind, Order, Resources
from hpcxpcs.batch.launcher import own_launcher
from hpcxpcs.config.problems import suggestion
from hpcxpcs.config.site import NodeType, Queue, Site, walltime_text
from hpcxpcs.errors import ConfigError

USUAL_WALLTIME = 3600
"""Seconds to ask for when nobody says how long: short jobs start soon, and what is not done goes on in the next."""

GIBIBYTE = 1024**3

Reasons = Mapping[str, tuple[str, ...]]
"""Why each queue of a site does not run a job, in words; empty for one that does."""


def fit_to_queue(site: Site, order: Order, job: Job) -> Job:
    """The job with all that the site decides; ConfigError when it cannot run: why, and which of its queues would.

    Of the order, what concerns one job counts; the size of an array is that of the job.
    """
    if site.account.required and not (order.account or site.account.default):
        raise ConfigError(
            f"{site.name} runs no job without an account (project): name one, or write it into a site file of your "
            f"own: {{extends: {site.name}, account: {{default: PROJECT}}}}"
        )
    if not site.queues:
        why = "as asked for" if order.queue else "the scheduler's own default"
        return _fitted(site, order, job, order.queue or "", Queue(), why)
    reasons = {name: refusals(site, queue, order, job) for name, queue in site.queues.items()}
    if order.queue is None:
        name, why = _chosen(site, job.kind, reasons)
    else:
        name, why = _named(site, order.queue, reasons)
    return _fitted(site, order, job, name, site.queues[name], why)


def refusals(site: Site, queue: Queue, order: Order, job: Job) -> tuple[str, ...]:
    """Why a queue does not run a job, in words; empty when it does."""
    resources = _resources(site, queue, order, job.kind)
    node = site.node_of(queue)
    found = []
    if job.kind == "array" and job.tasks > 1 and not queue.array:
        found.append("it takes no job arrays")
    if resources.nodes < queue.min_nodes:
        found.append(f"{_asked(resources.nodes)} asked for, its fewest are {queue.min_nodes}")
    if queue.max_nodes is not None and resources.nodes > queue.max_nodes:
        found.append(f"{_asked(resources.nodes)} asked for, its most are {queue.max_nodes}")
    found += _refused_time(queue, resources)
    if node is not None:
        found += _refused_node(node, resources)
    jobs = job.tasks + 1 if job.kind == "array" else 1
    if queue.max_queued is not None and jobs > queue.max_queued:
        what = f"{job.tasks} tasks and the job that gathers are {jobs}" if jobs > 1 else "this is a job"
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
        sizes = f"{resources.processes} x {resources.cores} cores" if resources.processes > 1 else f"{wanted} cores"
        found.append(f"{sizes} per node are asked for, its nodes have {node.cores}")
    if node.memory is not None and resources.memory is not None and resources.memory > node.memory:
        asked, there = resources.memory / GIBIBYTE, node.memory / GIBIBYTE
        found.append(f"{asked:.4g} GiB per node are asked for, its nodes have {there:.4g} GiB")
    return found


def _named(site: Site, name: str, reasons: Reasons) -> tuple[str, str]:
    """The queue that was asked for, if it runs the job."""
    if name not in site.queues:
        hint = suggestion(name, site.queues) or f"; there are: {', '.join(site.queues)}."
        raise ConfigError(
            f"{site.name} has no queue '{name}'{hint} One that is not described yet goes into a site file of your "
            f"own: {{extends: {site.name}, queues: {{{name}: {{}}}}}}"
        )
    if not reasons[name]:
        return name, "as asked for"
    text = f"queue {name} of {site.name} does not run this job: {'; '.join(reasons[name])}"
    if would := _fitting_queues(site, reasons):
        raise ConfigError(f"{text}. These would: {would}")
    others = [line for line in _reason_lines(reasons) if not line.startswith(f"{name}:")]
    raise ConfigError("\n  ".join([f"{text}. No other queue of the site does", *others]))


def _chosen(site: Site, kind: JobKind, reasons: Reasons) -> tuple[str, str]:
    """The site's first choice for this kind of job if it fits, else the smallest queue that does, and why."""
    first = (site.array_queue if kind != "mpi" else None) or site.default_queue
    if first is not None and not reasons[first]:
        return first, f"the usual one of {site.name}"
    fitting = [name for name, queue in site.queues.items() if queue.automatic and not reasons[name]]
    if fitting:
        smallest = min(fitting, key=lambda name: _size(site.queues[name]))
        return smallest, f"the smallest queue of {site.name} that runs this job"
    lines = [f"no queue of {site.name} is chosen for this job", *_reason_lines(reasons)]
    if would := _fitting_queues(site, reasons):
        lines.append(f"when named, these would run it: {would}")
    raise ConfigError("\n  ".join(lines))


def _size(queue: Queue) -> tuple[float, float]:
    return queue.max_nodes or math.inf, queue.max_walltime or math.inf


def _fitting_queues(site: Site, reasons: Reasons) -> str:
    """The queues that run the job, with their limits."""
    return ", ".join(described(name, site.queues[name]) for name, found in reasons.items() if not found)


def _reason_lines(reasons: Reasons) -> list[str]:
    return [f"{name}: {'; '.join(found)}" for name, found in reasons.items() if found]


def _resources(site: Site, queue: Queue, order: Order, kind: JobKind) -> Resources:
    """The layout of one task in a queue, with what was left to the site filled in."""
    node = site.node_of(queue)
    cores = order.cores or 1
    room = max(1, node.cores // cores) if node is not None else None
    nodes, processes = 1, 1
    if kind == "mpi":
        nodes, processes = _ranks(order, queue, room)
    elif queue.exclusive and node is not None:
        cores = max(cores, node.cores)
    longest = queue.longest(nodes)
    walltime = order.walltime or queue.default_walltime or min(USUAL_WALLTIME, longest or USUAL_WALLTIME)
    return Resources(walltime, nodes, processes, cores, order.memory)


def _ranks(order: Order, queue: Queue, room: int | None) -> tuple[int, int]:
    """Nodes and ranks per node; `room` is how many ranks a node has cores for."""
    if order.ranks is None:
        return order.nodes or queue.min_nodes, room or 1
    nodes = order.nodes or (math.ceil(order.ranks / room) if room else 1)
    return nodes, math.ceil(order.ranks / nodes)


def _fitted(site: Site, order: Order, job: Job, name: str, queue: Queue, why: str) -> Job:
    """The job as it runs in a queue, which a site may want to have named by a directive."""
    resources, node = _resources(site, queue, order, job.kind), site.node_of(queue)
    naming = (site.queue_directive.format(queue=name),) if site.queue_directive and name else ()
    mpi = job.kind == "mpi"
    return replace(
        job,
        queue=None if naming or not name else name,
        queue_name=name,
        why=why,
        account=order.account or site.account.default,
        resources=resources,
        workers=max(1, resources.cores // (order.cores or 1)) if queue.exclusive and not mpi else 1,
        at_once=_at_once(site, queue, order, job.tasks) if job.kind == "array" else None,
        launcher=_launcher(site, node, resources) if mpi else (),
        setup=site.setup_lines,
        directives=(*naming, *site.directives, *queue.directives),
        core_hours=core_hours(resources, job.tasks, node if queue.exclusive else None),
    )


def core_hours(resources: Resources, tasks: int, whole: NodeType | None) -> float:
    """What `tasks` tasks cost that use all of their time; `whole` is the node when whole nodes are charged."""
    per_node = resources.processes * resources.cores if whole is None else whole.cores
    return tasks * resources.nodes * per_node * resources.walltime / 3600


def _at_once(site: Site, queue: Queue, order: Order, tasks: int) -> int | None:
    """The tightest limit on tasks that run together, None when none binds."""
    limits = (order.at_once, site.array_throttle, queue.max_running)
    return min((limit for limit in limits if limit is not None and limit < tasks), default=None)


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
