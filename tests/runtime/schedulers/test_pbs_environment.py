"""What a function run by the PBS executor sees of its job: ids, ranks, nodes, files and the time that is left."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from submitit.core.job_environment import JobEnvironment

from hpcxpcs.runtime.schedulers.pbs_environment import PbsJobEnvironment, PbsPaths, margin, time_left


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment as the script of the executor makes it, in task 3 of an array."""
    for name, value in {
        "SUBMITIT_EXECUTOR": "pbs",
        "PBS_JOBID": "1[3].vm",
        "PBS_ARRAY_ID": "1[].vm",
        "PBS_ARRAY_INDEX": "3",
        "SUBMITIT_PBS_NODES": "2",
        "SUBMITIT_PBS_TASKS": "8",
        "SUBMITIT_PBS_RANK": "5",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("SUBMITIT_PBS_JOB_ID", "PBS_NODEFILE", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_given_an_array_task_then_it_knows_its_ids(inside: pytest.MonkeyPatch) -> None:
    here = JobEnvironment()
    assert here.cluster == "pbs" and here.activated()
    assert (here.job_id, here.array_job_id, here.array_task_id) == ("1[3].vm", "1[].vm", "3")


def test_given_a_plain_job_then_it_has_no_array(inside: pytest.MonkeyPatch) -> None:
    inside.setenv("PBS_JOBID", "12.vm")
    here = PbsJobEnvironment()
    assert (here.job_id, here.array_job_id, here.array_task_id) == ("12.vm", None, None)


def test_given_a_job_that_goes_on_with_another_then_it_has_the_old_id(inside: pytest.MonkeyPatch) -> None:
    inside.setenv("PBS_JOBID", "77.vm")
    inside.setenv("SUBMITIT_PBS_JOB_ID", "1[3].vm")
    assert PbsJobEnvironment().job_id == "1[3].vm"


def test_given_ranks_then_nodes_are_filled_in_turn_unless_the_launcher_says_otherwise(
    inside: pytest.MonkeyPatch,
) -> None:
    here = PbsJobEnvironment()
    assert (here.num_tasks, here.num_nodes, here.global_rank, here.local_rank, here.node) == (8, 2, 5, 1, 1)
    inside.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "2")
    assert here.local_rank == 2


def test_given_a_file_of_nodes_then_each_is_named_once(inside: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text(f"n1\nn1\n{socket.gethostname()}\n")
    here = PbsJobEnvironment()
    assert here.hostnames == [socket.gethostname()]
    inside.setenv("PBS_NODEFILE", str(nodes))
    assert here.hostnames == ["n1", socket.gethostname()]
    assert here.node == 1


def test_given_placeholders_in_a_folder_then_ids_of_pbs_take_their_place() -> None:
    task = PbsPaths("/log/%A/%a/%j", job_id="1[3].vm", task_id=2)
    assert task.stdout == Path("/log/1[].vm/3/1[3].vm/1[3].vm_2_log.out")
    assert task.submission_file == Path("/log/1[].vm/3/1[3].vm/1[].vm_submission.sh")
    plain = PbsPaths("/log", job_id="12.vm")
    assert (plain.submission_file.name, plain.scheduler_log.name) == ("12.vm_submission.sh", "12.vm_pbs.log")
    with pytest.raises(ValueError, match="not a job array"):
        _ = PbsPaths("/log/%a", job_id="12.vm").folder


def test_given_a_kill_between_the_two_steps_of_a_replacement_then_the_new_file_is_put_in_place(
    inside: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """submitit removes the old file and then renames the new one."""
    inside.setenv("SUBMITIT_FOLDER", str(tmp_path))
    inside.setenv("SUBMITIT_PBS_RANK", "0")
    (tmp_path / "1[3].vm_submitted.pkl.save_tmp").write_bytes(b"new")
    paths = PbsJobEnvironment().paths
    assert paths.submitted_pickle.read_bytes() == b"new"
    (tmp_path / "1[3].vm_submitted.pkl.save_tmp").write_bytes(b"half")
    assert PbsJobEnvironment().paths.submitted_pickle.read_bytes() == b"new"


def test_given_the_start_of_a_script_then_the_time_left_follows_and_outside_there_is_none() -> None:
    started = {"SUBMITIT_PBS_STARTED": repr(time.time() - 30)}
    left = time_left(1, started)
    assert left is not None and 0 < left <= 30
    assert time_left(1, {}) is None and time_left(1, {"SUBMITIT_PBS_STARTED": "%N"}) is None


def test_given_a_short_walltime_then_the_margin_before_its_end_is_short_too() -> None:
    assert margin(60, 90) == 90
    assert margin(1, 90) == pytest.approx(12)
