"""Millions of points reduced to pixels, curves and counts, without losing or doubling any."""

import numpy as np
import pytest

from hpcxpcs.results import plots
from hpcxpcs.results.plots import RESIDUAL_EDGES, lag_groups, mean_by_lag, residual_counts, thinned
from tests.results.sample import reduced, sample_answer, whole


@pytest.fixture(scope="module")
def answer():
    return sample_answer(61)


def block_means(values, size):
    """Means over squares of size × size frames, NaN where nothing is known; the last may be smaller."""
    starts = range(0, len(values), size)
    squares = [[values[i : i + size, j : j + size] for j in starts] for i in starts]
    known = [[square[np.isfinite(square)] for square in row] for row in squares]
    return np.array([[part.mean() if part.size else np.nan for part in row] for row in known])


@pytest.mark.parametrize("block_points", [61, 7 * 61, 10**6])
@pytest.mark.parametrize("pixels", [200, 30, 8])
def test_given_more_frames_than_pixels_then_each_pixel_is_the_mean_of_its_frames(
    answer, monkeypatch, pixels, block_points
):
    monkeypatch.setattr(plots, "PIXELS", pixels)
    summary, parts = reduced(answer, 1, block_points), whole(answer, 1)
    residual = np.where(parts["good"], parts["normalized"], np.nan)
    size = summary.frames_per_pixel
    assert len(summary.data) <= pixels
    assert summary.data == pytest.approx(block_means(parts["c2"], size))
    assert summary.fit == pytest.approx(block_means(parts["scaled"], size), nan_ok=True)
    assert summary.residual == pytest.approx(block_means(residual, size), nan_ok=True)


def test_given_an_angle_then_sums_over_lag_count_each_pair_once(answer):
    summary, parts = reduced(answer, 0, 7 * 61), whole(answer, 0)
    for lag in (1, 2, 30, 59):
        start = np.arange(61 - lag)
        used = parts["good"][start, start + lag]
        for name, total in (("c2", summary.lags.data), ("normalized", summary.lags.normalized)):
            assert total[:, lag].sum() == pytest.approx(parts[name][start, start + lag][used].sum())
        assert summary.lags.count[:, lag].sum() == used.sum() == 60 - lag
    assert summary.lags.count.sum() == 60 * 59 / 2
    assert summary.lags.count[:, 0].sum() == 0


def test_given_an_angle_then_epochs_are_thirds_of_the_start_frames(answer):
    count = reduced(answer, 0).lags.count
    assert count[:, 1].tolist() == [20, 20, 19]


def test_given_an_angle_then_neighbours_are_products_of_residuals_that_share_a_frame(answer):
    products, counts = reduced(answer, 2, 7 * 61).neighbours.T
    parts = whole(answer, 2)
    residual = np.where(parts["good"], parts["normalized"], 0.0)
    for k, distance in enumerate(plots.DISTANCES):
        pairs = parts["good"][:, :-distance] & parts["good"][:, distance:]
        assert counts[k] == pairs.sum()
        assert products[k] == pytest.approx((residual[:, :-distance] * residual[:, distance:]).sum())


def test_given_residuals_then_all_are_counted_and_extremes_in_the_last_bins():
    values = np.array([-100.0, -6.0, 0.01, 0.04, 5.999, 6.0, 1e9])
    counts = residual_counts(values)
    assert (counts.sum(), counts[0], counts[60], counts[-1]) == (7, 2, 2, 3)
    inside = np.random.default_rng(3).normal(size=10_000)
    assert np.array_equal(residual_counts(inside), np.histogram(inside, RESIDUAL_EDGES)[0])


def test_given_lags_then_groups_are_contiguous_single_at_first_and_wide_at_last():
    groups = lag_groups(1000)
    assert groups[0] == -1
    assert set(np.diff(groups)) == {0, 1}
    assert groups[1:5].tolist() == [0, 1, 2, 3]
    assert np.bincount(groups[1:])[-1] > 100
    assert lag_groups(2).tolist() == [-1, 0]


def test_given_empty_groups_then_their_mean_is_nan():
    means = mean_by_lag(np.array([9.0, 2.0, 4.0, 0.0]), np.array([1.0, 1, 1, 0]), np.array([-1, 0, 0, 1]))
    assert means[0] == 3.0
    assert np.isnan(means[1])


def test_given_a_map_when_thinned_then_pixels_are_means_of_what_is_known():
    values = np.arange(25.0).reshape(5, 5)
    values[0, 0] = np.nan
    assert thinned(values, 3)[0, 0] == pytest.approx((1 + 5 + 6) / 3)
    assert thinned(values, 3).shape == (3, 3)
    assert thinned(values, 3)[2, 2] == 24.0
    assert np.isnan(thinned(np.full((4, 4), np.nan), 2)).all()
