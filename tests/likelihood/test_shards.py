"""Shards hold every pair of every angle exactly once, alike where they promise it, and their moments add up."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood import raw as pairs_module
from hpcxpcs.likelihood.cells import TimeAxis, geometric_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.raw import lattices
from hpcxpcs.likelihood.shards import (
    AT_ONCE,
    EPOCHS,
    STRATEGIES,
    PairSet,
    partition,
    shard_moments,
)
from hpcxpcs.pipeline.plan import default_count
from tests.likelihood.measured import usable_pairs
from tests.likelihood.sums import assert_same_sums, random_angles

PHI = np.array([-40.0, 10.0, 75.0])
KINDS = ("dead", "pairs", "sigma")
AXIS = TimeAxis(0.0, 0.1, 33)

strategies = st.sampled_from(STRATEGIES)


def held(pair_set: PairSet, n_frames: int, height: int) -> np.ndarray:
    """How often each pair of frames (N, N) is in the pieces of a shard, taken from slabs of a few rows."""
    found = np.zeros((n_frames, n_frames), dtype=int)
    for rows in pairs_module.slabs(n_frames, 8 * n_frames * height):
        for lattice, chosen, keep in pair_set.pieces(rows, n_frames):
            assert rows.start <= chosen.start < chosen.stop <= rows.stop
            kept = np.ones((chosen.stop - chosen.start, n_frames), dtype=int) if keep is None else keep.astype(int)
            lattice.cut(found[chosen], chosen.start)[...] += lattice.cut(kept, chosen.start)
    return np.triu(found, 1)


def shard_of_pairs(sets: tuple[PairSet, ...], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The shard of each pair, by asking all of them."""
    holds = np.array([pair_set.contains(first, second) for pair_set in sets])
    assert np.all(holds.sum(axis=0) == 1)
    return holds.argmax(axis=0)


def usable(n_frames: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.triu_indices(n_frames - first, 1)
    return rows + first, columns + first


@given(strategies, st.integers(1, 40), st.integers(2, 60), st.integers(0, 2**40), st.integers(1, 60))
def test_every_pair_is_in_exactly_one_shard_and_pieces_agree_with_contains(strategy, count, n_frames, seed, height):
    sets = partition(strategy, count, n_frames, seed)
    assert [pair_set.index for pair_set in sets] == list(range(count))
    frames = np.arange(n_frames)
    total = np.zeros((n_frames, n_frames), dtype=int)
    for pair_set in sets:
        mine = held(pair_set, n_frames, height)
        assert np.array_equal(mine, np.triu(pair_set.contains(frames[:, None], frames[None, :]), 1))
        total += mine
    assert np.array_equal(total, np.triu(np.ones_like(total), 1))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_given_a_square_count_then_balanced_shards_are_the_lattices_of_its_root(stride):
    sets = partition("angle_balanced", stride**2, 400, 0)
    assert [pair_set.cut.lattices(pair_set.index) for pair_set in sets] == [(one,) for one in lattices(stride)]


@settings(max_examples=60)
@given(st.integers(1, 64), st.integers(100, 320), st.integers(0, 1))
def test_balanced_shards_differ_by_ten_percent_at_most_in_their_number_of_pairs(count, n_frames, first):
    sets = partition("angle_balanced", count, n_frames, 0, first=first)
    sizes = np.bincount(shard_of_pairs(sets, *usable(n_frames, first)), minlength=count)
    assert np.abs(sizes / sizes.mean() - 1.0).max() <= 0.1


@pytest.mark.parametrize("strategy", ["angle_balanced", "stratified", "random"])
@pytest.mark.parametrize("count", [2, 7, 12, 16])
def test_shards_are_alike_in_their_lags_and_epochs(strategy, count):
    first, second = usable(240, 1)
    shard = shard_of_pairs(partition(strategy, count, 240, 3, first=1), first, second)
    for quantity in (first, second - first):
        means = np.bincount(shard, weights=quantity) / np.bincount(shard)
        assert np.abs(means / quantity.mean() - 1.0).max() < 0.06


@pytest.mark.parametrize("n_frames", [100, 101])
@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_given_a_count_that_is_no_square_then_every_balanced_shard_has_every_lag(count, n_frames):
    first, second = usable(n_frames)
    for pair_set in partition("angle_balanced", count, n_frames, 0):
        inside = pair_set.contains(first, second)
        assert set(range(1, n_frames // 2)) <= set((second - first)[inside])


def splitmix(state: int, word: int) -> int:
    """SplitMix64 with Python's own integers."""
    value = ((state + 0x9E3779B97F4A7C15) % 2**64) ^ word
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


@given(st.integers(1, 100), st.integers(0, 2**63), st.integers(0, 5000), st.integers(1, 5000))
def test_the_lot_of_a_pair_is_that_of_integer_arithmetic_on_any_machine(count, seed, first, lag):
    hashed = splitmix(splitmix(splitmix(seed, 0), first), first + lag)
    wanted = ((hashed >> 32) * count) >> 32
    sets = partition("random", count, 10_001, seed)
    assert sets[wanted].contains(np.array([first]), np.array([first + lag]))


def test_random_shards_are_equal_up_to_chance_and_depend_on_the_seed():
    first, second = usable(300)
    one, other = (shard_of_pairs(partition("random", 10, 300, seed), first, second) for seed in (1, 2))
    share = first.size / 10
    assert np.sum((np.bincount(one) - share) ** 2 / share) < 30.0
    assert np.mean(one == other) == pytest.approx(0.1, abs=0.01)


def test_contiguous_shards_are_blocks_of_first_frames_with_equal_numbers_of_pairs():
    first, second = usable(400, 1)
    shard = shard_of_pairs(partition("contiguous", 8, 400, 0, first=1), first, second)
    assert np.all(np.diff(shard[np.argsort(first, kind="stable")]) >= 0)
    sizes = np.bincount(shard)
    assert np.abs(sizes / sizes.mean() - 1.0).max() < 0.03
    longest = [(second - first)[shard == k].max() for k in range(8)]
    assert longest == sorted(longest, reverse=True) and longest[-1] < 0.4 * longest[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_contiguous_shards_come_with_a_warning(strategy):
    warning = partition(strategy, 4, 50, 0)[0].warning
    assert ("late ones only short lags" in warning) == (strategy == "contiguous")
    assert bool(warning) == (strategy == "contiguous")


@given(st.integers(1, 20), st.integers(2, 90), st.integers(0, 1000))
def test_the_pairs_of_each_band_of_lags_and_epoch_are_dealt_out_evenly(count, n_frames, seed):
    first, second = usable(n_frames)
    shard = shard_of_pairs(partition("stratified", count, n_frames, seed), first, second)
    strata: dict[tuple[int, int], Counter[int]] = {}
    for i, j, k in zip(first.tolist(), second.tolist(), shard.tolist(), strict=True):
        epoch = max(e for e in range(EPOCHS) if e * n_frames // EPOCHS <= i)
        strata.setdefault(((j - i).bit_length(), epoch), Counter())[k] += 1
    for dealt in strata.values():
        sizes = [dealt[k] for k in range(count)]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("pairs", "n_free", "count"),
    [
        (0, 3, 1),
        (23_999, 3, 1),
        (24_000, 3, 4),
        (4 * 14_000, 7, 4),
        (4 * 14_000 - 1, 7, 1),
        (8 * 500_000, 7, 4),
        (10**9, 0, 4),
    ],
)
def test_the_default_count_is_the_largest_square_that_feeds_every_shard(pairs, n_free, count):
    assert default_count(pairs, n_free) == count
    assert default_count(np.full(4, pairs / 4), n_free) == count


@pytest.mark.parametrize(("strategy", "count", "n_frames"), [("lattice", 4, 50), ("random", 0, 50), ("random", 2, 1)])
def test_what_cannot_be_cut_is_refused(strategy, count, n_frames):
    with pytest.raises(ValueError, match=r"none of angle_balanced|at least one"):
        partition(strategy, count, n_frames, 0)


def sharded(strategy: str, count: int, seed: int = 0) -> tuple[list[AngleMatrix], list[Moments], Moments]:
    """Random data, the moments of their shards, and those of all pairs."""
    angles = random_angles(AXIS, KINDS, seed)
    cells = geometric_cells(AXIS, 2.0)
    sets = partition(strategy, count, AXIS.count, seed, first=AXIS.first_usable)
    parts = list(shard_moments(angles.__getitem__, PHI, cells, AXIS, sets))
    return angles, parts, compress(angles.__getitem__, PHI, cells, AXIS)


@settings(max_examples=20)
@given(strategies, st.integers(1, 12), st.integers(0, 1000))
def test_the_moments_of_all_shards_add_up_to_the_moments_of_all_pairs(strategy, count, seed):
    _, parts, whole = sharded(strategy, count, seed)
    assert len(parts) == count
    assert_same_sums(reduce(add, parts), whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_given_slabs_of_a_few_rows_then_shards_have_the_same_moments(strategy, monkeypatch):
    _, wanted, _ = sharded(strategy, 3)
    monkeypatch.setattr("hpcxpcs.likelihood.compress.slabs", lambda n: pairs_module.slabs(n, 8 * n * 4))
    _, found, _ = sharded(strategy, 3)
    for mine, its in zip(found, wanted, strict=True):
        assert_same_sums(mine, its)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_shard_counts_and_squares_its_own_pairs(strategy):
    angles, parts, _ = sharded(strategy, 5)
    sets = partition(strategy, 5, AXIS.count, 0, first=AXIS.first_usable)
    for pair_set, moments in zip(sets, parts, strict=True):
        for matrix, pairs, power in zip(angles, moments.pairs, moments.arrays.power, strict=True):
            first, second = np.array(usable_pairs(matrix)).T
            inside = pair_set.contains(first, second)
            weight = np.ones_like(matrix.c2) if matrix.sigma is None else matrix.sigma**-2.0
            wanted = np.sum((weight * matrix.c2**2)[first, second][inside])
            assert pairs == inside.sum()
            assert float(power) == pytest.approx(wanted, rel=1e-12)


def test_given_more_shards_than_pairs_then_the_rest_is_empty_and_still_adds():
    axis = TimeAxis(0.1, 0.1, 4)
    angles = random_angles(axis, ("plain",))
    for strategy in STRATEGIES:
        sets = partition(strategy, 30, 4, 0)
        parts = list(shard_moments(angles.__getitem__, PHI[:1], [axis.root()], axis, sets))
        assert sum(float(part.pairs[0]) for part in parts) == 6
        assert_same_sums(reduce(add, parts), compress(angles.__getitem__, PHI[:1], [axis.root()], axis))


@pytest.mark.parametrize("count", [AT_ONCE, AT_ONCE + 1])
def test_matrices_are_read_once_per_pass_and_no_pass_begins_before_it_is_needed(count):
    angles = random_angles(AXIS, KINDS)
    read: list[int] = []

    def angle(k: int) -> AngleMatrix:
        read.append(k)
        return angles[k]

    sets = partition("angle_balanced", count, AXIS.count, 0)
    moments = shard_moments(angle, PHI, geometric_cells(AXIS, 3.0), AXIS, sets)
    assert read == []
    for _ in range(AT_ONCE):
        next(moments)
    assert read == [0, 1, 2]
    assert len(list(moments)) == count - AT_ONCE
    assert len(read) == 3 * (1 + (count > AT_ONCE))


def test_given_angles_with_equal_masks_then_their_shards_share_gram_matrices():
    angles = random_angles(AXIS, ("dead", "other", "dead"))
    for strategy in STRATEGIES:
        sets = partition(strategy, 3, AXIS.count, 0)
        for moments in shard_moments(angles.__getitem__, PHI, [AXIS.root()], AXIS, sets):
            assert moments.arrays.phi.shape == (2, 2)
