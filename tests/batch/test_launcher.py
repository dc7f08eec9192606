"""What the environment says about launchers, and what is said when launcher and MPI library do not agree."""

from __future__ import annotations

import sys
from pathlib import Path

import mpi4py
import pytest

from hpcxpcs.batch.launcher import Launched, launched, own_launcher, separate_worlds, under_mpi

SEEN = {
    "MPICH": ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "2"}, Launched(4, "PMI_SIZE")),
    "MPICH, one rank": ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launched(1, "PMI_SIZE")),
    "Open MPI": (
        {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3"},
        Launched(8, "OMPI_COMM_WORLD_SIZE"),
    ),
    "PMIx, size unknown": ({"PMIX_RANK": "0"}, Launched(1, "PMIX_RANK")),
    "srun, four tasks": (
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"},
        Launched(4, "SLURM_STEP_NUM_TASKS"),
    ),
    "PALS": ({"PALS_RANKID": "5"}, Launched(1, "PALS_RANKID")),
}
NOT_SEEN = {
    "a shell": {"HOME": "/root"},
    "a job script of four tasks": {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    "srun, one task": {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0"},
    "a size that is no number": {"PMI_SIZE": "many"},
}


@pytest.mark.parametrize(("environ", "expected"), SEEN.values(), ids=SEEN.keys())
def test_given_a_launcher_then_it_is_recognised(environ, expected):
    assert launched(environ) == expected
    assert under_mpi(environ)


@pytest.mark.parametrize("environ", NOT_SEEN.values(), ids=NOT_SEEN.keys())
def test_given_no_launcher_then_none_is_seen(environ):
    assert launched(environ) is None
    assert not under_mpi(environ)


def test_given_many_processes_in_worlds_of_one_then_a_warning_names_count_variable_library_and_remedy():
    text = separate_worlds(Launched(64, "PMI_SIZE"), 1, "Open MPI v5.0.11\nbuilt yesterday")
    assert "64 processes (PMI_SIZE)" in text
    assert "Open MPI v5.0.11)" in text
    assert "MPI4PY_LIBMPI" in text


@pytest.mark.parametrize(("started", "size"), [(None, 1), (Launched(1, "PMI_SIZE"), 1), (Launched(4, "PMI_SIZE"), 4)])
def test_given_a_world_as_large_as_started_then_there_is_no_warning(started, size):
    assert separate_worlds(started, size) is None


def program(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "mpiexec").write_text("#!/bin/sh\n")
    (folder / "mpiexec").chmod(0o755)
    return folder / "mpiexec"


def test_given_a_library_that_is_asked_for_then_its_own_launcher_is_taken(tmp_path):
    own = program(tmp_path / "mpich" / "bin")
    assert own_launcher({"MPI4PY_LIBMPI": str(tmp_path / "mpich" / "lib" / "libmpi.so")}) == str(own)


def test_given_an_mpi4py_that_was_compiled_here_then_the_launcher_beside_its_compiler_is_taken(tmp_path, monkeypatch):
    own = program(tmp_path / "bin")
    monkeypatch.setattr(mpi4py, "get_config", lambda: {"mpicc": str(tmp_path / "bin" / "mpicc")})
    assert own_launcher({}) == str(own)


def test_given_a_library_of_the_environment_then_the_launcher_beside_python_is_taken(tmp_path, monkeypatch):
    own = program(tmp_path / "venv" / "bin")
    monkeypatch.setattr(mpi4py, "get_config", dict)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    assert own_launcher({}) == str(own)


def test_given_no_launcher_anywhere_then_the_one_on_path_is_meant(tmp_path, monkeypatch):
    monkeypatch.setattr(mpi4py, "get_config", dict)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert own_launcher({}) == "mpiexec"
