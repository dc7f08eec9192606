"""The job scripts do what they say when a scheduler starts them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[1] / "jobs"
SCHEDULERS = {
    "fit-one-node.sbatch": {"folder": "SLURM_SUBMIT_DIR", "cores": "SLURM_CPUS_PER_TASK"},
    "fit-one-node.pbs": {"folder": "PBS_O_WORKDIR", "cores": "NCPUS"},
}


@pytest.fixture
def venv(tmp_path) -> Path:
    """A virtual environment in a folder with a blank, whose `hpcxpcs` writes down how it was called."""
    programs = tmp_path / "my venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "hpcxpcs").write_text('#!/bin/sh\necho "$PWD | $* | $OMP_NUM_THREADS" > called\nexit 3\n')
    (programs / "hpcxpcs").chmod(0o755)
    return programs.parent


def submit(script: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    base = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
    command = ["bash", str(JOBS / script)]
    return subprocess.run(
        command, env=base | environ, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("script", SCHEDULERS)
def test_given_a_scheduler_when_it_starts_the_script_then_the_fit_runs_where_it_was_submitted(script, venv):
    names, folder = SCHEDULERS[script], venv.parent / "run folder"
    folder.mkdir()
    environ = {names["folder"]: str(folder), names["cores"]: "4", "HPCXPCS_VENV": str(venv)}
    job = submit(script, environ)
    assert (folder / "called").read_text() == f"{folder} | fit config.yaml --method nlsq | 4\n", job.stderr
    assert job.returncode == 3, "the exit code of the fit is that of the job"


@pytest.mark.parametrize("script", SCHEDULERS)
def test_given_no_scheduler_then_the_script_stops_and_says_so(script, venv):
    job = submit(script, {"HPCXPCS_VENV": str(venv)})
    assert job.returncode != 0
    assert "submit me with" in job.stderr


def test_given_the_folder_then_its_readme_names_every_script():
    scripts = {path.name for path in JOBS.iterdir() if path.suffix != ".md"}
    assert scripts == SCHEDULERS.keys()
    assert all(f"`{script}`" in (JOBS / "README.md").read_text() for script in scripts)
