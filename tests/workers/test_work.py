"""The work loop in one process: what is done, what is given up, what is left to others."""

from __future__ import annotations

import threading
import types
from pathlib import Path

import numpy as np
import pytest

from hpcxpcs.errors import OutputError, Stopped
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.events import read_events
from hpcxpcs.runs.plan import new_task
from hpcxpcs.runs.run import Run, read_failures, state_of
from hpcxpcs.runs.sealed import Sealed, write_sealed
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import Patience, Pulse, do_task, lazily, work
from tests.patience import until
from tests.runs.store import age
from tests.workers import toy

SECOND = new_task("shard", 1, 99.0)


def do_all(run: Run, function=toy.draw, stop: StopRequest | None = None, **settings):
    return work(run, function, run.plan.tasks, stop or StopRequest(), **settings)


def events_of(run: Run, kind: str) -> list[str]:
    return [event["task"] for event in read_events(run.events) if event["event"] == kind]


def test_given_tasks_when_worked_on_then_all_are_done_and_their_claims_are_gone(tmp_path):
    run = toy.toy_run(tmp_path)
    report = do_all(run)
    assert report.complete
    assert report.exit_code == 0
    assert report.done == tuple(task.name for task in run.plan.tasks)
    assert [path.name for path in run.claims.iterdir() if not path.name.startswith(".")] == []
    assert toy.digest(run) == toy.expected_digest()


def test_given_tasks_of_different_cost_then_the_longest_start_first(tmp_path):
    run = toy.toy_run(tmp_path)
    work(run, toy.draw, run.plan.tasks[::-1], StopRequest())
    assert events_of(run, "started") == [task.name for task in run.plan.tasks]


def test_given_checkpoints_then_the_task_with_most_left_to_do_starts_first(tmp_path):
    run = toy.toy_run(tmp_path, count=4, blocks=10)
    for index, done in ((0, 90), (1, 10), (3, 50)):
        task = run.plan.tasks[index]
        draws = {"draws": np.concatenate([block(index, number) for number in range(done // toy.DRAWS)])}
        progress = {"done": done, "total": 100}
        write_sealed(run.task_file(task), Sealed("shard", run.plan.run_id, task.name, "sampling", progress, draws))
    do_all(run)
    order = ["shard-00002", "shard-00001", "shard-00003", "shard-00000"]
    assert events_of(run, "started") == order, "nothing, 10, 50 and 90 % of them were done"
    assert toy.digest(run) == toy.expected_digest(blocks=10)


def block(index: int, number: int) -> np.ndarray:
    """The draws of one block of a shard of the toy."""
    return np.random.default_rng([1, index, number]).normal(size=toy.DRAWS)


def test_given_a_finished_run_when_worked_on_again_then_no_task_is_called(tmp_path):
    run = toy.toy_run(tmp_path)
    do_all(run)
    report = do_all(run, function=lambda run, task, pulse: pytest.fail("called"))
    assert report.complete


def test_given_an_exception_then_it_is_recorded_with_its_place_and_the_task_is_tried_three_times(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "raise"})
    report = do_all(run)
    failures = read_failures(run, SECOND)
    assert [failure["cause"] for failure in failures] == ["ValueError: no luck with shard-00001"] * 3
    assert "misbehaves" in failures[0]["details"]
    assert report.failed == (SECOND.name,)
    assert len(report.done) == 3
    assert report.exit_code == 1


def test_given_an_exception_then_other_tasks_go_before_the_next_attempt(tmp_path):
    run = toy.toy_run(tmp_path, count=3, trouble={"shard-00000": "raise once"})
    do_all(run)
    assert events_of(run, "started") == ["shard-00000", "shard-00001", "shard-00002", "shard-00000"]


def test_given_a_passing_exception_then_the_draws_are_those_of_an_undisturbed_run(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "raise once"})
    assert do_all(run).complete
    assert toy.digest(run) == toy.expected_digest()


def test_given_another_seed_then_the_digest_differs():
    assert toy.expected_digest(seed=2) != toy.expected_digest()


def test_given_a_function_that_writes_nothing_then_the_task_is_not_done(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "nothing"})
    assert do_all(run).failed == (SECOND.name,)
    assert "without writing shards/00001.h5" in read_failures(run, SECOND)[0]["cause"]


def test_given_a_full_disk_then_the_error_reaches_the_caller_and_no_attempt_is_counted(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "disk"})
    with pytest.raises(OutputError, match="No space left"):
        do_all(run)
    assert read_failures(run, SECOND) == ()
    assert state_of(run, SECOND) == "waiting"


def test_given_a_stop_before_the_start_then_nothing_is_begun(tmp_path):
    run, stop = toy.toy_run(tmp_path), StopRequest()
    stop.request("SIGTERM was received")
    report = do_all(run, stop=stop)
    assert (report.stopped, report.exit_code) == ("SIGTERM was received", Stopped.exit_code)
    assert events_of(run, "started") == []


def test_given_a_stop_between_two_blocks_then_work_stops_there_and_continues_to_the_same_bits(tmp_path):
    run, stop = toy.toy_run(tmp_path), StopRequest()

    def stopping(run, task, pulse):
        beat = pulse.beat
        pulse.beat = lambda progress: (beat(progress), stop.request("enough"))
        return toy.draw(run, task, pulse)

    report = do_all(run, function=stopping, stop=stop)
    assert report.stopped == "enough"
    assert len(report.unfinished) == 4
    assert events_of(run, "stopped") == ["shard-00000"]
    assert do_all(run).complete
    assert toy.digest(run) == toy.expected_digest()


def test_given_a_task_that_another_process_has_then_it_is_busy(tmp_path):
    run = toy.toy_run(tmp_path)
    assert take(run.claims, SECOND.name)
    assert do_task(run, SECOND, toy.draw, StopRequest()) == "busy"


def test_given_tasks_of_others_when_not_waiting_then_the_rest_is_done_and_theirs_are_unfinished(tmp_path):
    run = toy.toy_run(tmp_path)
    assert take(run.claims, SECOND.name)
    report = do_all(run, wait=False)
    assert report.unfinished == (SECOND.name,)
    assert len(report.done) == 3


def test_given_a_task_of_another_process_that_falls_silent_when_waiting_then_it_is_taken_over(tmp_path):
    run = toy.toy_run(tmp_path)
    assert take(run.claims, SECOND.name, lease=0.2)
    assert do_all(run).complete


def test_given_a_stop_while_waiting_for_others_then_the_wait_ends(tmp_path):
    run, stop = toy.toy_run(tmp_path), StopRequest()
    assert take(run.claims, SECOND.name)
    others = [task for task in run.plan.tasks if task != SECOND]

    def ask() -> None:
        until(lambda: all(state_of(run, task) == "done" for task in others))
        stop.request("enough")

    asking = threading.Thread(target=ask)
    asking.start()
    report = do_all(run, stop=stop)
    asking.join()
    assert (report.stopped, report.unfinished) == ("enough", (SECOND.name,))


def test_given_a_process_without_a_task_then_its_function_is_never_made(tmp_path):
    run = toy.toy_run(tmp_path)
    do_all(run)
    assert do_all(run, function=lazily(lambda run: pytest.fail("made"))).complete


def test_given_many_tasks_then_the_function_is_made_once(tmp_path):
    made = []
    run = toy.toy_run(tmp_path)
    assert do_all(run, function=lazily(lambda run: made.append(run) or toy.draw)).complete
    assert len(made) == 1


def test_given_a_long_silent_step_then_the_claim_outlives_its_lease(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcxpcs.workers.work.RENEWALS_PER_LEASE", 1000)
    run = toy.toy_run(tmp_path)

    def silent(run, task, pulse):
        for _ in range(3):
            age(pulse.claim.path, 61.0)
            until(lambda: state_of(run, task) == "running")
        assert pulse.may_publish()
        return "stopped"

    assert do_task(run, SECOND, silent, StopRequest(), Patience(lease=60.0, hang_after=600.0)) == "stopped"


def test_given_a_stolen_claim_then_the_task_ends_at_its_next_beat_and_does_not_fail(tmp_path):
    run = toy.toy_run(tmp_path)

    def robbed(run: Run, task, pulse: Pulse):
        pulse.claim.path.unlink()
        assert take(run.claims, task.name)
        assert not pulse.may_publish()
        pulse.beat({"done": 1, "total": 2})

    assert do_task(run, SECOND, robbed, StopRequest()) == "busy"
    assert read_failures(run, SECOND) == ()
    assert state_of(run, SECOND) == "running"


def test_given_no_beat_for_long_then_the_hang_is_noticed_with_its_place(tmp_path):
    run, stacks = toy.toy_run(tmp_path), []
    claim = take(run.claims, SECOND.name)

    def hang_here() -> None:
        until(lambda: stacks)

    patience = Patience(lease=600.0, hang_after=0.3)
    with Pulse(run, SECOND, claim, StopRequest(), patience, on_hang=lambda p: stacks.append(p.stack())):
        hang_here()
    assert "hang_here" in stacks[0]


def test_given_regular_beats_then_no_hang_is_noticed(tmp_path, monkeypatch):
    clock, looks, hangs = [0.0], [], []

    def read_clock() -> float:
        looks.append(threading.current_thread() is not threading.main_thread())
        return clock[0]

    monkeypatch.setattr("hpcxpcs.workers.work.time", types.SimpleNamespace(monotonic=read_clock))
    run = toy.toy_run(tmp_path)
    claim = take(run.claims, SECOND.name)
    with Pulse(run, SECOND, claim, StopRequest(), Patience(0.04, 600.0), on_hang=hangs.append) as pulse:
        for number in range(5):
            clock[0] += 400.0
            seen = sum(looks)
            until(lambda seen=seen: sum(looks) > seen)
            pulse.beat({"done": number, "total": 5})
    assert hangs == []


def test_given_many_beats_then_few_events(tmp_path):
    run = toy.toy_run(tmp_path)
    claim = take(run.claims, SECOND.name)
    with Pulse(run, SECOND, claim, StopRequest(), Patience()) as pulse:
        for number in range(50):
            pulse.beat({"done": number, "total": 50})
    events = [event for event in read_events(run.events) if event["event"] == "progress"]
    assert [(event["task"], event["done"], event["total"]) for event in events] == [(SECOND.name, 0, 50)]


def test_given_a_run_folder_elsewhere_then_the_toy_is_an_ordinary_run(tmp_path):
    run = toy.toy_run(tmp_path / "with blank 'and' quote")
    assert do_all(Run.open(Path(run.folder))).complete
