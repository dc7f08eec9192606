"""One live owner per task; one successor of a dead one."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.errors import OutputError, StoreError
from hpcxpcs.files import atomic
from hpcxpcs.runs import claims
from hpcxpcs.runs.claims import holding, live_holdings, take
from tests.patience import PATIENCE
from tests.runs.store import age

ROOT = Path(__file__).parents[2]
NAME = "shard-00003"
CLAIMANT = """
import sys
from pathlib import Path
from hpcxpcs.runs.claims import take

print("ready", flush=True)
for line in sys.stdin:
    claim = take(Path(sys.argv[1]), line.strip(), lease=float(sys.argv[2]))
    print("mine" if claim else "busy", flush=True)
"""


class Claimant:
    """A process that claims what it is told to."""

    def __init__(self, folder, lease=60.0):
        command = [sys.executable, "-c", CLAIMANT, str(folder), str(lease)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def ask(self, name):
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()

    def end(self, sign=signal.SIGKILL, *, reap=True):
        self.process.send_signal(sign)
        if reap:
            self.process.communicate(timeout=PATIENCE)
        else:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def claimants(tmp_path):
    """Make processes that claim tasks in tmp_path; all are ended after the test."""
    started = []

    def start(count=1):
        started.extend(Claimant(tmp_path) for _ in range(count))
        return started[-count:]

    yield start
    for claimant in started:
        if claimant.process.returncode is None:
            claimant.end()


def elsewhere(folder, name=NAME, *, token="old", silent=0.0, lease=60.0):
    """A claim of a process on another machine that gave its last sign of life so many seconds ago."""
    record = {"token": token, "host": "elsewhere", "pid": 1, "machine": "another", "lease": lease}
    (folder / name).write_text(json.dumps(record))
    age(folder / name, silent)


def test_given_a_free_task_then_it_is_claimed_and_says_by_whom(tmp_path):
    claim = take(tmp_path, NAME, lease=30)
    held = holding(tmp_path, NAME)
    assert held.live
    assert held.owner == claim.owner
    assert (held.owner.host, held.owner.pid, held.owner.lease) == (socket.gethostname(), os.getpid(), 30)
    assert json.loads((tmp_path / NAME).read_text())["started"].endswith("+00:00")


def test_given_a_claimed_task_then_nobody_else_gets_it_until_it_is_released(tmp_path):
    claim = take(tmp_path, NAME)
    assert take(tmp_path, NAME) is None
    claim.release()
    assert holding(tmp_path, NAME) is None
    assert take(tmp_path, NAME) is not None


def test_given_nobody_then_there_is_no_holding(tmp_path):
    assert holding(tmp_path, NAME) is None
    assert live_holdings(tmp_path) == {}
    assert live_holdings(tmp_path / "missing") == {}


def test_given_silence_within_the_lease_then_the_claim_is_respected_and_beyond_it_is_not(tmp_path):
    elsewhere(tmp_path, silent=50)
    assert take(tmp_path, NAME) is None
    elsewhere(tmp_path, silent=70)
    assert take(tmp_path, NAME).still_mine()


def test_given_the_owners_own_lease_then_it_decides_and_not_that_of_the_next(tmp_path):
    elsewhere(tmp_path, silent=70, lease=3600)
    assert take(tmp_path, NAME, lease=1) is None


def test_given_a_renewed_claim_then_it_lives_on(tmp_path):
    claim = take(tmp_path, NAME, lease=30)
    age(tmp_path / NAME, 1000)
    assert not holding(tmp_path, NAME).live
    assert claim.renew()
    assert holding(tmp_path, NAME).live
    assert holding(tmp_path, NAME).age < 30


def test_given_a_clock_of_this_machine_that_is_wrong_then_ages_are_still_right(tmp_path, monkeypatch):
    elsewhere(tmp_path, silent=10)
    monkeypatch.setattr(claims.time, "time", lambda: 0.0)
    assert 5 < holding(tmp_path, NAME).age < 60


def test_given_a_claim_that_was_taken_over_then_the_former_owner_learns_it_and_does_no_harm(tmp_path):
    former = take(tmp_path, NAME, lease=-1)
    owner = take(tmp_path, NAME)
    assert (former.still_mine(), former.renew()) == (False, False)
    former.release()
    assert owner.still_mine()
    owner.release()
    assert list(tmp_path.glob("[!.]*")) == []
    assert list(tmp_path.glob(".*after*")) == []


def test_given_a_claim_that_somebody_removed_then_it_is_not_mine_any_more(tmp_path):
    claim = take(tmp_path, NAME)
    (tmp_path / NAME).unlink()
    assert (claim.still_mine(), claim.renew()) == (False, False)
    claim.release()


def test_given_a_killed_owner_on_this_machine_then_its_task_is_free_at_once(tmp_path, claimants):
    (claimant,) = claimants()
    claimant.ask(NAME)
    assert claimant.answer() == "mine"
    assert take(tmp_path, NAME) is None
    claimant.end()
    assert take(tmp_path, NAME).still_mine()


def test_given_a_killed_owner_that_its_parent_has_not_noticed_then_its_task_is_free_at_once(tmp_path, claimants):
    (claimant,) = claimants()
    claimant.ask(NAME)
    assert claimant.answer() == "mine"
    claimant.end(reap=False)
    assert take(tmp_path, NAME).still_mine()


def test_given_another_process_with_the_id_of_a_dead_owner_then_the_task_is_free(tmp_path):
    take(tmp_path, NAME)
    record = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**record, "process_start": record["process_start"] - 1}))
    assert take(tmp_path, NAME) is not None


def test_given_the_same_process_id_on_another_machine_then_the_claim_is_respected(tmp_path):
    take(tmp_path, NAME)
    record = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**record, "process_start": 1, "machine": "another boot"}))
    assert take(tmp_path, NAME) is None


def test_given_a_process_table_that_cannot_be_read_then_nobody_is_taken_for_dead(tmp_path, monkeypatch):
    take(tmp_path, NAME)
    real = Path.read_text

    def no_more_files(path, *arguments):
        if path.name == "stat":
            raise OSError(24, "Too many open files")
        return real(path, *arguments)

    monkeypatch.setattr(Path, "read_text", no_more_files)
    assert holding(tmp_path, NAME).live


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_given_a_half_made_claim_then_it_is_respected_for_a_lease_and_then_taken_over(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert take(tmp_path, NAME) is None
    age(tmp_path / NAME, claims.LEASE + 1)
    assert take(tmp_path, NAME).still_mine()


def test_given_a_successor_that_died_before_it_took_over_then_the_next_one_does(tmp_path):
    elsewhere(tmp_path, silent=1000)
    elsewhere(tmp_path, f".{NAME}.after-old", token="second", silent=1000)
    elsewhere(tmp_path, f".{NAME}.after-second", token="third", silent=1000)
    claim = take(tmp_path, NAME)
    assert claim.still_mine()
    claim.release()
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".now")] == []


def test_given_a_successor_that_is_just_taking_over_then_others_keep_away(tmp_path):
    elsewhere(tmp_path, silent=1000)
    elsewhere(tmp_path, f".{NAME}.after-old", token="second", silent=1)
    assert take(tmp_path, NAME) is None


def test_given_a_claim_that_was_renewed_by_another_while_it_was_judged_then_that_one_keeps_it(tmp_path, monkeypatch):
    elsewhere(tmp_path, silent=1000)

    def another_was_faster(step):
        if step.startswith("linked"):
            elsewhere(tmp_path, token="new")

    monkeypatch.setattr(atomic, "reached", another_was_faster)
    assert take(tmp_path, NAME) is None
    assert holding(tmp_path, NAME).owner.token == "new"
    assert list(tmp_path.glob(".*after*")) == []


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_given_many_processes_that_claim_the_same_tasks_at_once_then_each_task_has_one_owner(
    tmp_path, claimants, stale
):
    names = [f"shard-{index:05d}" for index in range(25)]
    rivals = claimants(4)
    for name in names:
        if stale:
            elsewhere(tmp_path, name, silent=1000)
        for rival in rivals:
            rival.ask(name)
    for name in names:
        answers = sorted(rival.answer() for rival in rivals)
        assert answers == ["busy", "busy", "busy", "mine"], name
    assert sorted(live_holdings(tmp_path)) == names


def test_given_no_hard_links_then_a_task_still_has_one_owner(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    claim = take(tmp_path, NAME)
    assert claim.still_mine()
    assert take(tmp_path, NAME) is None


def test_given_a_missing_folder_then_the_error_names_it(tmp_path):
    with pytest.raises(OutputError, match="missing"):
        take(tmp_path / "missing", NAME)


def test_given_a_claim_that_cannot_be_read_then_the_error_names_it(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(StoreError, match=NAME):
        take(tmp_path, NAME)
