"""From an order to jobs in a queue: which jobs, their scripts in RUN/submit, handing them in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hpcxpcs.batch.jobs import Job, JobKind, Order, SchedulerName
from hpcxpcs.batch.queues import fit_to_queue
from hpcxpcs.batch.scripts import script_text
from hpcxpcs.batch.submissions import Submission, note_submission, scheduler_named, submit_folder
from hpcxpcs.config.site import ChosenSite, Site, find_site, load_site
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.atomic import atomic_write_text, writing
from hpcxpcs.files.json_safe import utc_now
from hpcxpcs.log.levels import LEVEL_VARIABLE
from hpcxpcs.runs.run import Run
from hpcxpcs.runs.status import open_tasks

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
class Offer:
    """What would be submitted where: the site, why it was chosen, and jobs that wait each for the one before."""

    site: Site
    why: str
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
    if chosen.site.scheduler == "local":
        jobs: tuple[Job, ...] = (_local_job(run, order),)
    elif order.mpi:
        jobs = (_mpi_job(run, chosen.site, order),)
    else:
        jobs = _array_jobs(run, chosen.site, order, workers_only, most_tasks)
    return Offer(chosen.site, chosen.why, jobs)


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
    """Hand in all jobs in order, the first one to wait for the job `behind`; each is noted and yielded when accepted.

    Jobs that are `added` to those at work leave the recorded order as it is.
    """
    scheduler = scheduler_named(offered.site.scheduler)
    write_scripts(run, offered)
    after = behind
    for job in offered.jobs:
        accepted = Submission(
            job=scheduler.submit(job.script, after=after),
            kind=job.kind,
            scheduler=job.scheduler,
            site=offered.site.name,
            queue=job.queue_name,
            line=scheduler.submit_line(job.script, after=after),
            submitted=utc_now(),
            tasks=job.tasks,
            core_hours=job.core_hours,
            after=after,
        )
        note_submission(run, order, accepted, added=added)
        yield accepted
        after = accepted.job


def submit_lines(offered: Offer) -> tuple[str, ...]:
    """The commands that would hand in the jobs, with ID in the place of an id that is not known yet."""
    scheduler = scheduler_named(offered.site.scheduler)
    lines, after = [], None
    for job in offered.jobs:
        lines.append(scheduler.submit_line(job.script, after=after).replace(UNKNOWN_ID, "ID"))
        of_array = job.scheduler != "slurm" and job.tasks > 1
        after = f"{UNKNOWN_ID}[]" if of_array else UNKNOWN_ID
    return tuple(lines)


def _array_jobs(run: Run, site: Site, order: Order, workers_only: bool, most_tasks: int | None) -> tuple[Job, ...]:
    if order.tasks and not run.plan.tasks:
        raise ConfigError(
            f"--tasks: method {run.plan.method} has no tasks to share out: leave it out, one job does it in one go"
        )
    left = len(open_tasks(run, run.plan.tasks))
    one_task = _job(run, site, order, "array")
    wanted = order.tasks or min(MOST_TASKS, -(-left // one_task.workers))
    tasks = wanted if most_tasks is None else min(wanted, most_tasks)
    if workers_only:
        return (_job(run, site, order, "array", max(1, tasks)),)
    gather = _job(run, site, replace(order, cores=_gather_cores(left, order, site)), "gather")
    if tasks <= 1 and (order.tasks is None or most_tasks == 0):
        return (gather,)
    return (_job(run, site, order, "array", max(1, tasks)), gather)


def _gather_cores(left: int, order: Order, site: Site) -> int:
    """Cores of the job that gathers: for as many processes as it may have tasks to do, and a node has room for."""
    each = order.cores or 1
    room = max((node.cores // each for node in site.nodes.values()), default=MOST_GATHERING)
    return each * max(1, min(left, room, MOST_GATHERING))


def _mpi_job(run: Run, site: Site, order: Order) -> Job:
    if order.ranks is None and order.nodes is None:
        order = replace(order, ranks=max(2, min(MOST_TASKS, len(run.plan.tasks))))
    return _job(run, site, order, "mpi")


def _job(run: Run, site: Site, order: Order, kind: JobKind, tasks: int = 1) -> Job:
    """A job of the order as the site runs it, with its script."""
    job = Job(
        scheduler=site.scheduler,
        kind=kind,
        run=run.folder.absolute(),
        name=f"hpcxpcs-{kind}",
        tasks=tasks,
        environment=_environment(site, order),
        umask=_umask(),
    )
    return _with_script(fit_to_queue(site, order, job))


def _with_script(job: Job) -> Job:
    """The job with its command, which has as many workers as there is room for, and its script."""
    if job.kind == "array":
        several = () if job.workers == 1 else ("--workers", str(job.workers))
        job = replace(job, command=(*PROGRAM, "work", str(job.run), *several))
    else:
        job = replace(job, command=(*PROGRAM, "resume", str(job.run), "--here"))
    return replace(job, text=script_text(job))


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
    job = Job("local", "gather", run.folder.absolute(), "hpcxpcs-local", environment=_level(order))
    return _with_script(job)
