"""`hpcxpcs submit`, `status`, `cancel`, `logs`, `resume` of runs in a queue.

The queue is a fake: programs that speak the grammar recorded from a real OpenPBS server and start real processes
(tests/batch/fake_pbs). tests/slurm does the same on a real Slurm.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.batch.submissions import read_record
from hpcxpcs.runs.events import read_events
from hpcxpcs.runs.run import Run
from tests.acceptance.jobs import digest
from tests.batch.pbs_fixture import FakePbs
from tests.cli.submitted import hpcxpcs, small_config, status_of
from tests.patience import until

SHELLCHECK = Path(sys.prefix) / "bin" / "shellcheck"
PBS = ("--scheduler", "pbs")
CENTRES = ("alcf-polaris", "alcf-aurora", "lcrc-bebop", "lcrc-improv", "nersc-perlmutter")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_config(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def expected(config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the draws of a run without any scheduler."""
    run = tmp_path_factory.mktemp("local") / "run"
    hpcxpcs("fit", config, "--run", run, code=None)
    return digest(run)


@pytest.fixture
def queue(fake_pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePbs:
    """A fake PBS, and the test's own folder to submit from."""
    monkeypatch.chdir(tmp_path)
    return fake_pbs


def scripts_in(text: str) -> list[str]:
    """The scripts that a dry run prints."""
    return [part[part.index("#!") :] for part in re.split(r"^# --- .*$", text, flags=re.MULTILINE)[1:]]


def accepted_by_shellcheck(text: str, folder: Path) -> None:
    scripts = scripts_in(text)
    assert scripts
    for number, script in enumerate(scripts):
        path = folder / f"dry-{number}.sh"
        path.write_text(script)
        subprocess.run([SHELLCHECK, "--shell=bash", path], check=True)


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
@pytest.mark.parametrize("kind", [(), ("--mpi",)], ids=["array", "mpi"])
def test_given_a_dry_run_then_scripts_are_printed_that_shellcheck_accepts_and_nothing_is_written(
    config, scheduler, kind, tmp_path
):
    run = tmp_path / "runs" / "a b$c"
    told = hpcxpcs("submit", config, "--scheduler", scheduler, "--run", run, *kind, "--dry-run")
    accepted_by_shellcheck(told, tmp_path)
    assert "core-hours at most" in told and str(run / "logs") in told
    assert ("sbatch" if scheduler == "slurm" else "qsub") in told
    assert not run.parent.exists()


@pytest.mark.parametrize("site", CENTRES)
def test_given_a_known_centre_then_its_scripts_pass_shellcheck(config, site, tmp_path):
    asked = ("--site", site, "--account", "xpcs", "--run", tmp_path / "run", "--dry-run")
    accepted_by_shellcheck(hpcxpcs("submit", config, *asked), tmp_path)
    accepted_by_shellcheck(hpcxpcs("submit", config, *asked, "--mpi"), tmp_path)


@pytest.mark.parametrize("own", [None, "/home/me/compiled code"])
def test_given_a_centre_with_scratch_then_jobs_keep_compiled_code_there_unless_the_user_has_a_place(
    config, own, tmp_path, monkeypatch
):
    monkeypatch.delenv("HPCXPCS_CACHE_DIR", raising=False)
    scratch = tmp_path / "scratch"
    given = {"SCRATCH": str(scratch)} | ({} if own is None else {"HPCXPCS_CACHE_DIR": own})
    asked = ("--site", "nersc-perlmutter", "--account", "xpcs", "--run", tmp_path / "run", "--dry-run")
    scripts = scripts_in(hpcxpcs("submit", config, *asked, environment=given))
    place = own or str(scratch / "hpcxpcs-cache")
    assert scripts
    for script in scripts:
        (line,) = re.findall(r"^export HPCXPCS_CACHE_DIR=.*$", script, re.MULTILINE)
        assert shlex.split(line)[1] == f"HPCXPCS_CACHE_DIR={place}"


def test_given_what_a_queue_cannot_run_then_those_that_can_are_named(config, tmp_path):
    asked = ("--site", "alcf-polaris", "--account", "xpcs", "--queue", "debug", "--time", "10:00:00")
    told = hpcxpcs("submit", config, *asked, "--run", tmp_path / "run", code=2)
    assert "queue debug of alcf-polaris does not run this job" in told and "These would" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ranks", 4), "--mpi"),
        (("--mpi", "--tasks", 4), "--ranks"),
        (("--time", "soon"), "--time"),
        (("--memory", "much"), "--memory"),
        (("--site", "nersc-perlmuter"), "nersc-perlmutter"),
        (("--site", "nersc-perlmutter", "--scheduler", "pbs"), "leave one of both options out"),
        (("--set", "optimization.method=nlsq"), "hpcxpcs fit"),
    ],
)
def test_given_options_that_make_no_sense_then_the_remedy_is_told_with_exit_code_2(config, options, words, tmp_path):
    assert words in hpcxpcs("submit", config, *options, "--run", tmp_path / "run", code=2)
    assert not (tmp_path / "run").exists()


def test_given_a_login_node_then_submitting_and_looking_do_not_import_jax(config, queue, tmp_path):
    program = (
        "import sys\nfrom hpcxpcs.cli import main\n"
        "assert main(['submit', sys.argv[1], '--scheduler', 'pbs', '--run', sys.argv[2]]) == 0\n"
        "assert main(['status', sys.argv[2]]) == 0\nassert main(['cancel', sys.argv[2]]) == 0\n"
        "assert not {'jax', 'numpyro', 'matplotlib'} & set(sys.modules)\n"
    )
    queue.hold()
    subprocess.run([sys.executable, "-c", program, config, tmp_path / "run"], check=True)


def test_given_a_queue_then_an_array_works_and_a_job_after_it_gathers_the_same_draws(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    told = hpcxpcs("submit", config, *PBS, "--run", run)
    array, gather = read_record(Run.open(run)).submissions
    assert f"submitted array {array.job}" in told and f"after {array.job}" in told
    assert (array.kind, array.tasks, gather.kind, gather.after) == ("array", 2, "gather", array.job)
    queue.settle()
    assert digest(run) == expected
    found = status_of(run)
    assert found["counts"]["shard"]["done"] == 2 and found["results"]
    assert (run / "results" / "report.html").exists()
    assert "nothing is left to do" in hpcxpcs("submit", config, *PBS, "--run", run, code=None)


def test_given_scripts_that_were_only_written_then_they_can_be_submitted_by_hand(config, queue, tmp_path):
    run = tmp_path / "run"
    told = hpcxpcs("submit", config, *PBS, "--run", run, "--write-only")
    assert queue.queue() == {} and read_record(Run.open(run)) is None
    array, gather = (line for line in told.splitlines() if line.startswith("qsub"))
    queue.hold()
    job = subprocess.run(["bash", "-c", array], check=True, capture_output=True, text=True).stdout.strip()
    number = job.partition("[")[0]
    subprocess.run(["bash", "-c", gather.replace("ID[]", f"{number}[]")], check=True)
    assert {task.state for task in queue.queue().values()} == {"Q", "H"}


def test_given_a_run_at_work_then_it_is_not_submitted_twice_but_more_workers_can_be_added(
    config, expected, queue, tmp_path
):
    run = tmp_path / "run"
    queue.hold()
    hpcxpcs("submit", config, *PBS, "--run", run)
    told = hpcxpcs("submit", config, *PBS, "--run", run, code=1)
    assert "is at work" in told and "--more" in told and "hpcxpcs cancel" in told
    assert "is at work" in hpcxpcs("submit", config, *PBS, "--run", run, "--fresh", code=1)
    assert len(read_record(Run.open(run)).submissions) == 2
    hpcxpcs("submit", config, *PBS, "--run", run, "--more", "--tasks", 1)
    assert [one.kind for one in read_record(Run.open(run)).submissions] == ["array", "gather", "array"]
    queue.release()
    queue.settle()
    assert digest(run) == expected


def test_given_cancelled_jobs_then_status_says_so_and_resume_submits_again(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    queue.hold()
    hpcxpcs("submit", config, *PBS, "--run", run)
    waiting = status_of(run)
    assert [job["states"] for job in waiting["queue"]["jobs"]] == [{"waiting": 2}, {"waiting": 1}]
    assert "its jobs are in the queue" in hpcxpcs("status", run)
    assert "cancelled gather" in hpcxpcs("cancel", run)
    assert all(not {"waiting", "running"} & set(job["states"]) for job in status_of(run)["queue"]["jobs"])
    assert "hpcxpcs resume" in hpcxpcs("status", run)
    assert "no job of this run waits or runs" in hpcxpcs("cancel", run)
    queue.release()
    hpcxpcs("resume", run)
    assert len(read_record(Run.open(run)).submissions) == 4
    queue.settle()
    assert digest(run) == expected
    assert "nothing is left to do" in hpcxpcs("resume", run, code=None)


def test_given_a_submitted_run_when_resumed_with_workers_then_it_goes_on_here(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    queue.hold()
    hpcxpcs("submit", config, *PBS, "--run", run)
    hpcxpcs("cancel", run)
    told = hpcxpcs("resume", run, "--workers", 1, code=None)
    assert "submitted array" not in told and "submitted gather" not in told
    assert digest(run) == expected
    assert len(read_record(Run.open(run)).submissions) == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [((), "it was not submitted"), (("--workers", 1), "--here, --workers and --time-limit continue it here")],
)
def test_given_nothing_submitted_when_resumed_with_tasks_then_it_is_a_usage_error(config, options, why, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("fit", config, "--run", run, "--time-limit", 0, code=75)
    told = hpcxpcs("resume", run, "--tasks", 3, *options, code=2)
    words = " ".join(told.split())
    assert "--tasks hands work to a scheduler" in words and why in words and "leave --tasks out" in words
    assert status_of(run)["queue"] is None


def test_given_a_worker_that_died_then_resume_adds_as_many_as_are_missing(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    queue.hold()
    hpcxpcs("submit", config, *PBS, "--run", run)
    array = read_record(Run.open(run)).submissions[0].job
    assert "nothing has died" in hpcxpcs("resume", run)
    subprocess.run(["qdel", array.replace("[]", "[1]")], check=True)
    assert "submitted array" in hpcxpcs("resume", run)
    added = read_record(Run.open(run)).submissions[-1]
    assert (added.kind, added.tasks) == ("array", 1)
    queue.release()
    queue.settle()
    assert digest(run) == expected


def test_given_a_preempted_task_then_it_runs_again_and_the_draws_are_the_same(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("submit", config, *PBS, "--run", run, "--tasks", 2)
    array = read_record(Run.open(run)).submissions[0].job
    task = array.replace("[]", "[0]")
    queue.wait(task, "R")
    queue.preempt(task)
    queue.settle()
    assert digest(run) == expected
    assert queue.queue()[task].run_count == 2


def test_given_workers_whose_time_is_up_then_the_job_that_gathers_does_the_rest(config, expected, queue, tmp_path):
    run = tmp_path / "run"
    queue.hold()
    hpcxpcs("submit", config, *PBS, "--run", run)
    script = run / "submit" / "array.pbs"
    text = script.read_text()
    script.write_text(text.replace(' work "$RUN"', ' work "$RUN" --time-limit 0'))
    hpcxpcs("cancel", run)
    array = subprocess.run(["qsub", script], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["qsub", "-W", f"depend=afterany:{array}", run / "submit" / "gather.pbs"], check=True)
    queue.release()
    queue.settle()
    assert "stopped" in hpcxpcs("logs", run, "--job", array)
    assert digest(run) == expected


def test_given_a_whole_node_then_one_task_runs_as_many_workers_as_it_has_room_for(config, queue, tmp_path):
    site = tmp_path / "whole.yaml"
    site.write_text(
        "description: whole nodes\nscheduler: pbs\nnodes: {thin: {cores: 2}}\n"
        "queues: {whole: {node: thin, exclusive: true, max_walltime: '1:00:00'}}\n"
    )
    asked = ("--site", site, "--run", tmp_path / "run")
    alone = hpcxpcs("submit", config, *asked, "--dry-run")
    assert len(scripts_in(alone)) == 1 and "resume" in alone and "2 core-hours" in alone
    several = scripts_in(hpcxpcs("submit", config, *asked, "--tasks", 2, "--dry-run"))
    assert "--workers 2" in several[0] and len(several) == 2


def test_given_several_workers_in_one_task_then_they_do_the_same_work(config, expected, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("fit", config, "--run", run, "--time-limit", 0, code=75)
    assert "2 of 2 tasks are done" in hpcxpcs("work", run, "--workers", 2)
    workers = {event["pid"] for event in read_events(run / "events.jsonl") if event.get("task", "").startswith("shard")}
    assert len(workers) == 2
    hpcxpcs("resume", run, code=None)
    assert digest(run) == expected


def test_given_the_local_scheduler_then_the_run_goes_on_in_the_background_to_its_end(config, expected, tmp_path):
    run = tmp_path / "run"
    told = hpcxpcs("submit", config, "--scheduler", "local", "--run", run, "--wait", code=None)
    assert "submitted gather" in told
    assert digest(run) == expected
    assert (run / "logs" / "local.log").read_text()


def test_given_a_local_run_when_cancelled_then_it_stops_and_goes_on_where_it_was(config, expected, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("submit", config, "--scheduler", "local", "--run", run)
    until(
        lambda: (run / "events.jsonl").exists() and "started" in (run / "events.jsonl").read_text(),
        "the start",
    )
    assert "cancelled" in hpcxpcs("cancel", run)
    until(lambda: "no job of this run" in hpcxpcs("cancel", run), "the end")
    hpcxpcs("resume", run, code=None)
    assert digest(run) == expected


def test_given_logs_then_they_are_found_by_shard_and_by_job(config, queue, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("submit", config, *PBS, "--run", run)
    queue.settle()
    array = read_record(Run.open(run)).submissions[0].job
    shown = re.findall(r"^==> .*(\.log|\.jsonl)  ", hpcxpcs("logs", run, "--job", array), re.MULTILINE)
    assert sorted(shown) == [".jsonl", ".jsonl", ".log", ".log"]
    assert "array-" in hpcxpcs("logs", run, "--shard", 0)
    assert "gather-" in hpcxpcs("logs", run)
    assert "has no shard 7" in hpcxpcs("logs", run, "--shard", 7, code=2)


def test_given_a_run_without_jobs_then_cancel_says_how_such_a_run_ends(config, tmp_path):
    run = tmp_path / "run"
    hpcxpcs("fit", config, "--run", run, "--time-limit", 0, code=75)
    assert "Ctrl-C" in hpcxpcs("cancel", run, code=1)
    assert json.loads(hpcxpcs("status", run, "--json"))["queue"] is None


def test_given_no_scheduler_on_this_machine_then_submitting_says_where_to_go(config, tmp_path):
    bare = {"PATH": str(tmp_path)}
    told = hpcxpcs("submit", config, *PBS, "--run", tmp_path / "run", environment=bare, code=1)
    assert "qsub: cannot be started" in told and "log in to a node" in told
