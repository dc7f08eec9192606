"""The run folder survives the end of its writer at every line, and every failure of the disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("faulty_store.py")
ROOT = Path(__file__).parents[2]
FILES = ["first file", "second generation", "third generation", "after damage"]
STEPPING = [*FILES, "new run", "claim", "takeover", "failure"]
ALL = [*STEPPING, "release", "event", "fresh start"]


def suffer(tmp_path, scenario, fault):
    """Try a scenario with a fault at every possible point."""
    return subprocess.run(
        [sys.executable, str(PROGRAM), scenario, fault, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def survived(child):
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("scenario", ALL)
def test_given_a_kill_before_any_line_of_the_store_then_old_or_new_is_there_and_doing_it_again_completes(
    tmp_path, scenario
):
    found = survived(suffer(tmp_path, scenario, "kill at line"))
    assert found["points"] > 20
    assert set(found["codes"]) == {-9, 0}
    assert len(set(found["states"])) == 2 or scenario == "release"


@pytest.mark.parametrize("end", ["leave at step", "kill at step"])
@pytest.mark.parametrize("scenario", STEPPING)
def test_given_an_end_after_any_write_step_then_old_or_new_is_there_and_doing_it_again_completes(
    tmp_path, scenario, end
):
    found = survived(suffer(tmp_path, scenario, end))
    assert found["points"] >= 3
    assert len(set(found["states"])) == 2
    changes = [before != after for before, after in zip(found["states"], found["states"][1:], strict=False)]
    assert sum(changes) == 1


@pytest.mark.parametrize("scenario", [*FILES, "new run"])
def test_given_no_hard_links_and_a_kill_before_any_line_then_old_or_new_is_there(tmp_path, scenario):
    found = survived(suffer(tmp_path, scenario, "no links, kill at line"))
    assert len(set(found["states"])) == 2


@pytest.mark.parametrize("fault", ["ENOSPC once", "EIO once", "EDQUOT lasting", "EROFS lasting"])
@pytest.mark.parametrize("scenario", ALL)
def test_given_any_call_that_fails_then_the_error_is_clear_and_doing_it_again_completes(tmp_path, scenario, fault):
    found = survived(suffer(tmp_path, scenario, fault))
    assert 3 in found["codes"]
    assert found["left_over"] == []


@pytest.mark.parametrize("scenario", [*STEPPING, "event"])
def test_given_a_file_that_may_not_grow_at_any_size_then_the_error_is_clear_and_the_old_one_stays(tmp_path, scenario):
    found = survived(suffer(tmp_path, scenario, "file size"))
    assert set(found["codes"]) == {0, 3}
    assert found["left_over"] == []


@pytest.mark.parametrize("fault", ["kill at line", "leave at step"])
def test_given_a_writer_that_writes_in_place_then_these_tests_notice(tmp_path, fault):
    child = suffer(tmp_path, "in place", fault)
    assert child.returncode == 1
    assert "generation 0" in child.stderr
