"""A run folder begins once, refuses another plan, and tells how far each task is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.errors import OutputError, PlanMismatch, StoreError, TornFile
from hpcxpcs.files.array_store import TAG_FILE
from hpcxpcs.runs import claims
from hpcxpcs.runs.plan import new_task
from hpcxpcs.runs.run import (
    MOST_ATTEMPTS,
    PLAN_FILE,
    Run,
    discard,
    forget_failures,
    record_failure,
    set_aside_damaged,
    state_of,
)
from hpcxpcs.runs.sealed import write_sealed
from tests.patience import PATIENCE
from tests.runs.store import TASK, age, finished, sample_plan, sample_sealed

ROOT = Path(__file__).parents[2]
BEGIN_TOGETHER = """
import sys
from pathlib import Path
from hpcxpcs.runs.run import Run
from tests.runs.store import sample_plan

wanted = sample_plan(run_id=sys.argv[2])
sys.stdin.readline()
print(Run.create(Path(sys.argv[1]), wanted).plan.run_id)
"""


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "a run", sample_plan())


def test_given_a_new_run_then_every_folder_is_there_and_it_can_be_opened(run):
    assert Run.open(run.folder) == run
    assert json.loads((run.folder / PLAN_FILE).read_text())["run_id"] == run.plan.run_id
    folders = {entry.name for entry in run.folder.iterdir() if entry.is_dir()}
    assert folders == {"data", "point", "shards", "exact", "checks", "items", "claims", "failures", "logs"}


def test_given_a_run_then_each_task_has_its_file(run):
    assert run.task_file(new_task("shard", 12)) == run.folder / "shards" / "00012.h5"
    assert run.task_file(new_task("exact", 2)) == run.folder / "exact" / "00002.h5"
    assert run.task_file(new_task("check", 5)) == run.folder / "checks" / "00005.h5"
    assert run.data_file("full") == run.folder / "data" / "full.h5"
    assert run.results == run.folder / "results"


def test_given_the_same_plan_again_then_the_first_run_is_continued(run):
    again = Run.create(run.folder, sample_plan(run_id="another", created="later"))
    assert again.plan.run_id == run.plan.run_id


def test_given_matrices_that_a_point_fit_has_kept_then_a_run_begins_beside_them(tmp_path):
    kept = tmp_path / "run" / "data" / "cache"
    kept.mkdir(parents=True)
    (kept / TAG_FILE).write_text("")
    (kept / "matrix").write_text("")
    assert Run.create(tmp_path / "run", sample_plan()).folder == tmp_path / "run"
    assert (kept / "matrix").exists()


def test_given_another_plan_then_it_is_refused_and_the_run_stays(run):
    before = (run.folder / PLAN_FILE).read_bytes()
    with pytest.raises(PlanMismatch, match=r"a run: .*seed was 7, is 8"):
        Run.create(run.folder, sample_plan(seed=8))
    assert (run.folder / PLAN_FILE).read_bytes() == before


@pytest.mark.parametrize("name", ["missing", "empty", "file/below"])
def test_given_a_folder_without_a_run_then_the_error_says_how_to_start_one(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"holds no run.*hpcxpcs fit"):
        Run.open(tmp_path / name)


def test_given_an_altered_plan_then_it_is_neither_opened_nor_replaced(run):
    (run.folder / PLAN_FILE).write_text((run.folder / PLAN_FILE).read_text().replace('"chains": 4', '"chains": 5'))
    for attempt in (lambda: Run.open(run.folder), lambda: Run.create(run.folder, sample_plan())):
        with pytest.raises(TornFile, match="changed after it was written"):
            attempt()


def test_given_a_file_in_the_way_of_the_folder_then_the_error_names_it(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="run"):
        Run.create(tmp_path / "run", sample_plan())


def test_given_many_processes_that_begin_at_once_then_all_work_on_one_run(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", BEGIN_TOGETHER, str(folder)]
    beginners = [
        subprocess.Popen([*command, f"id-{number}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    for beginner in beginners:
        beginner.stdin.write("\n")
        beginner.stdin.flush()
    found = {beginner.communicate(timeout=PATIENCE)[0].strip() for beginner in beginners}
    assert found == {Run.open(folder).plan.run_id}
    assert not list(folder.glob(".*"))


def test_given_a_task_then_its_state_follows_what_happens_to_it(run):
    states = [state_of(run, TASK)]
    claim = claims.take(run.claims, TASK.name)
    states.append(state_of(run, TASK))
    write_sealed(run.task_file(TASK), sample_sealed(1))
    states.append(state_of(run, TASK))
    claim.release()
    states.append(state_of(run, TASK))
    write_sealed(run.task_file(TASK), finished())
    states.append(state_of(run, TASK))
    assert states == ["waiting", "running", "running", "waiting", "done"]


def test_given_too_many_failures_then_the_task_has_failed_until_they_are_forgotten(run):
    states = []
    for _ in range(MOST_ATTEMPTS):
        states.append(state_of(run, TASK))
        record_failure(run, TASK, "it broke")
    assert states == ["waiting"] * MOST_ATTEMPTS
    assert state_of(run, TASK) == "failed"
    forget_failures(run, TASK)
    assert state_of(run, TASK) == "waiting"


def test_given_failures_and_a_result_then_the_task_is_done(run):
    for _ in range(MOST_ATTEMPTS):
        record_failure(run, TASK, "it broke")
    write_sealed(run.task_file(TASK), finished())
    assert state_of(run, TASK) == "done"


def test_given_a_result_that_was_cut_or_is_of_another_run_then_the_task_is_not_done(run):
    write_sealed(run.task_file(TASK), finished(run_id="other"))
    assert state_of(run, TASK) == "waiting"
    write_sealed(run.task_file(TASK), finished())
    run.task_file(TASK).write_bytes(run.task_file(TASK).read_bytes()[:-1])
    assert state_of(run, TASK) == "waiting"


def test_given_a_claim_without_a_sign_of_life_then_the_task_waits(run):
    claims.take(run.claims, TASK.name, lease=30)
    age(run.claims / TASK.name, 31)
    assert state_of(run, TASK) == "waiting"


def test_given_a_folder_that_may_only_be_read_then_states_can_be_read(run, monkeypatch):
    claims.take(run.claims, TASK.name)
    monkeypatch.setattr(claims.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert state_of(run, TASK) == "running"


def test_given_a_finished_file_with_one_bit_changed_then_it_is_set_aside_and_the_task_waits(run):
    path = run.task_file(TASK)
    write_sealed(path, sample_sealed(4))
    write_sealed(path, finished())
    altered = bytearray(path.read_bytes())
    altered[-100] ^= 1
    path.write_bytes(altered)
    warned = []
    set_aside_damaged(run, run.plan.tasks, warned.append)
    (warning,) = warned
    assert f"{path}: does not have the hash it was given" in warning
    assert "kept as 00003.damaged" in warning
    assert path.with_suffix(".damaged").read_bytes() == altered
    assert state_of(run, TASK) == "waiting"


def test_given_whole_files_and_checkpoints_then_none_is_set_aside(run):
    path = run.task_file(TASK)
    for content in (sample_sealed(4), finished()):
        write_sealed(path, content)
        set_aside_damaged(run, run.plan.tasks, pytest.fail)
        assert path.exists()


def test_given_a_fresh_start_then_the_work_is_gone_and_results_and_logs_stay(run):
    write_sealed(run.task_file(TASK), finished())
    run.results.mkdir()
    (run.logs / "0.log").touch()
    discard(run.folder)
    assert {entry.name for entry in run.folder.iterdir()} == {"results", "logs"}
    assert state_of(Run.create(run.folder, sample_plan(seed=8)), TASK) == "waiting"


def test_given_a_process_at_work_then_a_fresh_start_is_refused_and_it_is_named(run):
    claim = claims.take(run.claims, TASK.name)
    with pytest.raises(StoreError, match=f"process {claim.owner.pid} on .* works on shard-00003"):
        discard(run.folder)
    assert Run.open(run.folder) == run


def test_given_no_run_then_a_fresh_start_changes_nothing(tmp_path):
    discard(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
