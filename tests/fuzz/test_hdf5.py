"""A thousand damaged HDF5 files of all layouts: each is read, or refused by name, in a time that nobody notices."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz import layouts, looks
from tests.fuzz.pool import Verdict, told, verdicts

COUNT = 1_000


@pytest.mark.slow
def test_given_a_thousand_damaged_files_then_each_is_read_or_refused_in_words(tmp_path):
    found = list(verdicts("hdf5", range(COUNT), tmp_path))
    bad = [verdict for verdict in found if not verdict.fine]
    assert not bad, told("hdf5", bad)
    counted = Counter(verdict.text for verdict in found)
    assert len(found) == COUNT
    assert min(counted["used"], counted["refused"]) > COUNT // 5, f"one-sided damage tests little: {counted}"


def test_given_the_files_that_damage_is_done_to_then_each_is_read(tmp_path):
    path = tmp_path / "whole.h5"
    for content in layouts.originals():
        path.write_bytes(content)
        assert looks.read_everything(path) == ["used"] * len(looks.LOOKS)


def test_given_a_seed_then_the_damage_is_the_same_whatever_was_done_before(tmp_path):
    path = tmp_path / "mutated.h5"
    seeds = [*range(0, 40), *range(39, -1, -1)]
    made: dict[int, bytes] = {}
    for seed in seeds:
        layouts.mutate(seed, path)
        assert made.setdefault(seed, path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(("kind", "words"), [("hanging", "hang: no answer in 2 s"), ("dying", "crash: ended with")])
def test_given_a_look_that_hangs_or_dies_then_it_is_told_and_the_next_ones_are_looked_at(kind, words, tmp_path):
    found = list(verdicts(kind, range(4), tmp_path, limit=2.0))
    assert [verdict.seed for verdict in found] == [0, 1, 2, 3]
    assert [verdict.fine for verdict in found] == [True, False, True, False]
    assert found[1].text.startswith(words)
    assert f"python -m tests.fuzz {kind} 1 3" in told(kind, found)


def test_given_a_traceback_then_its_verdict_is_not_fine(tmp_path):
    path = tmp_path / "a.h5"
    assert looks.watched(lambda: 1 / 0, path).startswith("traceback")
    assert not Verdict(0, looks.watched(lambda: 1 / 0, path)).fine
