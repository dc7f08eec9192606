"""Requests to a real Slurm: what it answers about jobs that are known, forgotten, waiting, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcxpcs.errors import SchedulerProblem


@pytest.fixture
def script(tmp_path) -> Path:
    """A script in a folder whose name is one pitfall after the other: submitit takes %a for an array's index."""
    path = tmp_path / "it's %a “run” $HOME" / "job.sbatch"
    path.parent.mkdir()
    return path


def write(script: Path, command: str, *options: str) -> Path:
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in ("--output=/dev/null", *options)),
        command,
        "",
    ]
    script.write_text("\n".join(lines))
    return script


def test_given_scripts_then_exit_codes_and_signals_are_told_and_nothing_is_left_beside_them(batch, script):
    good = batch.slurm.submit(write(script, "exit 0"))
    stopped = batch.slurm.submit(write(script, "exit 75", "--array=0-1"))
    killed = batch.slurm.submit(write(script, "kill -9 $$"))
    batch.until(lambda: not batch.states(good, stopped, killed) & {"waiting", "running"})
    found = [(look.index, look.state, look.exit_code) for look in batch.looks(good, stopped, killed)]
    assert found == [(None, "done", 0), (0, "failed", 75), (1, "failed", 75), (None, "failed", 128 + 9)]
    assert list(script.parent.iterdir()) == [script]
    assert f"Command={script}" in batch.lab.ask("scontrol", "show", "job", good)


def test_given_forgotten_jobs_then_they_are_gone_alone_or_among_others(batch, script):
    held = batch.slurm.submit(write(script, "true", "--hold", "--array=0-2"))
    assert [look.state for look in batch.looks("9999999")] == ["gone"]
    assert [(look.job, look.state) for look in batch.looks(f"{held}_1", "9999999")] == [
        (held, "waiting"),
        ("9999999", "gone"),
    ]
    assert {look.reason for look in batch.looks(held)} == {"JobHeldUser"}


def test_given_a_dependency_on_a_job_that_never_was_then_the_job_does_not_wait_for_ever(batch, script):
    job = batch.slurm.submit(write(script, "true"), after="9999999")
    batch.until(lambda: batch.states(job) <= {"done", "cancelled"})


def test_when_jobs_are_cancelled_then_ended_and_unknown_ones_are_no_error(batch, script):
    ended = batch.slurm.submit(write(script, "true"))
    waiting = batch.slurm.submit(write(script, "true", "--hold"))
    batch.until(lambda: batch.states(ended) == {"done"})
    batch.slurm.cancel([ended, waiting, "9999999"])
    assert [look.state for look in batch.looks(ended, waiting)] == ["done", "cancelled"]


def test_given_a_queue_that_is_not_there_then_slurm_s_own_words_are_told(batch, script):
    with pytest.raises(SchedulerProblem, match=r"sbatch --parsable .*: exit code 1: .*invalid partition"):
        batch.slurm.submit(write(script, "true", "--partition=fast"))


def test_given_programs_that_fail_then_looking_is_an_error_and_not_a_gone_job(batch, monkeypatch):
    broken = batch.folder / "slurm.conf"
    broken.write_text("ClusterName=lab\nNonsense=1\n")
    monkeypatch.setenv("SLURM_CONF", str(broken))
    with pytest.raises(SchedulerProblem, match=r"(?s)squeue .*: exit code 1: .*Nonsense.*: see whether squeue works"):
        batch.slurm.look(["1"])
