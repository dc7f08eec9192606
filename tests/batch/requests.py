"""Jobs for tests, and the recorded scripts: `python -m tests.batch.requests` records them anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpcxpcs.batch.jobs import Job, JobKind, Resources, SchedulerName
from hpcxpcs.batch.scripts import script_text
from tests.hand_scripts import hand_scripts

RECORDED = Path(__file__).parent / "scripts"
JOBS = Path(__file__).parents[2] / "jobs"
DIALECTS: tuple[SchedulerName, ...] = ("slurm", "pbs", "torque")
KINDS: tuple[JobKind, ...] = ("array", "gather", "mpi")
RUN = Path("/data/my beamtime/100% shear/run 1")
PROGRAM = "/home/ana/venvs/hpc xpcs/bin/hpcxpcs"
LAUNCHERS: dict[SchedulerName, tuple[str, ...]] = {
    "slurm": ("srun", "--mpi=pmi2", "--cpu-bind=cores"),
    "pbs": ("mpiexec", "-n", "64", "--ppn", "32", "--cpu-bind", "list:" + ":".join(map(str, range(32)))),
    "torque": ("mpirun", "-n", "64"),
}
DIRECTIVES: dict[SchedulerName, tuple[str, ...]] = {
    "slurm": ("--constraint=cpu", '--comment="shear series"'),
    "pbs": ("-l place=scatter", "-l filesystems=home:eagle"),
    "torque": ("-W group_list=xpcs",),
}
ENVIRONMENT = {"HPCXPCS_CACHE_DIR": "/scratch/ana's cache", "UCX_DEBUG_SIGNO": "0"}


def full_job(dialect: SchedulerName, kind: JobKind) -> Job:
    """Return a job that uses every field; its paths have a blank and a percent sign."""
    mpi = kind == "mpi"
    return Job(
        scheduler=dialect,
        kind=kind,
        name=f"shear series {kind}",
        command=(PROGRAM, "work", str(RUN)) if kind == "array" else (PROGRAM, "resume", str(RUN), "--here"),
        run=RUN,
        resources=Resources(
            walltime=90 * 3600 + 61,
            nodes=2 if mpi else 1,
            processes=32 if mpi else 1,
            cores=2 if mpi else 8,
            memory=24 * 10**9,
        ),
        tasks=8,
        at_once=3,
        queue="long",
        account="xpcs-2026",
        launcher=LAUNCHERS[dialect] if mpi else (),
        setup=(
            "module load python/3.12",
            "# shellcheck source=/dev/null",
            "source /home/ana/venv/bin/activate",
        ),
        directives=DIRECTIVES[dialect],
        environment=ENVIRONMENT,
        umask=0o027,
    )


def plain_job(
    dialect: SchedulerName, run: Path, *command: str, kind: JobKind = "gather", tasks: int = 1, **more: object
) -> Job:
    """Return a job that asks for as little as possible."""
    asked = {"name": "job", "resources": Resources(walltime=600), **more}
    return Job(dialect, kind, run, command=command, tasks=tasks, **asked)  # type: ignore[arg-type]


def expected_files() -> Iterator[tuple[Path, str]]:
    """Yield path and text of every script that the repository keeps: recorded ones and those for people."""
    for dialect in DIALECTS:
        for kind in KINDS:
            job = full_job(dialect, kind)
            yield RECORDED / f"{dialect}-{job.script.name}", script_text(job)
    for name, text in hand_scripts():
        yield JOBS / name, text


def record() -> None:
    """Write all of them; look at the difference before it is committed."""
    for path, text in expected_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(os.path.relpath(path))


if __name__ == "__main__":
    record()
