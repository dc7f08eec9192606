"""The scripts in jobs/: the same templates, with shell variables where `hpcxpcs submit` writes what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpcxpcs.batch.jobs import Job, JobKind, Resources, SchedulerName
from hpcxpcs.batch.scripts import ShellText, filled_template

KINDS: tuple[JobKind, ...] = ("array", "gather", "mpi")
FOLDERS: dict[SchedulerName, str] = {"slurm": "", "pbs": "", "torque": "torque/"}
RESOURCES: dict[JobKind, Resources] = {
    "array": Resources(walltime=4 * 3600, cores=4, memory=4 * 2**30),
    "gather": Resources(walltime=2 * 3600, cores=4, memory=4 * 2**30),
    "mpi": Resources(walltime=4 * 3600, processes=16, memory=16 * 2**30),
}
SETUP = (
    "# module load python/3.12",
    "# shellcheck source=/dev/null",
    'source "$VENV/bin/activate"',
    "# export HDF5_USE_FILE_LOCKING=FALSE    # when `hpcxpcs doctor` finds no file locks",
    "# export HPCXPCS_CACHE_DIR=/scratch/me  # when the home folder is small or slow",
)


def hand_scripts() -> Iterator[tuple[str, str]]:
    """Yield path below jobs/ and text of each script that people edit and submit themselves."""
    for dialect, folder in FOLDERS.items():
        for kind in KINDS:
            job = _job(dialect, kind)
            variables = "\n".join(_variables(dialect, kind, job.script.name))
            yield f"{folder}{job.script.name}", filled_template(job, variables, header_knows_run=False)


def _job(dialect: SchedulerName, kind: JobKind) -> Job:
    return Job(
        scheduler=dialect,
        kind=kind,
        name=f"hpcxpcs-{kind}",
        command=("hpcxpcs", "work", ShellText('"$RUN"'))
        if kind == "array"
        else ("hpcxpcs", "resume", ShellText('"$RUN"'), "--here"),
        run=Path("/"),  # stands in no line: the script asks for it
        resources=RESOURCES[kind],
        tasks=8 if kind == "array" else 1,
        launcher=(ShellText('"${LAUNCHER[@]}"'),) if kind == "mpi" else (),
        setup=SETUP,
    )


def _variables(dialect: SchedulerName, kind: JobKind, name: str) -> Iterator[str]:
    slurm = dialect == "slurm"
    places = "--partition and --account" if slurm else "-q and -A"
    given = "sbatch --export=ALL,RUN=/path/to/run" if slurm else "qsub -v RUN=/path/to/run"
    yield ""
    yield f"# EDIT the lines above: time, cores, memory; many sites want {places} too. EDIT these as well:"
    yield f'RUN=${{RUN:?"is not set: write the path of the run folder here, or: {given} {name}"}}'
    yield "VENV=${HPCXPCS_VENV:-$HOME/hpcxpcs-venv}   # where hpcxpcs is installed; modules are loaded below"
    if kind == "mpi" and slurm:
        yield "LAUNCHER=(srun)   # with --mpi=pmi2 or --mpi=pmix where the MPI library needs it"
    elif kind == "mpi":
        yield 'LAUNCHER=(mpiexec -n "$(wc -l < "$PBS_NODEFILE")")   # one rank for each line of the node file'
