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
from hpcxpcs.runtime.schedulers.pbs_submitit import PbsExecutor, PbsInfoWatcher, PbsJob
from tests.runtime.schedulers import loaded_python
from tests.runtime.schedulers.fake_pbs import ledger
from tests.runtime.schedulers.pbs_fixture import FakePbs


@pytest.fixture
def executor(fake_pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> submitit.AutoExecutor:
    """What an outsider writes."""
    monkeypatch.setattr(PbsJob, "watcher", PbsInfoWatcher())
    return submitit.AutoExecutor(tmp_path / "log", cluster="pbs")


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


def wait_for(file: Path, seconds: float = 60) -> None:
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


def test_given_common_parameters_then_they_become_those_of_pbs(executor: submitit.AutoExecutor) -> None:
    executor.update_parameters(
        name="fit",
        timeout_min=90,
        mem_gb=3.5,
        cpus_per_task=4,
        tasks_per_node=2,
        gpus_per_node=1,
        pbs_queue="workq",
    )
    qsub = executor.submit(pow, 2, 2).paths.submission_file.read_text()
    for part in (
        "-N fit ",
        "'select=1:ncpus=8:mpiprocs=2:mem=3584mb:ngpus=1'",
        "'walltime=01:30:00'",
        "-r y",
        "-q workq",
    ):
        assert part in qsub, part


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "two words"},
        {"name": "1st"},
        {"name": "longer-than-pbs-takes"},
        {"name": "a;b"},
        {"mem": "4 GB"},
        {"mem": "4gb:ncpus=100"},
        {"queue": "a b"},
        {"queue": "-h"},
        {"account": "a\n#PBS -q x"},
        {"dependency": "afterany:1.vm -q x"},
        {"nodes": 0},
        {"nodes": 2},
        {"cpus_per_task": 1.5},
        {"tasks_per_node": True},
        {"time": 0},
        {"time": float("inf")},
        {"array_parallelism": 0},
        {"setup": "module load x"},
        {"directives": [3]},
        {"gpus_per_node": -1},
    ],
    ids=str,
)
def test_given_what_pbs_or_a_shell_would_misread_then_it_is_refused_by_name(
    fake_pbs: FakePbs, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    executor = PbsExecutor(tmp_path)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        executor.update_parameters(**wrong)
    assert executor.parameters == {}


def test_given_an_unknown_parameter_then_all_known_ones_are_listed(fake_pbs: FakePbs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['partition'\](.|\n)*queue \(default: None\)"):
        PbsExecutor(tmp_path).update_parameters(partition="x")


def test_given_a_refusal_of_pbs_then_the_submission_fails_with_its_words(
    executor: submitit.AutoExecutor,
) -> None:
    executor.update_parameters(pbs_queue="nowhere")
    with pytest.raises(utils.FailedSubmissionError, match=r"qsub .*exit code 170: qsub: Unknown queue"):
        executor.submit(pow, 2, 2)
    with pytest.raises(utils.FailedSubmissionError, match="Unknown queue"):
        executor.map_array(pow, [2, 3], [2, 3])


def test_given_no_pbs_or_grid_engine_then_the_executor_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("qsub", "qstat"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert PbsExecutor.affinity() == -1
    with pytest.raises(RuntimeError, match="Could not detect the programs of PBS"):
        PbsExecutor(tmp_path)


def test_given_torque_then_its_options_ids_and_form_of_submission_are_used(
    fake_pbs: FakePbs, tmp_path: Path
) -> None:
    """Torque's own programs are not there: qsub notes what it is told and prints an id of Torque's form."""
    qsub = fake_pbs.folder / "bin" / "qsub"
    qsub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\necho "1234[].server"\n')
    executor = submitit.AutoExecutor(tmp_path / "log", cluster="pbs", pbs_dialect="torque")
    executor.update_parameters(cpus_per_task=2, mem_gb=1, pbs_array_parallelism=2)
    jobs = executor.map_array(pow, [2, 3, 4], [2, 2, 2])
    assert [job.job_id for job in jobs] == ["1234[0].server", "1234[1].server", "1234[2].server"]
    told = (tmp_path / "told").read_text().split("\n")
    assert "nodes=1:ppn=2" in told and "mem=1024mb" in told and "0-2%2" in told and "-t" in told
    assert "--" not in told and told[-2].endswith(".sh")


def test_given_what_the_fake_refuses_then_the_executor_never_asks_for_it(
    executor: submitit.AutoExecutor, fake_pbs: FakePbs
) -> None:
    executor.update_parameters(
        name="x" * 15, cpus_per_task=3, pbs_account="proj-1", pbs_directives=["-m", "n"]
    )
    fake_pbs.hold()
    executor.map_array(pow, [2, 3], [2, 3])
    (job,) = ledger.read(fake_pbs.folder)["jobs"].values()
    assert job["resources"] == {"select": "1:ncpus=3:mpiprocs=1", "walltime": "00:05:00"}
    assert job["command"][:2] == ["/bin/bash", "-l"], "no login shell above that would die of TERM"
