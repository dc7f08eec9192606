"""Each process describes the data file once, and reads and hashes the sealed likelihood once."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.acceptance.jobs import Job, copied, hooked, ranks

UNPREPARED = ("complete.json", "events.jsonl", "results", "shards", "checks", "data/*.h5", "point/*.h5")

DATA_FILE, LIKELIHOOD = "flow.hdf", "data/00000.h5"


class Opened:
    """Notes how often each process of a program opens what is shared by all."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "opened"
        hook = {"note": str(self.notes)}
        self.program = hooked(**{"hpcxpcs.data.select:open_file": hook, "hpcxpcs.runs.sealed:_checked_header": hook})

    def counts(self) -> list[tuple[int, int]]:
        """How often each process has described the data and hashed the likelihood, the busiest first."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for line in self.notes.read_text().splitlines():
            pid, _, path = line.partition(" ")
            found[pid].update(name for name in (DATA_FILE, LIKELIHOOD) if path.endswith(f"/{name}"))
        return sorted(((one[DATA_FILE], one[LIKELIHOOD]) for one in found.values()), reverse=True)


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path)


def test_given_a_fit_from_beginning_to_end_then_it_opens_data_and_likelihood_once(jobs, opened, tmp_path):
    jobs.fit(tmp_path / "run", program=opened.program)
    assert opened.counts() == [(1, 1)]


def test_given_a_fit_that_goes_on_then_it_opens_data_and_likelihood_once(jobs, reference, opened, tmp_path):
    shutil.copytree(reference.prepared, tmp_path / "run")
    jobs.fit(tmp_path / "run", program=opened.program)
    assert opened.counts() == [(1, 1)]


@pytest.mark.parametrize(("prepared", "count"), [(False, (1, 1)), (True, (0, 1))])
def test_given_a_worker_then_it_opens_once_what_it_needs(reference, opened, tmp_path, prepared, count):
    run = tmp_path / "run"
    if prepared:
        shutil.copytree(reference.prepared, run)
    else:
        copied(reference.run, run, without=UNPREPARED)
    job = Job(tmp_path / "said", (*opened.program, "work", run), {})
    assert job.wait() == 0, job.text()
    assert opened.counts() == [count]


def test_given_two_ranks_then_each_opens_once_what_it_needs(jobs, opened, tmp_path):
    jobs.fit(tmp_path / "run", before=ranks(2), program=opened.program)
    leader, other = opened.counts()
    assert leader == (1, 1)
    assert other == (0, 1)
