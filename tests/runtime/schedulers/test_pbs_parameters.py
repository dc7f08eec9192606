"""The script and the options that the PBS executor makes: readable, quoted, the same as recorded.

`HPCXPCS_RECORD=1 pytest FILE` writes the recorded scripts anew; look at what changed before you commit it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.runtime.schedulers.pbs_parameters import PbsParameters, output_options, script_text

RECORDED = Path(__file__).parent / "recorded"
ODD = "/shared/it's a\n$folder"
CASES = {
    "one_process": (PbsParameters(setup=["module load python"], teardown=["echo $code"]), "/shared/log"),
    "ranks": (PbsParameters(tasks_per_node=4, stderr_to_stdout=True), "/shared/log/%j"),
    "launcher": (
        PbsParameters(nodes=2, launcher=["mpiexec", "-n", "2"], signal_delay_s=30),
        "/shared/log/%A/%a",
    ),
    "odd_folder": (PbsParameters(), ODD),
}


def script(name: str) -> str:
    parameters, folder = CASES[name]
    qsub = ["qsub", *parameters.options("pbs"), "--", "/bin/bash", "-l", f"{folder}/script.sh"]
    stdout, stderr = (Path(folder) / f"%j_%t_log.{kind}" for kind in ("out", "err"))
    return script_text(parameters, "python -m submitit.core._submit FOLDER", qsub, qsub[1:], stdout, stderr)


@pytest.mark.parametrize("name", CASES)
def test_given_parameters_then_the_script_is_the_recorded_one(name: str) -> None:
    file = RECORDED / f"submitit_{name}.sh"
    if os.environ.get("HPCXPCS_RECORD"):
        file.write_text(script(name))
    assert script(name) == file.read_text(), "if that is meant: HPCXPCS_RECORD=1"


@pytest.mark.parametrize("name", CASES)
def test_given_a_script_then_shellcheck_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    file = tmp_path / "script.sh"
    file.write_text(script(name))
    subprocess.run([Path(sys.prefix) / "bin" / "shellcheck", file], check=True)


def test_given_an_odd_folder_then_the_output_goes_there(tmp_path: Path) -> None:
    folder = tmp_path / "it's a\n$folder"
    parameters = PbsParameters(tasks_per_node=2)
    stdout, stderr = folder / "%j_%t.out", folder / "%j_%t.err"
    text = script_text(
        parameters, "printenv SUBMITIT_PBS_RANK", ["qsub", str(folder)], [str(folder)], stdout, stderr
    )
    subprocess.run(["bash", "-c", text], env={**os.environ, "PBS_JOBID": "1[3].vm"}, cwd=tmp_path, check=True)
    assert [(folder / f"1[3].vm_{rank}.out").read_text() for rank in (0, 1)] == ["0\n", "1\n"]


def test_given_a_rank_that_fails_then_the_script_fails_with_its_code(tmp_path: Path) -> None:
    parameters = PbsParameters(tasks_per_node=3)
    command = "/bin/bash -c 'exit $((SUBMITIT_PBS_RANK * 2))'"
    text = script_text(parameters, command, ["qsub"], [], tmp_path / "%t.out", tmp_path / "%t.err")
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, "PBS_JOBID": "1.vm"}, cwd=tmp_path, check=False
    )
    assert done.returncode == 4


def test_given_a_first_rank_that_has_saved_its_state_then_the_others_do_not_run_on(tmp_path: Path) -> None:
    parameters = PbsParameters(tasks_per_node=2)
    command = (
        "/bin/bash -c '((SUBMITIT_PBS_RANK == 0)) && exit 255; trap : TERM; while :; do sleep 0.1; done'"
    )
    text = script_text(parameters, command, ["qsub"], [], tmp_path / "%t.out", tmp_path / "%t.err")
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, "PBS_JOBID": "1.vm"}, cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == 255


@given(st.floats(min_value=0.001, max_value=100_000))
def test_given_minutes_then_the_walltime_is_no_shorter_and_at_most_a_second_longer(minutes: float) -> None:
    options = PbsParameters(time=minutes).options("pbs")
    (walltime,) = (word.removeprefix("walltime=") for word in options if word.startswith("walltime="))
    hours, rest, seconds = map(int, walltime.split(":"))
    assert 0 <= 3600 * hours + 60 * rest + seconds - 60 * minutes <= 1


def test_given_memory_on_several_nodes_then_pbs_is_told_per_node_and_torque_in_all() -> None:
    asked = PbsParameters(nodes=2, tasks_per_node=3, cpus_per_task=4, mem="8gb", launcher=["mpiexec"])
    assert "select=2:ncpus=12:mpiprocs=3:mem=8gb" in asked.options("pbs")
    assert [word for word in asked.options("torque") if "=" in word] == [
        "nodes=2:ppn=12",
        "walltime=00:05:00",
        "mem=16gb",
    ]


@pytest.mark.parametrize(
    ("limit", "count", "expected"), [(256, 4, "0-3"), (4, 4, "0-3"), (3, 4, "0-3%3"), (None, 9, "0-8")]
)
def test_given_a_limit_then_it_is_told_where_it_matters(limit: int | None, count: int, expected: str) -> None:
    assert PbsParameters(array_parallelism=limit).array("pbs", count) == ["-J", expected]
    assert PbsParameters(array_parallelism=limit).array("torque", count) == ["-t", expected]


@pytest.mark.parametrize("path", ["/a b/x.log", "/host:/x", "/a,b", "relative", "/a\nb", "/it's", "/a%j"])
def test_given_a_path_that_some_qsub_reads_otherwise_then_the_words_of_pbs_are_dropped(path: str) -> None:
    assert output_options(Path(path))[-1] == "/dev/null"


def test_given_a_plain_path_then_the_words_of_pbs_go_there() -> None:
    assert output_options(Path("/log/.pbs_1-^array_index^.log")) == [
        "-j",
        "oe",
        "-o",
        "/log/.pbs_1-^array_index^.log",
    ]
