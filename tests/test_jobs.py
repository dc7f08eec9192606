"""The job scripts for people do what jobs/README.md says when a scheduler starts them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.hand_scripts import hand_scripts

JOBS = Path(__file__).parents[1] / "jobs"
NAMES = [name for name, _ in hand_scripts()]
NODE_FILE = "n1\nn1\nn2\nn2\n"
PROGRAMS = {
    "hpcxpcs": 'echo "hpcxpcs $*"; exit "${ENDS_WITH:-0}"',
    "srun": 'echo "srun of $# words"; exec "$@"',
    "mpiexec": 'echo "mpiexec $1 $2"; shift 2; exec "$@"',
    "scontrol": 'echo "scontrol $*"',
    "sleep": "exec /bin/sleep 0.02",
}
"""Stand-ins: each says how it was called; sleep does not sleep for long."""


@pytest.fixture
def venv(tmp_path) -> Path:
    """A virtual environment in a folder with a blank, where all the programs are."""
    programs = tmp_path / "my venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    return programs.parent


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run folder"
    folder.mkdir()
    return folder


def environment(script: str, node_file: Path) -> dict[str, str]:
    """What a scheduler sets in the first task of an array, or in a single job."""
    array = "array" in script
    if script.endswith(".sbatch"):
        return {"SLURM_JOB_ID": "7"} | ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"} if array else {})
    node_file.write_text(NODE_FILE)
    if script.startswith("torque"):
        job = {"PBS_JOBID": "7[0].server", "PBS_ARRAYID": "0"} if array else {"PBS_JOBID": "7.server"}
    else:
        job = {"PBS_JOBID": "7[0].server", "PBS_ARRAY_INDEX": "0"} if array else {"PBS_JOBID": "7.server"}
    return job | {"PBS_NODEFILE": str(node_file)}


def submit(script: str, tmp_path: Path, **given: object) -> subprocess.CompletedProcess[str]:
    """Run a script as it is in a folder that has nothing to do with it, as schedulers do."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **environment(script, tmp_path / "nodes")}
    environ |= {name: str(value) for name, value in given.items()}
    command = ["bash", str(JOBS / script)]
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)


def log_of(run: Path) -> list[str]:
    """The lines of the one log without its first, which has the time in it."""
    (log,) = (run / "logs").iterdir()
    return log.read_text().splitlines()[1:]


@pytest.mark.parametrize("script", NAMES)
def test_given_a_scheduler_when_it_starts_the_script_then_the_run_is_worked_on(script, venv, run, tmp_path):
    job = submit(script, tmp_path, RUN=run, HPCXPCS_VENV=venv, ENDS_WITH=3)
    assert job.returncode == 3, "the exit code of hpcxpcs is that of the job"
    assert job.stdout == job.stderr == "", "all output goes to the log"
    lines = log_of(run)
    if "mpi" in script:
        assert lines.pop(0) == ("srun of 4 words" if script.endswith(".sbatch") else "mpiexec -n 4")
    assert lines == [f"hpcxpcs work {run}" if "array" in script else f"hpcxpcs resume {run} --here"]
    assert [log.name for log in (run / "logs").iterdir()] == [
        {"array": "array-7_0.log", "gather": "gather-7.log", "mpi": "mpi-7.log"}[Path(script).stem]
    ]


@pytest.mark.parametrize("script", [name for name in NAMES if name.endswith(".sbatch")])
def test_given_a_run_that_stopped_in_time_then_slurm_is_asked_to_go_on(script, venv, run, tmp_path):
    job = submit(script, tmp_path, RUN=run, HPCXPCS_VENV=venv, ENDS_WITH=75)
    assert job.returncode == 75
    assert log_of(run)[-1] == f"scontrol requeue {'7_0' if 'array' in script else '7'}"


@pytest.mark.parametrize("script", NAMES)
def test_given_no_run_then_the_script_stops_and_says_how_to_give_one(script, venv, tmp_path):
    job = submit(script, tmp_path, HPCXPCS_VENV=venv)
    assert job.returncode != 0
    assert "write the path of the run folder here" in job.stderr
    assert Path(script).name in job.stderr


@pytest.mark.parametrize("script", NAMES)
def test_given_no_virtual_environment_then_the_log_says_so(script, run, tmp_path):
    assert submit(script, tmp_path, RUN=run).returncode != 0
    assert "/nowhere/hpcxpcs-venv/bin/activate" in "".join(log_of(run))


def test_given_the_folder_then_its_scripts_are_those_of_the_templates_and_its_readme_names_each():
    """What they say is compared in tests/batch/test_scripts.py, and shellcheck reads them there."""
    kept = {path.relative_to(JOBS).as_posix() for path in JOBS.rglob("*.*") if path.suffix != ".md"}
    assert kept == set(NAMES)
    assert all(f"`{script}`" in (JOBS / "README.md").read_text() for script in kept)


def test_given_the_makefile_then_lint_reads_every_script():
    (line,) = re.findall(r"^SCRIPTS := (.*)$", (JOBS.parent / "Makefile").read_text(), re.MULTILINE)
    (patterns,) = re.findall(r"\$\(wildcard (.*)\)", line)
    found = {path.relative_to(JOBS).as_posix() for word in patterns.split() for path in JOBS.parent.glob(word)}
    assert found == set(NAMES)
