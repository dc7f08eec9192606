"""Combining shards: exact for normal ones, honest about those that disagree or are stuck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.errors import PosteriorError
from hpcxpcs.inference.consensus import Part, anchored, averaged
from tests.inference.gaussians import Normal, normal, parts_of, product, random_normal, shards

COUNT = 4000


def errors(found, whole: Normal) -> tuple[float, float]:
    """Largest shift of a mean in standard deviations, largest relative error of a standard deviation."""
    spread = np.sqrt(np.diag(whole.covariance))
    ratio = found.draws.std(axis=0, ddof=1) / spread
    return float(np.max(np.abs(found.draws.mean(axis=0) - whole.mean) / spread)), float(np.max(np.abs(ratio - 1)))


def tempered(count: int = 4, dim: int = 3, seed: int = 1) -> tuple[Normal, list[Normal]]:
    """The whole posterior, and the shards with their share of the prior."""
    prior, likelihoods = shards(np.random.default_rng(seed), count, dim)
    return product([prior, *likelihoods]), [one * prior.scaled(1.0 / count) for one in likelihoods]


def cavities(count: int = 4, dim: int = 3, seed: int = 2) -> tuple[Normal, Normal, list[Normal]]:
    """The whole posterior, an anchor that is off, and the shards within the anchor of all others."""
    rng = np.random.default_rng(seed)
    prior, likelihoods = shards(rng, count, dim)
    whole = product([prior, *likelihoods])
    sizes = 1.0 / np.sqrt(np.diag(whole.covariance))
    guesses = [
        Normal(one.precision * rng.uniform(0.9, 1.2), one.pull + 0.3 * sizes * rng.standard_normal(dim))
        for one in likelihoods
    ]
    anchor = product([prior, *guesses])
    return whole, anchor, [anchor / guess * one for guess, one in zip(guesses, likelihoods, strict=True)]


def test_given_normal_shards_then_their_average_is_the_whole_posterior():
    whole, sources = tempered()
    shift, stretch = errors(averaged(parts_of(sources, np.random.default_rng(3), COUNT)), whole)
    assert shift < 0.08 and stretch < 0.05


def test_given_exact_moments_of_normal_shards_then_mean_and_covariance_are_exact():
    whole, sources = tempered()
    found = averaged(parts_of(sources, np.random.default_rng(3), 500, exact=True))
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9)
    np.testing.assert_allclose(found.draws.mean(axis=0), found.mean, rtol=1e-9, atol=1e-12)


def test_weights_are_the_share_of_each_shard_in_the_precision():
    narrow, wide = normal(np.zeros(2), np.eye(2)), normal(np.zeros(2), 4.0 * np.eye(2))
    found = averaged(parts_of([narrow, wide], np.random.default_rng(0), 500, exact=True))
    np.testing.assert_allclose(found.weights, [0.8, 0.2])


@pytest.mark.parametrize("combine", ["averaged", "anchored"])
def test_given_shards_in_another_order_then_every_bit_of_the_answer_is_the_same(combine):
    whole, sources = tempered()
    parts = parts_of(sources, np.random.default_rng(3), 300)
    shuffled = [parts[k] for k in (2, 0, 3, 1)]
    if combine == "averaged":
        one, other = averaged(parts), averaged(shuffled)
    else:
        one, other = (anchored(p, whole.mean, whole.covariance, count=100) for p in (parts, shuffled))
    assert np.array_equal(one.draws, other.draws) and one.indices == other.indices == (0, 1, 2, 3)


def test_given_one_shard_then_its_draws_are_returned():
    (part,) = parts_of([random_normal(np.random.default_rng(0), 2)], np.random.default_rng(1), 100)
    assert np.array_equal(averaged([part]).draws, part.draws)


def test_given_one_parameter_then_averaging_works():
    whole, sources = tempered(dim=1)
    shift, stretch = errors(averaged(parts_of(sources, np.random.default_rng(3), COUNT)), whole)
    assert shift < 0.08 and stretch < 0.05


def test_given_unequal_numbers_of_draws_then_the_last_are_left_out_and_it_is_said():
    _, sources = tempered(count=2)
    first, second = parts_of(sources, np.random.default_rng(3), 300)
    found = averaged([first, replace(second, draws=second.draws[:200])])
    assert len(found.draws) == 200 and "200 to 300 draws" in found.notes[0]


def test_given_normal_shards_in_cavities_then_the_anchor_is_corrected_to_the_whole_posterior():
    whole, anchor, sources = cavities()
    found = anchored(parts_of(sources, np.random.default_rng(4), COUNT), anchor.mean, anchor.covariance)
    before = np.max(np.abs(anchor.mean - whole.mean) / np.sqrt(np.diag(whole.covariance)))
    shift, stretch = errors(found, whole)
    assert before > 0.25 and shift < 0.1 and stretch < 0.06


def test_given_exact_moments_in_cavities_then_the_correction_is_exact_but_for_the_stated_noise():
    whole, anchor, sources = cavities()
    parts = parts_of(sources, np.random.default_rng(4), COUNT, exact=True)
    found = anchored([replace(part, ess=1e9) for part in parts], anchor.mean, anchor.covariance)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-6, atol=1e-9)


def test_the_anchored_draws_have_exactly_the_combined_moments_and_come_from_all_parts():
    _, anchor, sources = cavities()
    parts = parts_of(sources, np.random.default_rng(4), 500)
    found = anchored(parts, anchor.mean, anchor.covariance)
    assert len(found.draws) == 2000
    np.testing.assert_allclose(found.draws.mean(axis=0), found.mean, rtol=1e-9)
    np.testing.assert_allclose(np.cov(found.draws, rowvar=False), found.covariance, rtol=2e-3, atol=1e-6)


def test_given_a_right_anchor_and_few_draws_then_shrinkage_keeps_the_noise_of_many_shards_out():
    rng = np.random.default_rng(9)
    posterior = normal(np.zeros(4), np.eye(4))
    plain, shrunk = [], []
    for _ in range(20):
        parts = parts_of([posterior] * 16, rng, 200)
        shrunk.append(np.linalg.norm(anchored(parts, posterior.mean, posterior.covariance).mean))
        trusting = [replace(part, ess=1e9) for part in parts]
        plain.append(np.linalg.norm(anchored(trusting, posterior.mean, posterior.covariance).mean))
    assert np.mean(shrunk) < 0.6 * np.mean(plain)


def test_given_skewed_shards_then_pooled_draws_keep_the_skewness():
    rng = np.random.default_rng(10)
    parts = [Part(k, rng.gamma(4.0, 0.5, (4000, 1)) - 2.0, 4000.0) for k in range(3)]
    found = anchored(parts, np.zeros(1), np.eye(1))
    z = (found.draws - found.draws.mean()) / found.draws.std()
    assert np.mean(z**3) == pytest.approx(1.0, abs=0.2)


def test_given_shards_that_claim_absurd_precision_then_it_is_limited_and_said():
    parts = parts_of([normal(np.zeros(2), 0.05 * np.eye(2))] * 4, np.random.default_rng(0), 1000)
    found = anchored(parts, np.zeros(2), np.eye(2))
    assert "limited" in found.notes[0]
    np.testing.assert_allclose(found.covariance, 0.25 * np.eye(2), atol=1e-9)


def test_given_a_shard_with_few_effective_draws_then_it_is_named():
    parts = parts_of([normal(np.zeros(2), np.eye(2))] * 2, np.random.default_rng(0), 1000)
    found = anchored([parts[0], replace(parts[1], ess=7.0)], np.zeros(2), np.eye(2))
    assert "shard 1 is worth only 7 draws" in found.notes[0]


def test_thinned_draws_are_a_subset_spread_over_all_parts():
    posterior = normal(np.zeros(2), np.eye(2))
    parts = parts_of([posterior] * 4, np.random.default_rng(0), 500)
    everything = anchored(parts, posterior.mean, posterior.covariance).draws
    thinned = anchored(parts, posterior.mean, posterior.covariance, count=200).draws
    positions = [int(np.flatnonzero((everything == row).all(axis=1))[0]) for row in thinned]
    assert len(thinned) == 200 and np.bincount(np.array(positions) // 500).tolist() == [50, 50, 50, 50]


def test_given_a_part_of_ill_scaled_coordinates_then_both_ways_work():
    scale = np.array([1e-9, 1.0, 1e9])
    rng = np.random.default_rng(12)
    parts = [Part(k, rng.standard_normal((500, 3)) * scale, 500.0) for k in range(3)]
    assert np.all(np.isfinite(averaged(parts).draws))
    assert np.all(np.isfinite(anchored(parts, np.zeros(3), np.diag(scale**2)).draws))


@pytest.mark.parametrize("combine", [averaged, lambda parts: anchored(parts, np.zeros(2), np.eye(2))])
def test_given_draws_that_cannot_be_combined_then_the_shard_is_named(combine):
    good = np.random.default_rng(0).standard_normal((100, 2))
    broken = good.copy()
    broken[7, 1] = np.nan
    stuck = np.column_stack([good[:, 0], np.ones(100)])
    tied = np.column_stack([good[:, 0], 2.0 * good[:, 0]])
    for draws, words in (
        (broken, "has draws that are not finite"),
        (stuck, "do not vary"),
        (tied, "do not vary"),
    ):
        with pytest.raises(PosteriorError, match=f"shard 5 {words}"):
            combine([Part(0, good, 100.0), Part(5, draws, 100.0)])


@pytest.mark.parametrize("combine", [averaged, lambda parts: anchored(parts, np.zeros(2), np.eye(2))])
def test_given_a_shard_with_hardly_any_draws_then_it_is_blamed_and_not_the_long_ones(combine):
    good = np.random.default_rng(0).standard_normal((100, 2))
    with pytest.raises(PosteriorError, match="the 2 draws of shard 5"):
        combine([Part(0, good, 100.0), Part(5, good[:2], 2.0)])


@pytest.mark.parametrize("combine", [averaged, lambda parts: anchored(parts, np.zeros(2), np.eye(2))])
def test_given_no_shard_then_the_remedy_is_named(combine):
    with pytest.raises(PosteriorError, match="no shard was accepted"):
        combine([])
