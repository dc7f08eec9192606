"""Checks on a node of a site, best in a job: ranks and their cores, the scheduler's programs, saving, taking over."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpcxpcs.batch.launcher import Launched, launched, own_launcher, separate_worlds
from hpcxpcs.config.site import ChosenSite, NodeType, Site
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.sealed import Sealed, newest_good, read_sealed, write_sealed
from hpcxpcs.workers.checks import SCRATCH, Check, Status, try_in
from hpcxpcs.workers.machine import Topology, cpu_list, restricted, topology
from hpcxpcs.workers.placement import is_bound, my_place
from hpcxpcs.workers.preemption import Deadline, find_deadline

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "slurm": ("sbatch", "squeue", "scancel", "scontrol"),
    "pbs": ("qsub", "qstat", "qdel"),
    "torque": ("qsub", "qstat", "qdel"),
    "local": (),
}
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID")
RANKS_SHOWN = 4
TRIAL_LEASE = 1.0  # seconds: where times are kept to the second, a new claim may seem that old
TAKE_OVER_SECONDS = 10.0

Which = Callable[[str], str | None]


@dataclass(frozen=True)
class NodeLook:
    """A node as its kernel describes it: physical cores in all and of this job, threads per core, NUMA nodes."""

    cores: int
    granted: int
    threads: int
    numa_nodes: int


@dataclass(frozen=True)
class RankReport:
    """What one rank finds: where it runs, the logical CPUs that it would work on, whether its launcher chose them.

    `node` is what its node looks like, with the cores that the job has there; `sees` says whether it sees the folder
    that rank 0 sees.
    """

    rank: int
    host: str
    cpus: tuple[int, ...]
    bound: bool
    node: NodeLook
    sees: bool


@dataclass(frozen=True)
class Ranks:
    """All ranks, as rank 0 knows them; `library` is the MPI library, "" without MPI."""

    started: Launched | None
    reports: tuple[RankReport, ...]
    library: str = ""


def look_around(folder: Path, environ: Mapping[str, str] = os.environ) -> Ranks | None:
    """Let every rank report; called on all of them, and None on those that are not rank 0."""
    started = launched(environ)
    if started is None:
        return Ranks(None, (_report(0, True, environ),))
    from mpi4py import MPI

    reports = together(MPI.COMM_WORLD, folder, environ)
    return None if reports is None else Ranks(started, reports, MPI.Get_library_version())


def together(world: Intracomm, folder: Path, environ: Mapping[str, str] = os.environ) -> tuple[RankReport, ...] | None:
    """The reports of all ranks on rank 0, None elsewhere; no rank waits for one that has failed."""
    mark = folder.resolve() / f"{SCRATCH}{secrets.token_hex(8)}"
    written = world.bcast(_written(mark) if world.rank == 0 else None)
    sees = written is not None and _seen(Path(written))
    world.barrier()
    if world.rank == 0:
        mark.unlink(missing_ok=True)
    reports = world.gather(_report(world.rank, sees, environ))
    return None if reports is None else tuple(reports)


def examine_site(
    chosen: ChosenSite,
    ranks: Ranks,
    folder: Path,
    environ: Mapping[str, str] = os.environ,
    which: Which = shutil.which,
) -> Iterator[Check]:
    """Yield what is found on this node, in the order in which it matters."""
    site, in_job = chosen.site, any(environ.get(name) for name in JOB_VARIABLES)
    yield Check("site", "ok", f"{site.name} ({chosen.why})")
    yield check_programs(site, in_job, which)
    yield check_launcher(site, which)
    yield check_deadline(find_deadline(environ=environ), in_job)
    yield check_node(site, ranks.reports[0].node, in_job)
    yield check_ranks(site, ranks)
    yield check_binding(ranks.reports)
    if len(ranks.reports) > 1:
        yield check_shared(folder, ranks.reports)
    yield check_save(folder)
    yield check_take_over(folder)


def check_programs(site: Site, in_job: bool, which: Which) -> Check:
    """The programs of the scheduler; inside a job they may be missing, since jobs are submitted from outside."""
    wanted = PROGRAMS[site.scheduler]
    if not wanted:
        return Check("scheduler", "ok", "none is needed here")
    missing = [name for name in wanted if which(name) is None]
    if not missing:
        return Check("scheduler", "ok", f"{', '.join(wanted)} are on PATH")
    remedy = f"submit from a login node, or add the folder of {missing[0]} to PATH; --site names another site"
    return Check("scheduler", "warn" if in_job else "fail", f"not on PATH: {', '.join(missing)}", remedy)


def check_launcher(site: Site, which: Which) -> Check:
    """The program that starts MPI ranks."""
    if not site.launcher:
        return Check("launcher", "ok", "the site names none: MPI jobs are not started here")
    program = site.launcher[0].format(mpiexec=own_launcher())
    if (found := which(program)) is not None:
        return Check("launcher", "ok", found)
    loading = f"module load {' '.join(site.modules)}" if site.modules else "load the site's MPI module"
    return Check("launcher", "warn", f"{program} is not on PATH: no MPI jobs", loading)


def check_deadline(deadline: Deadline | None, in_job: bool) -> Check:
    """Whether a job knows when it ends; else it could not stop in time."""
    if deadline is not None:
        return Check("time limit", "ok", f"{deadline.remaining() / 60:.0f} min left, says {deadline.source}")
    if not in_job:
        return Check("time limit", "ok", "none: this is not a job")
    remedy = "give --time-limit SECONDS, else the last block before the end is lost"
    return Check("time limit", "warn", "this is a job, but when it ends is not known", remedy)


def check_node(site: Site, node: NodeLook, in_job: bool) -> Check:
    """Whether the node is one that the site file describes, and the job has all of it."""
    found = f"{node.cores} cores with {node.threads} threads each, {node.numa_nodes} NUMA nodes"
    name = next((name for name, kind in site.nodes.items() if _is_like(node, kind)), None)
    if name is None and site.nodes:
        known = ", ".join(f"{name} {kind.cores}" for name, kind in site.nodes.items())
        remedy = "means nothing on a login node; in a job, correct nodes in a site file of your own"
        return Check("node", "warn", f"{found}; {site.name} has nodes with cores: {known}", remedy)
    if name is not None:
        found = f"{found}, as {name} of {site.name}"
    if not in_job or node.granted >= min(node.cores, site.nodes[name].cores if name else node.cores):
        return Check("node", "ok", found)
    whole = all(queue.exclusive for queue in site.queues.values()) and bool(site.queues)
    found = f"{found}; this job has {node.granted} cores of it"
    remedy = "the node is paid for as a whole: ask for all of its cores" if whole else ""
    return Check("node", "warn" if whole else "ok", found, remedy)


def check_ranks(site: Site, ranks: Ranks) -> Check:
    """Whether MPI counts as many ranks as the launcher started."""
    if ranks.started is None:
        command = " ".join([*site.launcher[:1], "...", "hpcxpcs doctor --site"]).format(mpiexec=own_launcher())
        remedy = "" if site.scheduler == "local" or not site.launcher else f"in a job: {command}"
        status: Status = "warn" if remedy else "ok"
        return Check("ranks", status, "this process was not started by a launcher", remedy)
    count = len(ranks.reports)
    if warning := separate_worlds(ranks.started, count, ranks.library):
        found, _, remedy = warning.partition(". ")
        return Check("ranks", "fail", found, remedy)
    hosts = len({report.host for report in ranks.reports})
    found = f"{count} on {hosts} node{'s' if hosts > 1 else ''}"
    if ranks.started.size not in (1, count):
        remedy = "the launcher and the MPI library do not agree: use the launcher of that library"
        return Check("ranks", "fail", f"{found}, but {ranks.started.size} were started", remedy)
    return Check("ranks", "ok", f"{found}, as many as were started")


def check_binding(reports: Sequence[RankReport]) -> Check:
    """Whether each rank has cores of its own, chosen by the launcher or by us."""
    shown = [f"{report.host}/{report.rank}: {cpu_list(report.cpus)}" for report in reports[:RANKS_SHOWN]]
    shown += ["..."] * (len(reports) > RANKS_SHOWN)
    by = "the launcher" if any(report.bound for report in reports) else "hpcxpcs"
    found = f"CPUs by rank, chosen by {by}: {', '.join(shown)}"
    if sharing := sorted(_sharing(reports)):
        ranks = ", ".join(map(str, sharing[:RANKS_SHOWN])) + (", ..." if len(sharing) > RANKS_SHOWN else "")
        remedy = "start at most one rank per core, or let the launcher bind each rank to cores of its own"
        return Check("binding", "warn", f"ranks {ranks} share their CPUs with others; {found}", remedy)
    return Check("binding", "ok", found)


def check_shared(folder: Path, reports: Sequence[RankReport]) -> Check:
    """Whether all ranks see the same folder, as a run needs."""
    blind = sorted({report.host for report in reports if not report.sees})
    if not blind:
        return Check("shared folder", "ok", f"{folder.resolve()}: all ranks see it")
    found = f"{folder.resolve()}: a file of rank 0 is not seen on {', '.join(blind)}"
    return Check("shared folder", "fail", found, "keep runs where all nodes see them: --dir DIR tries another")


def check_save(folder: Path) -> Check:
    """Save a file twice, read it back, damage it, and fall back to the one before, as a resumed run would."""
    good = "what is saved comes back, and the file before it when it is damaged"
    return try_in(folder, "save", lambda scratch: _save_trial(scratch / "trial.h5"), good)


def check_take_over(folder: Path, lease: float = TRIAL_LEASE) -> Check:
    """Claim a task, see that it is refused to another, and take it over when its owner gives no sign of life."""
    good = "a claim keeps others away, and is taken over when its owner is silent"
    return try_in(folder, "take-over", lambda scratch: _claim_trial(scratch, lease), good)


def _report(rank: int, sees: bool, environ: Mapping[str, str]) -> RankReport:
    machine = topology(environ=environ)
    cpus = my_place(machine, environ=environ).cpus
    return RankReport(rank, socket.gethostname(), cpus, is_bound(machine, environ), _node(machine), sees)


def _node(machine: Topology) -> NodeLook:
    return NodeLook(
        cores=len(machine.online),
        granted=len(restricted(machine.online, set(machine.granted))),
        threads=max((len(core.cpus) for core in machine.online), default=1),
        numa_nodes=len({core.node for core in machine.online}),
    )


def _is_like(node: NodeLook, kind: NodeType) -> bool:
    """Whether a node has the cores of a kind, all of them or those that jobs may use, and its NUMA nodes if known."""
    numa = kind.numa_nodes is None or kind.numa_nodes == node.numa_nodes
    return kind.cores in (node.cores, node.granted) and numa


def _sharing(reports: Sequence[RankReport]) -> set[int]:
    """Ranks whose logical CPUs are also those of another on the same node."""
    owners: dict[tuple[str, int], list[int]] = {}
    for report in reports:
        for cpu in report.cpus:
            owners.setdefault((report.host, cpu), []).append(report.rank)
    return {rank for ranks in owners.values() if len(ranks) > 1 for rank in ranks}


def _written(mark: Path) -> str | None:
    """Write the file that other ranks are to see; its name, or None when that fails."""
    try:
        mark.write_text(mark.name)
    except OSError:
        return None
    return str(mark)


def _seen(mark: Path) -> bool:
    try:
        return mark.read_text() == mark.name
    except OSError:
        return False


def _save_trial(path: Path) -> str:
    """What goes wrong; "" when nothing does."""
    numbers = np.arange(1000, dtype=np.float64)
    for status in ("first", "second"):
        write_sealed(path, Sealed("trial", "doctor", "trial", status, arrays={"numbers": numbers}))
    found = read_sealed(path, kind="trial", run_id="doctor")
    if found.status != "second" or not np.array_equal(found.arrays["numbers"], numbers):
        return "a saved file does not come back as it was written"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    older = newest_good(path, kind="trial", run_id="doctor", warn=lambda text: None)
    return "" if older is not None and older.status == "first" else "the file before a damaged one is not found"


def _claim_trial(folder: Path, lease: float) -> str:
    """What goes wrong; "" when nothing does."""
    first = take(folder, "trial", lease=lease)
    if first is None:
        return "a task that nobody has cannot be claimed"
    if take(folder, "trial", lease=lease) is not None:
        return "two processes can claim one task"
    end = time.monotonic() + TAKE_OVER_SECONDS + lease
    while time.monotonic() < end:
        time.sleep(lease / 2)
        if (second := take(folder, "trial", lease=lease)) is not None:
            return "" if second.still_mine() and not first.still_mine() else "two processes hold one claim"
    return "a silent owner's claim is not taken over: the clock of the file system stands still"
