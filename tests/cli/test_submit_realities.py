"""`submit`, `status`, `resume` and `cancel` where a real PBS is not as one would like it to be.

The commands run in this process, the jobs are real ones of the fake queue (tests/batch/fake_pbs).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcxpcs.batch import submissions
from hpcxpcs.batch.submissions import SubmitRecord, at_the_scheduler, read_record
from hpcxpcs.cli import main
from hpcxpcs.cli.jobs import wait_for_jobs
from hpcxpcs.cli.terminal import PhaseLines
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.run import Run
from hpcxpcs.runs.status import mark_complete
from tests.batch.pbs_fixture import FakePbs
from tests.cli.submitted import small_config

NOBODY = 65534
SECONDS = 800.0
"""What a queue of small jobs may take on a machine that does other things, too."""
Command = Callable[..., str]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_config(tmp_path_factory.mktemp("measured"), shards=4)


@pytest.fixture
def queue(fake_pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePbs:
    """A fake PBS that starts nothing yet, and the test's own folder to submit from."""
    monkeypatch.chdir(tmp_path)
    fake_pbs.hold()
    return fake_pbs


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command of the program; returns what it prints, stderr after stdout."""

    def run(*arguments: object, code: int = 0) -> str:
        capsys.readouterr()
        ended = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        text = f"{printed.out}\n{printed.err}"
        assert ended == code, text
        return text

    return run


@pytest.fixture
def submit(config: Path, told: Command, tmp_path: Path) -> Command:
    """Submit the run of these tests to PBS."""

    def run(*options: object, code: int = 0) -> str:
        return told("submit", config, "--scheduler", "pbs", "--run", tmp_path / "run", *options, code=code)

    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def record_of(run: Path) -> SubmitRecord:
    found = read_record(Run.open(run))
    assert found is not None
    return found


def kinds_and_tasks(run: Path) -> list[tuple[str, int]]:
    return [(one.kind, one.tasks) for one in record_of(run).submissions]


# ---- a server without job history ----


def test_given_no_history_then_waiting_jobs_are_seen_and_neither_doubled_nor_left(queue, submit, told, run):
    queue.set(history=False)
    submit("--tasks", 2)
    assert "its jobs are in the queue" in told("status", run)
    assert "nothing has died" in told("resume", run)
    assert "is at work" in submit(code=1)
    assert "cancelled array" in told("cancel", run)
    assert queue.queue() == {}
    assert "no job of this run waits or runs" in told("cancel", run)


def test_given_no_history_when_waiting_for_the_end_then_it_is_not_taken_for_the_end_of_jobs_that_wait(
    queue, submit, run
):
    queue.set(history=False)
    submit()
    look = submissions.queue_look(Run.open(run), record_of(run), fresh_seconds=0.0)
    assert [look.counts(one) for one in record_of(run).submissions] == [{"waiting": 4}, {"waiting": 1}]


# ---- how many workers ----


def test_given_a_number_of_tasks_when_resumed_then_so_many_are_submitted(queue, submit, told, run):
    submit("--tasks", 2)
    told("cancel", run)
    told("resume", run, "--tasks", 4)
    assert kinds_and_tasks(run)[2:] == [("array", 4), ("gather", 1)]
    told("cancel", run)
    told("resume", run)
    assert kinds_and_tasks(run)[4:] == [("array", 4), ("gather", 1)]


def test_given_workers_that_were_added_when_resumed_then_as_many_as_were_ordered_come_back(queue, submit, told, run):
    submit("--tasks", 3)
    submit("--more", "--tasks", 1)
    told("resume", run, "--tasks", 1)
    assert kinds_and_tasks(run) == [("array", 3), ("gather", 1), ("array", 1), ("array", 1)]
    told("cancel", run)
    told("resume", run)
    assert kinds_and_tasks(run)[4:] == [("array", 3), ("gather", 1)]


def test_given_an_mpi_job_that_lives_when_resumed_then_no_second_one_is_submitted(queue, submit, told, run):
    submit("--mpi", "--ranks", 2)
    assert "nothing has died" in told("resume", run)
    assert "submitted with --mpi" in " ".join(told("resume", run, "--tasks", 2, code=2).split())
    assert kinds_and_tasks(run) == [("mpi", 1)]


# ---- jobs that are refused, and those who submit at the same time ----


def refuse_gather(queue: FakePbs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let qsub refuse the job that gathers."""
    place = queue.folder / "strict"
    place.mkdir()
    (place / "qsub").write_text(
        "#!/bin/sh\n"
        'case "$*" in *gather*) echo "qsub: Job violates queue and/or server resource limits" >&2; exit 188;; esac\n'
        f'exec "{queue.folder}/bin/qsub" "$@"\n'
    )
    (place / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)


def test_given_a_second_job_that_is_refused_then_the_first_is_told_and_resume_hands_in_the_rest(
    queue, submit, told, run, monkeypatch
):
    with monkeypatch.context() as strict:
        refuse_gather(queue, strict)
        text = submit("--tasks", 2, code=1)
    assert "submitted array 1[].vm" in text
    assert "Job violates queue" in text and "The array 1[].vm before it stays in the queue" in text
    assert "hpcxpcs resume" in text and "hpcxpcs cancel" in text
    assert "submitted gather 2.vm, after 1[].vm" in told("resume", run)
    assert kinds_and_tasks(run) == [("array", 2), ("gather", 1)]
    assert queue.queue()["2.vm"].state == "H"


def test_given_two_that_submit_at_once_then_one_is_told_and_every_job_is_recorded(queue, config, run):
    words = [sys.executable, "-m", "hpcxpcs", "submit", config, "--scheduler", "pbs", "--run", run]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=SECONDS), process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 1], ended
    complaint = next(text[1] for text, code in ended if code == 1)
    assert "at this moment" in complaint or "is at work" in complaint
    assert {name.partition("[")[0].partition(".")[0] for name in queue.queue()} == {"1", "2"}
    assert len(record_of(run).submissions) == 2


def test_given_one_that_is_submitting_then_nobody_else_submits_resumes_or_cancels(queue, submit, told, run):
    submit()
    with at_the_scheduler(run):
        for text in (submit("--more", code=1), told("resume", run, code=1), told("cancel", run, code=1)):
            assert f"process {os.getpid()}" in text and "at this moment" in text
    assert "cancelled gather" in told("cancel", run)


def test_given_a_folder_in_which_no_run_can_begin_then_nothing_is_left_in_it(queue, submit, run):
    (run / "shards").mkdir(parents=True)
    (run / "shards" / "mine.h5").touch()
    assert "holds files" in submit(code=1)
    assert [path.name for path in run.iterdir()] == ["shards"]


def test_given_work_that_nobody_submitted_then_cancel_is_not_offered(queue, submit, told, run):
    submit("--write-only")
    claim = take(run / "claims", "shard-0000")
    assert claim is not None
    text = submit(code=1)
    assert "is at work" in text and "hpcxpcs cancel" not in text and "ends by hand" in text
    assert "qdel or scancel" in told("cancel", run, code=1)


# ---- what is told of jobs ----


def test_given_a_suspended_task_then_it_is_told_and_counts_as_alive(queue, submit, told, run, monkeypatch):
    submit("--tasks", 2)
    queue.release()
    queue.wait("1[].vm", "R")
    with looking_ledger(queue) as jobs:
        jobs["1"]["tasks"]["0"].update(state="S", substate=43)
    text = told("status", run)
    assert "1 suspended (suspended by the server), 1 running" in text
    assert "its jobs are in the queue" in text or "at work" in text


@contextmanager
def looking_ledger(queue: FakePbs) -> Iterator[dict]:
    from tests.batch.fake_pbs import ledger as book

    with book.opened(queue.folder) as ledger:
        yield ledger["jobs"]


def test_given_a_time_limit_then_jobs_know_it_without_qstat_on_path_and_their_stop_is_no_failure(
    queue, submit, told, run
):
    queue.set(node_path="/usr/bin:/bin")
    submit("--tasks", 2, "--time", "0:00:01")
    (queue.folder / "spool" / "2.SC").write_text("#!/bin/bash\nexit 75\n")  # what the gathering job would end with
    queue.release()
    queue.settle(SECONDS)
    assert "qstat on job 1[0].vm" in (run / "logs" / "array-1_0.log").read_text()
    assert [task.exit for task in queue.queue().values()] == [75, 75, 75]
    text = told("status", run)
    assert "2 stopped (exit code 75: stopped with everything saved, resume continues)" in text
    assert "failed" not in text
    assert wait_for_jobs(Run.open(run), PhaseLines(), fresh_seconds=0.0) == 75
    queue.set(history=False)
    assert "hpcxpcs resume" in told("status", run)


def test_given_jobs_that_failed_then_the_reason_is_told_and_waiting_ends_with_1(queue, submit, told, run):
    submit("--tasks", 2)
    for script in (run / "submit").glob("*.pbs"):
        script.write_text(script.read_text().replace("set -eo pipefail", "exit 9"))
    told("cancel", run)
    for name, words in (("array", ()), ("gather", ())):
        subprocess.run(["qsub", *words, run / "submit" / f"{name}.pbs"], check=True, stdout=subprocess.PIPE)
    record = (run / "submit" / "jobs.json").read_text()
    (run / "submit" / "jobs.json").write_text(record.replace('"1[].vm"', '"3[].vm"').replace('"2.vm"', '"4.vm"'))
    queue.release()
    queue.settle()
    assert "2 failed (exit code 9)" in told("status", run)
    assert wait_for_jobs(Run.open(run), PhaseLines(), fresh_seconds=0.0) == 1


def test_given_results_then_the_run_is_done_whatever_the_queue_said_before(queue, submit, told, run):
    submit("--tasks", 2)
    assert "its jobs are in the queue" in told("status", run)
    mark_complete(Run.open(run), "accepted", "all is well", 0)
    assert "results are in" in told("status", run)


def test_given_a_server_that_is_back_then_it_is_asked_again_soon(queue, submit, told, run, monkeypatch):
    submit("--tasks", 2)
    with monkeypatch.context() as broken:
        broken.setenv("PATH", str(run), prepend=None)
        assert "did not answer 0 s ago" in told("status", run)
    monkeypatch.setattr(submissions, "CHANGING_SECONDS", 0.0)
    assert "did not answer" not in told("status", run)


# ---- who may read the results ----


def test_given_a_umask_of_the_user_then_jobs_have_it_though_pbs_gives_another(queue, submit, run, config):
    before = os.umask(0o022)
    try:
        submit("--tasks", 2, "--time", "0:00:01")
    finally:
        os.umask(before)
    queue.release()
    queue.wait("1[].vm", seconds=SECONDS)
    logs = [path for path in (run / "logs").iterdir() if path.suffix in (".log", ".jsonl")]
    assert logs and {path.stat().st_mode & 0o777 for path in logs} == {0o644}


def test_given_a_run_that_may_not_be_read_then_it_is_told_in_words(queue, submit, told):
    folder = Path(tempfile.mkdtemp(prefix="hpcxpcs-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        submit("--write-only")
        closed = folder / "run"
        shutil.copytree("run", closed)
        closed.chmod(0o755)
        (closed / "failures").chmod(0o000)
        with another_user():
            text = told("status", closed, code=1)
        assert f"{closed}/failures" in text and "may not be opened by you" in text and "chmod" in text
        assert "Traceback" not in text
    finally:
        shutil.rmtree(folder)


@contextmanager
def another_user() -> Iterator[None]:
    """Whoever runs the tests, unless that is root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# ---- the launcher of MPI jobs ----


def put_wrapper(queue: FakePbs) -> None:
    """What PBS installs: an mpiexec beside its other programs."""
    for name in ("mpiexec", "pbsdsh"):
        (queue.folder / "bin" / name).write_text("#!/bin/sh\nexit 7\n")
        (queue.folder / "bin" / name).chmod(0o755)


def test_given_an_mpi_job_then_it_names_the_launcher_of_the_library_by_its_path(queue, submit, run):
    put_wrapper(queue)
    submit("--mpi", "--ranks", 2, "--time", "0:00:01")
    launcher = Path(sys.executable).with_name("mpiexec")
    assert f"{launcher} -n 2" in (run / "submit" / "mpi.pbs").read_text()
    queue.release()
    queue.settle(SECONDS)
    log = (run / "logs" / "mpi-1.log").read_text()
    assert queue.queue()["1.vm"].exit == 75, log
    assert log.startswith("=== mpi 1 on") and "stopped with everything saved" in log


def test_given_a_launcher_that_is_that_of_pbs_then_the_job_refuses_it_in_its_log(queue, config, told, run, tmp_path):
    put_wrapper(queue)
    site = tmp_path / "site.yaml"
    path = f"""setup: ['export PATH="{queue.folder}/bin:$PATH"']"""
    site.write_text(f'extends: generic-pbs\n{path}\nlauncher: [mpiexec, -n, "{{ranks}}"]\n')
    told("submit", config, "--site", site, "--run", run, "--mpi", "--ranks", 2)
    queue.release()
    queue.settle()
    log = (run / "logs" / "mpi-1.log").read_text()
    assert f"{queue.folder}/bin/mpiexec belongs to PBS" in log and "launcher in the site file" in log
    assert queue.queue()["1.vm"].exit == 1
