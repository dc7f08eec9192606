"""From an order to jobs in a queue: which jobs, their scripts in RUN/submit, handing them in."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcxpcs.config.site import Site
from hpcxpcs.config.site_files import ChosenSite, find_site, load_site
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.runtime.log_levels import LEVEL_VARIABLE
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.jobs import JobKind, JobRequest, Resources
from hpcxpcs.runtime.schedulers.named import scheduler_named
from hpcxpcs.runtime.schedulers.queues import Fit, Wish, fit_to_queue
from hpcxpcs.runtime.schedulers.scripts import script_name, script_text
from hpcxpcs.runtime.schedulers.submissions import (
    Order,
    SchedulerName,
    Submission,
    note_submission,
    submit_folder,
    utc_now,
)
from hpcxpcs.runtime.work import open_tasks

PROGRAM = (sys.executable, "-m", "hpcxpcs")
MOST_TASKS = 64
"""Array tasks that are asked for when nobody says how many."""

CARRIED = (
    "HDF5_USE_FILE_LOCKING",
    "HPCXPCS_CACHE_DIR",
    LEVEL_VARIABLE,
    "MKL_CBWR",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "XLA_FLAGS",
)
"""Variables that jobs get from where they are submitted: places, how much is said, and what changes the last digits
of numbers."""

UNKNOWN_ID = "990099009900"
"""Stands for an id where a scheduler insists on the form of one."""

MOST_GATHERING = 4
"""Processes that the job that gathers has room for: chains on all data, if it comes to that, are four."""

GENERIC: Mapping[SchedulerName, str] = {"slurm": "generic-slurm", "pbs": "generic-pbs", "local": "laptop"}
"""The site that stands for a scheduler when the machine is not recognised, or has another one."""


@dataclass(frozen=True)
class Job:
    """A job to be handed in: `fit` is None where there is no queue; `after` is the place of another in the list."""

    request: JobRequest
    script: Path
    text: str
    queue: str
    core_hours: float
    after: int | None = None
    fit: Fit | None = None


@dataclass(frozen=True)
class Offer:
    """What would be submitted where: the site and why it was chosen, its scheduler, and the jobs in order."""

    site: Site
    why: str
    scheduler: SchedulerName
    jobs: tuple[Job, ...]

    @property
    def core_hours(self) -> float:
        """What all jobs cost if all of their time is used."""
        return sum(job.core_hours for job in self.jobs)


def site_for(order: Order, environ: Mapping[str, str] = os.environ) -> ChosenSite:
    """The site of an order; one that was found by itself gives way to the scheduler that is asked for."""
    chosen = find_site(order.site, environ)
    asked = order.scheduler
    if asked is None or asked == chosen.site.scheduler:
        return chosen
    if order.site is not None:
        raise ConfigError(
            f"--scheduler {asked}: {chosen.site.name} has {chosen.site.scheduler}; leave one of both options out"
        )
    if asked not in GENERIC:
        raise ConfigError(
            f"--scheduler {asked}: {chosen.site.name} has {chosen.site.scheduler}, and there is no site for {asked} "
            f"in general: write one of your own (site_configs/README.md) and name it with --site"
        )
    return ChosenSite(load_site(GENERIC[asked], environ), f"--scheduler {asked}")


def offer(run: Run, order: Order, *, workers_only: bool = False, most_tasks: int | None = None) -> Offer:
    """Which jobs do what is left of a run; ConfigError when the site runs no such job.

    An array of workers and a job after it that gathers, one MPI job, or, where one task has room for all that is left,
    the gathering job alone: it does whatever it finds undone. `workers_only` leaves the gathering to a job that is in
    the queue already, and `most_tasks` limits the array; 0 leaves the work to one that is in the queue.
    """
    chosen = site_for(order)
    site, scheduler = chosen.site, chosen.site.scheduler
    if scheduler == "local":
        jobs: tuple[Job, ...] = (_local_job(run, order),)
    elif order.mpi:
        jobs = (_mpi_job(run, site, order),)
    else:
        jobs = _array_jobs(run, site, order, workers_only, most_tasks)
    return Offer(site, chosen.why, scheduler, jobs)


def write_scripts(run: Run, offered: Offer) -> None:
    """Write the scripts of all jobs to RUN/submit, and make the folder that their logs go to."""
    with writing(submit_folder(run)):
        submit_folder(run).mkdir(exist_ok=True)
        run.logs.mkdir(exist_ok=True)
    for job in offered.jobs:
        atomic_write_text(job.script, job.text)


def submit(
    run: Run, order: Order, offered: Offer, *, added: bool = False, behind: str | None = None
) -> Iterator[Submission]:
    """Hand in all jobs in order; each is noted and yielded as soon as it is accepted.

    Jobs that are `added` to those at work leave the recorded order as it is. What waits for no other job of the offer
    waits for the job `behind`.
    """
    scheduler = scheduler_named(offered.scheduler)
    write_scripts(run, offered)
    done: list[Submission] = []
    for job in offered.jobs:
        after = behind if job.after is None else done[job.after].job
        accepted = Submission(
            job=scheduler.submit(job.script, after=after),
            kind=job.request.kind,
            scheduler=offered.scheduler,
            site=offered.site.name,
            queue=job.queue,
            line=scheduler.submit_line(job.script, after=after),
            submitted=utc_now(),
            tasks=job.request.tasks,
            core_hours=job.core_hours,
            after=after,
        )
        note_submission(run, order, accepted, added=added)
        done.append(accepted)
        yield accepted


def submit_lines(offered: Offer) -> tuple[str, ...]:
    """The commands that would hand in the jobs, with ID in the place of an id that is not known yet."""
    scheduler = scheduler_named(offered.scheduler)
    lines = []
    for job in offered.jobs:
        after = None
        if job.after is not None:
            of_array = offered.scheduler != "slurm" and offered.jobs[job.after].request.tasks > 1
            after = f"{UNKNOWN_ID}[]" if of_array else UNKNOWN_ID
        lines.append(scheduler.submit_line(job.script, after=after).replace(UNKNOWN_ID, "ID"))
    return tuple(lines)


def _array_jobs(
    run: Run, site: Site, order: Order, workers_only: bool, most_tasks: int | None
) -> tuple[Job, ...]:
    left = len(open_tasks(run, run.plan.tasks))
    one_task = fit_to_queue(site, _wish(order, "array", cores=order.cores))
    wanted = order.tasks or min(MOST_TASKS, -(-left // one_task.workers))
    tasks = wanted if most_tasks is None else min(wanted, most_tasks)
    if workers_only:
        return (_worker_job(run, site, order, max(1, tasks)),)
    fit = fit_to_queue(site, _wish(order, "gather", cores=_gather_cores(left, order, site)))
    gather = _job(run, site, order, "gather", fit, ("resume", str(run.folder), "--here"))
    if tasks <= 1 and (order.tasks is None or most_tasks == 0):
        return (gather,)
    return (_worker_job(run, site, order, max(1, tasks)), replace(gather, after=0))


def _gather_cores(left: int, order: Order, site: Site) -> int:
    """Cores of the job that gathers: for as many processes as it may have tasks to do, and a node has room for."""
    each = order.cores or 1
    room = max((node.cores // each for node in site.nodes.values()), default=MOST_GATHERING)
    return each * max(1, min(left, room, MOST_GATHERING))


def _worker_job(run: Run, site: Site, order: Order, tasks: int) -> Job:
    fit = fit_to_queue(site, _wish(order, "array", tasks=tasks, cores=order.cores))
    several = () if fit.workers == 1 else ("--workers", str(fit.workers))
    return _job(run, site, order, "array", fit, ("work", str(run.folder), *several), tasks=tasks)


def _mpi_job(run: Run, site: Site, order: Order) -> Job:
    ranks = order.ranks
    if ranks is None and order.nodes is None:
        ranks = max(2, min(MOST_TASKS, len(run.plan.tasks)))
    wish = replace(_wish(order, "mpi", cores=order.cores), ranks=ranks)
    return _job(run, site, order, "mpi", fit_to_queue(site, wish), ("resume", str(run.folder), "--here"))


def _wish(order: Order, kind: JobKind, *, tasks: int = 1, cores: int | None) -> Wish:
    return Wish(
        kind=kind,
        tasks=tasks,
        queue=order.queue,
        account=order.account,
        walltime=order.walltime,
        nodes=order.nodes if kind == "mpi" else None,
        cores=cores,
        memory=order.memory,
        at_once=order.at_once if kind == "array" else None,
    )


def _job(
    run: Run, site: Site, order: Order, kind: JobKind, fit: Fit, command: Sequence[str], tasks: int = 1
) -> Job:
    folder = run.folder.absolute()
    words = [str(folder) if word == str(run.folder) else word for word in command]
    request = fit.applied(
        JobRequest(
            kind=kind,
            name=f"hpcxpcs-{kind}",
            command=(*PROGRAM, *words),
            run=folder,
            resources=fit.resources,
            tasks=tasks,
            environment=_environment(site, order),
            umask=_umask(),
        )
    )
    dialect = site.scheduler
    if dialect == "local":
        raise ConfigError(f"{site.name} has no scheduler")
    script = submit_folder(run).absolute() / script_name(dialect, request.kind)
    return Job(request, script, script_text(dialect, request), fit.queue_name, fit.core_hours, fit=fit)


def _umask() -> int:
    """What this process, and so the user, takes from the permissions of new files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _environment(site: Site, order: Order) -> dict[str, str]:
    """Variables of every job; compiled code is kept on the site's scratch, unless the user has a place for it."""
    found = {name: os.environ[name] for name in CARRIED if name in os.environ} | _level(order)
    scratch = site.scratch_folder()
    if scratch is not None:
        found.setdefault("HPCXPCS_CACHE_DIR", str(scratch / "hpcxpcs-cache"))
    return found


def _level(order: Order) -> dict[str, str]:
    return {} if order.log_level is None else {LEVEL_VARIABLE: order.log_level}


_OF_A_QUEUE = {
    "--queue": "queue",
    "--account": "account",
    "--time": "walltime",
    "--memory": "memory",
    "--cores": "cores",
    "--tasks": "tasks",
    "--at-once": "at_once",
    "--mpi": "mpi",
}
"""Options of a job, and the field of the order that they fill."""


def _local_job(run: Run, order: Order) -> Job:
    """The whole run in one process group on this machine, without a queue; ConfigError for what only a queue has."""
    for option, given in _OF_A_QUEUE.items():
        if getattr(order, given):
            raise ConfigError(
                f"{option}: has no effect on this machine, which has no queue: leave it out (runtime.workers says how "
                "many processes work), or name a site with a scheduler"
            )
    folder = run.folder.absolute()
    command = (*PROGRAM, "resume", str(folder), "--here")
    request = JobRequest("gather", "hpcxpcs-local", command, folder, Resources(walltime=0))
    log = shlex.quote(str(folder / "logs" / "local.log"))
    text = (
        "#!/usr/bin/env bash\n"
        "# Continues the run on this machine to its end; what it says goes to its log.\n"
        f"{''.join(f'export {name}={value}\n' for name, value in _level(order).items())}"
        f"exec {shlex.join(command)} >> {log} 2>&1\n"
    )
    return Job(request, submit_folder(run).absolute() / "local.sh", text, "", 0.0)
