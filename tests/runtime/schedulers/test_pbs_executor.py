"""Python functions run as jobs of PBS through submitit, over a transport that is not a PBS (fake_pbs)."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import submitit
from submitit.core import utils

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.schedulers.pbs_submitit import PbsExecutor, PbsJob
from tests.patience import PATIENCE
from tests.runtime.schedulers import loaded_python
from tests.runtime.schedulers.pbs_fixture import FakePbs


def resumable(folder: Path) -> Any:
    """A function that sleeps in its first leg and returns in the second."""

    class Resumable(submitit.helpers.Checkpointable):
        def __init__(self) -> None:
            self.legs = 0

        def __call__(self) -> int:
            self.legs += 1
            (folder / f"leg-{self.legs}").touch()
            if self.legs == 1:
                time.sleep(120)
            return self.legs

    return Resumable()


def wait_for(file: Path, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} does not come"
        time.sleep(0.05)


def at_once(job: Any) -> Any:
    """Do not wait for results that cannot come."""
    job._results_timeout_s = 0
    return job


def test_given_the_installed_package_then_submitit_knows_the_executor_and_the_environment() -> None:
    assert submitit.core.plugins.get_executors()["pbs"] is PbsExecutor
    assert submitit.core.plugins.get_job_environments()["pbs"].name() == "pbs"


def test_given_the_plugin_is_loaded_then_no_jax_is() -> None:
    code = "import sys; from submitit.core import plugins; plugins.get_executors()['pbs']; print('jax' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_given_a_function_then_it_runs_in_the_folder_of_the_submission_and_its_result_comes_back(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = executor.submit(os.getcwd)
    assert (job.job_id, job.result()) == ("1.vm", str(tmp_path))
    fake_pbs.settle()
    info = job.get_info()
    assert (info["JobID"], info["State"], info["NodeList"], info["ExitCode"]) == (
        "1.vm",
        "COMPLETED",
        "vm",
        "0",
    )


def test_given_several_functions_then_they_are_one_array_with_at_most_so_many_at_once(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    executor.update_parameters(pbs_array_parallelism=2)
    jobs = executor.map_array(pow, [1, 2, 3], [2, 2, 2])
    assert [job.job_id for job in jobs] == ["1[0].vm", "1[1].vm", "1[2].vm"]
    assert [job.result() for job in jobs] == [1, 4, 9]
    script = jobs[2].paths.submission_file
    assert script == jobs[0].paths.submission_file
    assert script.name == "1[].vm_submission.sh"
    assert " -J 0-2%2 " in script.read_text().replace("'", "")


def test_given_an_array_of_one_then_it_is_a_plain_job_because_pbs_refuses_such_arrays(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    (job,) = executor.map_array(pow, [2], [3])
    assert (job.job_id, job.result()) == ("1.vm", 8)
    with executor.batch():
        batched = executor.submit(pow, 2, 4)
    assert (batched.job_id, batched.result()) == ("2.vm", 16)


def test_given_many_jobs_then_one_request_asks_for_the_states_of_all(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    fake_pbs.hold()
    jobs = [*executor.map_array(time.sleep, [60] * 5), executor.submit(time.sleep, 60)]
    assert {job.state for job in jobs} == {"PENDING"}
    assert PbsJob.watcher.num_calls == 1
    fake_pbs.release()
    fake_pbs.wait("1[3].vm", "R")
    jobs[0].get_info(mode="force")
    assert [job.watcher.get_state(job.job_id, "cache") for job in jobs] == ["RUNNING"] * 4 + ["PENDING"] * 2


def test_given_ranks_on_a_node_then_each_has_its_number_its_result_and_its_output(
    executor: submitit.AutoExecutor,
) -> None:
    def rank() -> tuple[int, int, int, int]:
        here = submitit.JobEnvironment()
        print("I am", here.global_rank)
        return here.global_rank, here.local_rank, here.num_tasks, here.node

    executor.update_parameters(tasks_per_node=3)
    job = executor.submit(rank)
    assert job.results() == [(0, 0, 3, 0), (1, 1, 3, 0), (2, 2, 3, 0)]
    assert job.task(1).result() == (1, 1, 3, 0)
    assert "I am 2" in job.task(2).stdout() and "I am 1" not in job.task(2).stdout()


def test_given_a_launcher_then_it_starts_the_ranks(executor: submitit.AutoExecutor, tmp_path: Path) -> None:
    launcher = tmp_path / "launch"
    launcher.write_text('#!/bin/bash\nfor r in 0 1; do OMPI_COMM_WORLD_RANK=$r "$@" & done; wait\n')
    launcher.chmod(0o755)
    executor.update_parameters(nodes=2, pbs_launcher=[str(launcher)])
    job = executor.submit(lambda: submitit.JobEnvironment().global_rank)
    assert job.results() == [0, 1]


def test_given_a_pickled_job_then_it_goes_on_standing_for_the_job(executor: submitit.AutoExecutor) -> None:
    job = pickle.loads(pickle.dumps(executor.submit(pow, 2, 5)))
    assert (job.job_id, job.result()) == ("1.vm", 32)
    found_again = PbsJob(executor.folder, "1.vm")
    assert found_again.result() == 32 and found_again.submission().args == (2, 5)


def test_given_a_result_to_wait_for_then_coroutines_can(executor: submitit.AutoExecutor) -> None:
    assert asyncio.run(executor.submit(pow, 2, 6).awaitable().result(poll_interval=0.1)) == 64


def test_given_setup_and_teardown_then_they_run_around_the_function_in_the_same_shell(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    executor.update_parameters(
        pbs_setup=["export WORD='from setup'"], pbs_teardown=[f"echo $code $WORD > {tmp_path}/after"]
    )
    job = executor.submit(os.getenv, "WORD")
    assert job.result() == "from setup"
    fake_pbs.settle()
    assert (tmp_path / "after").read_text() == "0 from setup\n"


def test_given_a_process_that_is_killed_then_the_result_does_not_keep_anyone_waiting(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    job = at_once(executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    fake_pbs.settle()
    assert job.done(force_check=True)
    assert (job.state, job.get_info()["Reason"]) == (
        "FAILED",
        "exit code 137: a process in it died of the signal KILL",
    )
    with pytest.raises(utils.UncompletedJobError, match="FAILED"):
        job.result()


def test_given_a_server_without_history_then_a_job_that_left_no_result_is_gone_and_nobody_waits(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    fake_pbs.set(history=False)
    job = at_once(executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    fake_pbs.settle()
    with pytest.raises(utils.UncompletedJobError, match="GONE"):
        job.result()


def test_given_a_server_without_history_then_a_job_that_waits_or_runs_is_not_lost(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    fake_pbs.set(history=False, slots=0)
    job = executor.submit(time.sleep, 120)
    assert (job.done(force_check=True), job.state) == (False, "PENDING")
    fake_pbs.release()
    fake_pbs.wait(job.job_id, "R")
    assert (job.done(force_check=True), job.state) == (False, "RUNNING")


def test_given_a_cancelled_job_then_it_ends_for_good_and_cancelling_again_is_no_error(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    job = at_once(executor.submit(resumable(tmp_path)))
    wait_for(tmp_path / "leg-1")
    job.cancel()
    fake_pbs.settle()
    job.cancel()
    assert job.get_info()["State"] == "CANCELLED"
    assert list(fake_pbs.queue()) == ["1.vm"], "a deleted job must not be handed in again"
    with pytest.raises(utils.UncompletedJobError, match="CANCELLED"):
        job.result()


def test_given_a_job_to_be_cancelled_at_deletion_then_it_is(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    job = executor.submit(time.sleep, 120).cancel_at_deletion()
    fake_pbs.wait("1.vm", "R")
    del job
    fake_pbs.settle()
    assert fake_pbs.queue()["1.vm"].substate == 91


def test_given_a_preemption_then_the_state_is_saved_and_pbs_itself_runs_the_task_again(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    jobs = executor.submit_array([resumable(tmp_path), lambda: 7])
    wait_for(tmp_path / "leg-1")
    fake_pbs.preempt("1[0].vm")
    assert [job.result() for job in jobs] == [2, 7]
    assert not jobs[0].paths.resubmissions.exists()
    fake_pbs.settle()
    assert fake_pbs.queue()["1[0].vm"].run_count == 2
    assert "leg" not in (jobs[0].stderr() or "")


def test_given_a_lost_node_then_the_task_begins_anew_without_a_word(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    class OnceLost(submitit.helpers.Checkpointable):
        def __call__(self) -> str:
            if not (tmp_path / "tried").exists():
                (tmp_path / "tried").touch()
                time.sleep(120)
            return "done"

    job = executor.submit(OnceLost())
    wait_for(tmp_path / "tried")
    fake_pbs.lose_node("1.vm")
    assert job.result() == "done"
    assert fake_pbs.queue()["1.vm"].run_count == 2


@pytest.mark.parametrize("ended_by", ["own clock", pytest.param("TERM", marks=pytest.mark.slow)])
def test_given_a_walltime_that_is_over_then_a_new_job_goes_on_under_the_old_id(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path, ended_by: str
) -> None:
    if ended_by == "TERM":
        fake_pbs.set(walltime_limits=True)
        executor.update_parameters(pbs_time=0.2, pbs_signal_delay_s=0)
    else:
        executor = submitit.AutoExecutor(executor.folder, cluster="pbs", pbs_python=loaded_python.COMMAND)
        executor.update_parameters(pbs_time=0.05)
    job = executor.submit(resumable(tmp_path))
    assert job.result() == 2
    assert (job.job_id, job.current_id) == ("1.vm", "2.vm")
    fake_pbs.settle()
    assert job.get_info()["State"] == "COMPLETED"
    assert "qrerun is for operators" in job.stdout() and "as 2.vm" in job.stdout()
    assert (tmp_path / "leg-2").exists()


def test_given_an_interruption_long_before_the_end_then_it_does_not_count_as_a_timeout(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    executor.update_parameters(timeout_min=60)
    jobs = executor.submit_array([resumable(tmp_path), lambda: 7])
    wait_for(tmp_path / "leg-1")
    jobs[0]._interrupt()
    assert [job.result() for job in jobs] == [2, 7]
    assert (jobs[0].job_id, jobs[0].current_id, jobs[1].current_id) == ("1[0].vm", "2.vm", "1[1].vm")
    assert "(3 remaining timeouts)" in jobs[0].stdout()


def test_given_an_id_that_is_none_of_pbs_then_there_is_no_such_job(tmp_path: Path) -> None:
    with pytest.raises(SchedulerProblem, match="no job id of PBS"):
        PbsJob(tmp_path, "12_3")


def test_given_an_operator_then_qrerun_is_enough(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    fake_pbs.set(operator=True)
    job = executor.submit(resumable(tmp_path))
    wait_for(tmp_path / "leg-1")
    job._interrupt()
    assert job.result() == 2
    assert list(fake_pbs.queue()) == ["1.vm"] and fake_pbs.queue()["1.vm"].run_count == 2


def test_given_a_successor_then_cancelling_ends_that_too(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    class Endless(submitit.helpers.Checkpointable):
        def __init__(self) -> None:
            self.legs = 0

        def __call__(self) -> None:
            self.legs += 1
            (tmp_path / f"leg-{self.legs}").touch()
            time.sleep(120)

    job = at_once(executor.submit(Endless()))
    wait_for(tmp_path / "leg-1")
    job._interrupt()
    wait_for(tmp_path / "leg-2")
    job.cancel()
    fake_pbs.settle()
    assert job.done(force_check=True)
    assert [task.substate for name, task in fake_pbs.queue().items() if name == "2.vm"] == [91]


def test_given_what_pbs_itself_had_to_say_then_it_is_found_beside_the_output(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    def stubborn() -> None:
        for name in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(name, signal.SIG_IGN)
        time.sleep(120)

    fake_pbs.set(walltime_limits=True, kill_delay=0.2)
    executor.update_parameters(pbs_time=0.1)
    job = executor.submit_array([stubborn, stubborn])[1]
    fake_pbs.settle()
    assert job.get_info()["State"] == "TIMEOUT"
    assert "PBS: job killed: walltime" in job.paths.scheduler_log.read_text()
