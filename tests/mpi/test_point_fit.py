"""A point fit with a crew: one process does it, once, and every rank ends alike."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcxpcs.errors import Stopped
from tests.acceptance.jobs import PROGRAM, Job, Jobs, hooked, ranks
from tests.cli.fitting import QUICK, content, parameters, simulated

SETTINGS = tuple(part for setting in QUICK for part in ("--set", setting))

SLOW = hooked(**{"hpcxpcs.inference.scout:minimise": {"pause": 2.0}})
"""The program, so slow that it is met while it follows its starts."""

FROM_PYTHON = """
import sys, hpcxpcs
from mpi4py import MPI
answer = hpcxpcs.fit(sys.argv[1], run=sys.argv[2], overrides=sys.argv[3:])
print(f"rank {MPI.COMM_WORLD.rank}: {answer.exit_code} {answer.point.values.tolist()} {answer.data.n_phi}", flush=True)
"""

SAME_CODE = """
import sys
from hpcxpcs.workers.mpi import as_rank_0_has_it, mpi_ranks
code = 0
with mpi_ranks(None, None) as found:
    code = 0 if found is None else 3
sys.exit(as_rank_0_has_it(code))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("measured"))


@pytest.fixture
def jobs(tmp_path: Path, config: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path, config) as found:
        yield found


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a fit without MPI."""
    folder = tmp_path_factory.mktemp("alone")
    with Jobs(folder, config) as jobs:
        jobs.fit(folder / "run", *SETTINGS)
    return folder / "run"


def noting_codes(folder: Path, program: tuple[str, ...]) -> tuple[str, ...]:
    """A program that leaves the exit code of each rank in FOLDER/code-RANK."""
    return ("sh", "-c", f'{shlex.join(program)} "$@"; code=$?; echo $code > {folder}/code-$PMI_RANK; exit $code', "sh")


def codes(folder: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(folder.glob("code-*"))]


def stopped_words(run: Path, job: Job) -> str:
    """The error of a fit that was stopped; it left no results."""
    assert not (run / "results").exists()
    (line,) = [line for line in job.text().splitlines() if line.startswith("hpcxpcs: error: ")]
    assert "saves nothing on its way" in line
    assert "starts it from the beginning" in line
    return line


def test_given_two_ranks_then_one_fits_once_and_both_end_alike(jobs, alone, tmp_path):
    run = tmp_path / "run"
    job = jobs.fit(run, *SETTINGS, before=ranks(2), program=noting_codes(tmp_path, PROGRAM))
    assert codes(tmp_path) == ["0", "0"]
    assert [path.name.partition("-")[0] for path in (run / "logs").glob("*.jsonl")] == ["rank0"]
    said = job.text().splitlines()
    assert len([line for line in said if line.startswith("verdict")]) == 1
    assert len([line for line in said if "reading flow.hdf" in line]) == 1
    assert len([line for line in said if "1 rank waits" in line]) == 1
    assert parameters(run) == parameters(alone)


def test_given_two_ranks_of_python_then_both_get_the_answer_of_one_fit(jobs, config, alone, tmp_path):
    run = tmp_path / "run"
    command = (*ranks(2), sys.executable, "-c", FROM_PYTHON, config, run, *QUICK)
    jobs.started.append(Job(tmp_path / "said", command, {}))
    assert jobs.started[-1].wait() == 0, jobs.started[-1].text()
    # Two ranks and their errors share one stream: what one of them says need not begin a line.
    told = dict(re.findall(r"rank (\d): (\d \[[^]]*\] \d)", jobs.started[-1].text()))
    values = [entry["value"] for entry in parameters(alone).values()]
    assert told == dict.fromkeys(("0", "1"), f"0 {values} 3")
    assert len(list((run / "logs").glob("*.jsonl"))) == 1


def test_given_a_doubtful_answer_of_rank_0_then_every_rank_ends_with_its_code(jobs, tmp_path):
    program = noting_codes(tmp_path, (sys.executable, "-c", SAME_CODE))
    jobs.started.append(Job(tmp_path / "said", (*ranks(3), *program), {}))
    jobs.started[-1].wait()
    assert codes(tmp_path) == ["3", "3", "3"], jobs.started[-1].text()


def test_given_workers_under_mpi_then_they_are_refused_once(jobs, tmp_path):
    job = jobs.fit(tmp_path / "run", "--workers", 2, before=ranks(2), expect=2)
    assert job.text().count("--workers: is for a command without an MPI launcher") == 1


@pytest.mark.parametrize("before", [(), ranks(2)], ids=["alone", "two ranks"])
def test_given_no_time_then_a_point_fit_ends_before_it_begins(jobs, tmp_path, before):
    job = jobs.fit(tmp_path / "run", "--time-limit", 0.01, before=before, expect=Stopped.exit_code)
    assert "(--time-limit)" in stopped_words(tmp_path / "run", job)
    assert not (tmp_path / "run").exists()


def test_given_too_little_time_then_it_stops_between_two_steps(jobs, tmp_path):
    job = jobs.fit(tmp_path / "run", *SETTINGS, "--time-limit", 1.5, program=SLOW, expect=Stopped.exit_code)
    assert "(--time-limit)" in stopped_words(tmp_path / "run", job)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_given_a_signal_then_it_stops_and_results_of_before_stay(jobs, alone, tmp_path, number):
    run = alone
    before = content(run / "results")
    job = jobs.start(run, *SETTINGS, program=SLOW)
    job.until(lambda: "scouting" in job.text())
    job.process.send_signal(number)
    assert job.wait() == Stopped.exit_code, job.text()
    assert f"({number.name} was received)" in job.text()
    assert f"{run}/results is as it was before" in job.text()
    assert content(run / "results") == before
    assert not list((run / "claims").glob("[!.]*")), "the folder is free again"
