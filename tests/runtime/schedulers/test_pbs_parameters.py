"""The script and the options that the PBS executor makes: readable, quoted, the same as recorded; what it refuses.

`HPCXPCS_RECORD=1 pytest FILE` writes the recorded scripts anew; look at what changed before you commit it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import submitit
from hypothesis import given
from hypothesis import strategies as st
from submitit.core import utils

from hpcxpcs.runtime.schedulers.pbs_parameters import PbsParameters, output_options, script_text
from hpcxpcs.runtime.schedulers.pbs_submitit import PbsExecutor
from tests.runtime.schedulers.fake_pbs import ledger
from tests.runtime.schedulers.pbs_fixture import FakePbs

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
        ["bash", "-c", text], env={**os.environ, "PBS_JOBID": "1.vm"}, cwd=tmp_path, check=False
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
