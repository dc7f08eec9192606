"""Whatever ends a run, whenever: the same command goes on, and the draws are those of a run that nobody disturbed."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hpcxpcs.errors import Stopped
from hpcxpcs.runs.claims import live_holdings
from hpcxpcs.runs.run import Run
from hpcxpcs.runs.sealed import HEADER_BYTES, peek, read_sealed, write_sealed
from hpcxpcs.runs.status import read_status
from tests.acceptance.jobs import (
    PROGRAM,
    ROOT,
    Job,
    Jobs,
    copied,
    digest,
    events,
    hooked,
    prepared_digest,
    ranks,
)
from tests.cli.fitting import content, fit

STEPS = "hpcxpcs.inference.nuts:advance"
UNHURRIED = hooked(**{STEPS: {"pause": 0.1}})
"""The program, so slow that it can be met in the middle of sampling; the draws are the same."""

OFTEN = ("--set", "runtime.checkpoint_every=20")
UNGATHERED = ("complete.json", "events.jsonl", "results", "checks", "data/check*.h5")


def progress(run: Path, shard: int) -> int | None:
    """Steps in a shard's file."""
    header = peek(run / "shards" / f"{shard:05}.h5")
    return None if header is None else header.progress["done"]


def one_error(text: str) -> str:
    """The only error among what a command has printed."""
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("hpcxpcs: error: ")]
    return line


def test_given_a_kill_in_each_phase_in_turn_then_the_draws_are_the_same(jobs, reference, tmp_path):
    run = tmp_path / "run"

    def killed_at(place: str, call: int = 1) -> None:
        options = ("--set", "runtime.checkpoint_every=30")
        jobs.fit(run, *options, program=hooked(**{place: {"kill": call}}), expect=-signal.SIGKILL)

    killed_at("hpcxpcs.pipeline.prepare:prepare_shards")
    assert not list((run / "data").glob("*.h5"))
    killed_at(STEPS, 2)
    assert progress(run, 0) == 30, "in warm-up"
    killed_at(STEPS, 5)
    assert (progress(run, 0), progress(run, 1)) == (30, 120), "while drawing another, of which more is left to do"
    killed_at("hpcxpcs.pipeline.gather:certified")
    assert not (run / "data" / "check.h5").exists()
    killed_at("hpcxpcs.results.write:posterior_files")
    assert not (run / "results").exists(), "numbers appear whole or not at all"
    jobs.fit(run)
    assert digest(run) == reference.digest
    assert [path.name for path in run.glob(".results*")] == []
    assert not list((run / "claims").glob("[!.]*"))


@pytest.mark.parametrize("seed", [1])
def test_given_kills_at_random_times_until_it_completes_then_the_draws_are_the_same(jobs, reference, tmp_path, seed):
    run, chance, kills = tmp_path / "run", random.Random(seed), 0
    while True:
        job = jobs.start(run, "--workers", 2, *OFTEN)
        try:
            code = job.process.wait(timeout=chance.uniform(0.6, 2.0) * 1.3**kills)
        except subprocess.TimeoutExpired:
            job.end(signal.SIGKILL)
            kills += 1
            continue
        assert code == 0, job.text()
        break
    assert kills >= 1
    assert digest(run) == reference.digest
    assert not list((run / "failures").iterdir()), "a kill from outside is no failure of a task"


def test_given_a_deadline_signals_to_mpiexec_and_a_dead_rank_then_each_stop_is_told_and_the_draws_are_the_same(
    jobs, reference, tmp_path
):
    run = copied(reference.prepared, tmp_path / "run")
    slow = hooked(**{STEPS: {"pause": 1.0}})
    job = jobs.fit(run, *OFTEN, "--time-limit", 12, program=slow, expect=Stopped.exit_code)
    assert "(--time-limit)" in stopped(run, job)
    for number, count in ((signal.SIGTERM, 2), (signal.SIGUSR1, 4)):
        before = steps(run)
        job = jobs.start(run, *OFTEN, before=ranks(count), program=UNHURRIED)
        job.until(lambda before=before: steps(run) > before)
        job.process.send_signal(number)
        assert job.wait() == Stopped.exit_code, job.text()
        assert f"({number.name} was received)" in stopped(run, job)
    finished = done_shards(run)
    job = jobs.start(run, *OFTEN, before=ranks(3), program=UNHURRIED)
    job.until(lambda: len(done_shards(run)) > len(finished))
    victim = [event["worker_pid"] for event in events(run, "worker") if event["name"] == "rank 1"][-1]
    job.until(lambda: caught_at_work(run, victim))
    os.kill(victim, signal.SIGKILL)
    assert job.wait() not in (0, Stopped.exit_code)
    assert "BAD TERMINATION" in job.text()  # the process that MPICH names beside it may be a bystander
    lost = {task.holder for task in read_status(Run.open(run)).tasks if task.lost}
    assert any(str(victim) in holder for holder in lost)
    finished = done_shards(run)
    assert 1 <= len(finished) < 6
    jobs.fit(run, *OFTEN, before=ranks(3))
    assert digest(run) == reference.digest
    assert finished == {path: path.read_bytes() for path in finished}, "finished work stays"


def test_given_no_time_at_all_then_it_stops_before_it_begins(jobs, tmp_path):
    job = jobs.fit(tmp_path / "run", "--time-limit", 0.01, expect=Stopped.exit_code)
    assert "(--time-limit)" in stopped(tmp_path / "run", job)


def caught_at_work(run: Path, pid: int) -> bool:
    """Halt a process; let it go on, and return False, if it has no task in hand just now."""
    os.kill(pid, signal.SIGSTOP)
    if pid in {held.owner.pid for held in live_holdings(run / "claims").values()}:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def stopped(run: Path, job: Job) -> str:
    """The last line of a job that has stopped on purpose; nothing was concluded."""
    assert not (run / "complete.json").exists()
    assert "run the same command again" in one_error(job.text())
    return one_error(job.text())


def steps(run: Path) -> int:
    """Steps of all shards together."""
    return sum(progress(run, shard) or 0 for shard in range(6))


def done_shards(run: Path) -> dict[Path, bytes]:
    """Files of finished shards."""
    found = ((path, peek(path)) for path in run.glob("shards/0000?.h5"))
    return {path: path.read_bytes() for path, header in found if header is not None and header.status == "done"}


def failing_fsync(number: int) -> tuple[str, ...]:
    return hooked(fsync={"in": "shards", "call": 3, "errno": number})


def can_mount() -> bool:
    """Whether this user may mount something of its own."""
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


def failures_of_a_real_disk(jobs: Jobs, run: Path, prepared: Path) -> tuple[str, str]:
    """What a fit says on a full disk, then on a read-only one; the run is at its place afterwards, unfinished."""
    command = shlex.join(map(str, (*PROGRAM, "fit", jobs.config, "--run", run, *OFTEN)))
    room = sum(path.stat().st_blocks * 512 for path in prepared.rglob("*")) // 1024 + 80
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-euc", f"""
            mount -t tmpfs -o size={room}k none {run}
            cp -r {prepared}/. {run}
            ! {command} 2> {run}.full
            mount -o remount,size=64m {run}
            mount --bind {run}/shards {run}/shards
            mount -o remount,bind,ro {run}/shards
            ! {command} 2> {run}.read-only
            umount {run}/shards
            cp -r {run} {run}.copy
        """],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    shutil.copytree(f"{run}.copy", run, dirs_exist_ok=True)
    return Path(f"{run}.full").read_text(), Path(f"{run}.read-only").read_text()


def test_given_a_full_a_read_only_and_a_broken_disk_then_one_clear_error_each_and_it_goes_on(jobs, reference, tmp_path):
    run = tmp_path / "run"
    if can_mount():
        run.mkdir()
        full, read_only = failures_of_a_real_disk(jobs, run, reference.prepared)
    else:
        copied(reference.prepared, run)
        full, read_only = (
            jobs.fit(run, program=failing_fsync(number), expect=1).text() for number in (errno.ENOSPC, errno.EROFS)
        )
    broken = jobs.fit(run, *OFTEN, program=failing_fsync(errno.EIO), expect=1).text()
    for text, said in (
        (full, "No space left on device"), (read_only, "Read-only file system"), (broken, "Input/output error")
    ):  # fmt: skip
        assert said in one_error(text)
        assert str(run) in one_error(text)
    assert "free some space" in one_error(full)
    jobs.fit(run)
    assert digest(run) == reference.digest


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path: Path) -> None:
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 4
    path.write_bytes(altered)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def test_given_damaged_files_then_they_are_named_made_again_and_the_draws_are_the_same(jobs, reference, tmp_path):
    run = copied(reference.run, tmp_path / "run", without=("complete.json", "events.jsonl", "results"))
    flipped(run / "data" / "00000.h5")
    for number, damage in enumerate((torn, flipped, emptied, Path.unlink)):
        damage(run / "shards" / f"{number:05}.h5")
    flipped(run / "shards" / "00000.prev.h5")
    flipped(run / "checks" / "00001.h5")
    job = jobs.fit(run)
    for name in ("data/00000.h5", "shards/00000.h5", "shards/00001.h5", "shards/00002.h5", "checks/00001.h5"):
        assert f"{run / name}: " in job.text()
    made = {event["task"] for event in events(run, "done")}
    assert made == {"prepare-00000", *(f"shard-{number:05}" for number in range(4)), "check-00001"}
    assert prepared_digest(run) == reference.prepared_digest
    assert digest(run) == reference.digest


def foreign(path: Path) -> None:
    """The shard of another run."""
    whole = read_sealed(path, kind="chains", run_id=Run.open(path.parents[1]).plan.run_id)
    write_sealed(path, dataclasses.replace(whole, run_id="0" * len(whole.run_id)))


def future(path: Path) -> None:
    """The shard as a later version would write it: another format in its header, and all hashes right."""
    first, text, _ = path.read_bytes()[:HEADER_BYTES].split(b"\n", 2)
    text = text.replace(b'"format":1', b'"format":2')
    digest = hashlib.sha256(text).hexdigest().encode()
    header = first[: -len(digest)] + digest + b"\n" + text + b"\n"
    path.write_bytes(header.ljust(HEADER_BYTES, b"\0") + path.read_bytes()[HEADER_BYTES:])


@pytest.mark.parametrize(("alter", "said"), [(foreign, "belongs to run 000"), (future, "format 2")])
def test_given_a_shard_of_another_run_or_a_later_version_then_it_is_refused_and_left_alone(
    jobs, reference, tmp_path, alter, said
):
    run = copied(reference.run, tmp_path / "run", without=UNGATHERED)
    path = run / "shards" / "00002.h5"
    alter(path)
    altered = path.read_bytes()
    job = jobs.fit(run, expect=1)
    assert "00002.h5" in job.text()
    assert said in job.text()
    assert path.read_bytes() == altered
    assert not (run / "results").exists()


def test_given_a_changed_setting_then_it_is_refused_and_named(capfd, reference):
    changes = ("optimization.cmc.per_shard_mcmc.num_samples=120", "optimization.cmc.per_shard_mcmc.seed=7")
    before = content(reference.run)
    outcome = fit(capfd, reference.config, reference.run, *changes)
    assert outcome.code == 2
    assert "the setting optimization.cmc.per_shard_mcmc.num_samples was 100, is 120" in one_error(outcome.err)
    assert "seed" not in outcome.err, "the first difference only"
    assert content(reference.run) == before


def test_given_changed_data_then_they_are_refused_and_named(capfd, reference, tmp_path):
    from tests.cli.fitting import simulated

    other = simulated(tmp_path, angles=3, frames=60, seed=4).with_suffix(".hdf")
    config = reference.variant(tmp_path / "moved.yaml", experimental_data={"file_path": str(other)})
    outcome = fit(capfd, config, reference.run)
    assert outcome.code == 2
    assert "the data have changed: fingerprint" in one_error(outcome.err)
    assert str(other) in outcome.err


def test_given_a_program_that_draws_otherwise_then_the_run_is_refused(capfd, reference, monkeypatch):
    monkeypatch.setattr("hpcxpcs.pipeline.plan.STREAM_VERSION", 10**6)
    outcome = fit(capfd, reference.config, reference.run)
    assert outcome.code == 2
    assert "which draws differently" in one_error(outcome.err)


def test_given_a_complete_run_then_a_second_fit_says_so_and_changes_nothing(capfd, reference):
    before = content(reference.run)
    outcome = fit(capfd, reference.config, reference.run)
    assert outcome.code == 0
    assert "error" not in outcome.err
    assert "complete (" in outcome.out
    assert content(reference.run) == before


def test_given_a_complete_run_that_was_rejected_then_the_second_fit_ends_with_the_same_code(capfd, reference, rejected):
    run, settings = rejected
    outcome = fit(capfd, reference.config, run, *settings)
    assert outcome.code == 3
    assert "complete (rejected" in outcome.out
