"""Pictures of a posterior are made whatever it looks like, and show what they say."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.results import posterior_plots
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.gallery import Gallery
from tests.results.sample import sample_answer
from tests.results.sample_posterior import SAMPLED, sample_posterior, sampled_answer

PICTURES = {
    *("posterior.png", "forest.png", "pair.png", "shard_forest.png"),
    *("trace.png", "rank.png", "autocorrelation.png", "energy.png", "ess.png"),
}


@pytest.fixture(scope="module")
def answer():
    return sampled_answer(20)


def drawn(answer, folder):
    gallery = Gallery(folder, answer, lambda told: None)
    for block in compared(answer):
        gallery.add(block)
    gallery.finish()
    return gallery


def size(png):
    """Width and height from the header of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def only(posterior, chosen):
    """The posterior of a few of its parameters."""
    summary = posterior.summary
    columns = {name: getattr(summary, name)[chosen] for name in vars(summary) if name != "hdi_probability"}
    shards = tuple(replace(one, mean=one.mean[chosen], std=one.std[chosen]) for one in posterior.shards)
    return replace(
        posterior,
        names=tuple(np.array(posterior.names)[chosen]),
        units=tuple(np.array(posterior.units)[chosen]),
        draws=posterior.draws[..., chosen],
        summary=replace(summary, **columns),
        statistics=replace(posterior.statistics, draws=posterior.statistics.draws[..., chosen]),
        shards=shards,
        heterogeneity=None,
    )


def test_given_a_posterior_then_its_pictures_join_those_of_the_fit(answer, tmp_path):
    gallery = drawn(answer, tmp_path)
    assert gallery.failed == []
    assert {path.name for path in tmp_path.iterdir()} >= PICTURES | {"overview.png"}


def test_given_no_posterior_then_there_are_no_such_pictures(tmp_path):
    drawn(sample_answer(20), tmp_path)
    assert not PICTURES & {path.name for path in tmp_path.iterdir()}


def test_given_exact_chains_then_there_are_no_shards_to_draw(tmp_path):
    gallery = drawn(sampled_answer(20, route="exact"), tmp_path)
    assert gallery.failed == []
    assert PICTURES - {path.name for path in tmp_path.iterdir()} == {"shard_forest.png"}


def test_given_a_picture_that_fails_then_the_others_are_made_and_the_error_is_kept(answer, tmp_path, monkeypatch):
    def failing(found):
        raise ValueError("no ink")

    monkeypatch.setattr(posterior_plots, "trace", failing)
    gallery = drawn(answer, tmp_path)
    assert [(item.what, item.reason) for item in gallery.failed] == [("plots/trace.png", "ValueError: no ink")]
    assert PICTURES - {path.name for path in tmp_path.iterdir()} == {"trace.png"}


def test_given_one_chain_of_one_parameter_then_pictures_are_still_made(answer):
    posterior = only(answer.posterior, np.array([0]))
    statistics = posterior.statistics
    single = {
        name: getattr(statistics, name)[:1]
        for name in ("draws", "energy", "acceptance", "num_steps", "diverging", "bfmi", "step_size")
    }
    posterior = replace(posterior, statistics=replace(statistics, **single))
    pictures = [
        posterior_plots.posterior(answer, posterior, {}),
        posterior_plots.forest(answer, posterior, {}),
        posterior_plots.pair(posterior, {}),
        posterior_plots.shard_forest(posterior, {}),
        *(draw(posterior) for draw in (posterior_plots.trace, posterior_plots.rank, posterior_plots.autocorrelation)),
        *(draw(posterior) for draw in (posterior_plots.energy, posterior_plots.ess)),
    ]
    assert all(size(png)[0] > 300 for png in pictures)


def test_given_a_parameter_that_never_moved_then_pictures_are_still_made(answer):
    posterior = answer.posterior
    stuck = posterior.draws.copy()
    stuck[..., 1] = -0.4
    posterior = replace(posterior, draws=stuck, statistics=replace(posterior.statistics, draws=stuck))
    for png in (
        posterior_plots.posterior(answer, posterior, {}),
        posterior_plots.pair(posterior, {}),
        posterior_plots.trace(posterior),
        posterior_plots.rank(posterior),
        posterior_plots.autocorrelation(posterior),
    ):
        assert size(png)[0] > 300


def test_given_no_error_bars_of_the_point_fit_then_the_posterior_is_still_drawn(answer):
    bare = replace(answer, fit=replace(answer.fit, uncertainty=np.full(7, np.nan)))
    assert size(posterior_plots.posterior(bare, answer.posterior, {"D0": 12000.0}))[0] > 1000
    assert size(posterior_plots.forest(bare, answer.posterior, {"D0": 99000.0, "contrast": [0.2] * 3}))[0] > 1000


def test_given_many_parameters_then_pairs_show_those_that_go_together():
    matrix = np.eye(5)
    matrix[1, 3] = matrix[3, 1] = -0.9
    matrix[0, 2] = matrix[2, 0] = 0.2
    assert posterior_plots.most_correlated(matrix, 2) == [1, 3]
    assert posterior_plots.most_correlated(matrix, 9) == [0, 1, 2, 3, 4]
    assert posterior_plots.most_correlated(np.full((2, 2), np.nan), 1) == [0]


def test_given_a_histogram_then_contours_hold_their_share_of_it():
    heights = np.arange(1.0, 101.0)
    half = posterior_plots.mass_levels(heights, (0.5,))[0]
    assert heights[heights >= half].sum() / heights.sum() == pytest.approx(0.5, abs=0.02)


def test_given_longer_chains_then_effective_draws_grow(answer):
    lengths, counts = posterior_plots.ess_growth(answer.posterior.statistics.draws)
    assert lengths.tolist() == [25, 50, 75, 100, 125, 150, 175, 200, 225, 250]
    assert counts.shape == (10, len(SAMPLED))
    assert np.all(counts[-1] > 3 * counts[0])


def test_given_a_bound_thousands_of_units_wide_or_tiny_then_axes_stay_readable(answer):
    scale = np.array([1e9, 1.0, 1.0, 1e-7, 1.0, 1.0, 1.0, 1.0])
    posterior = sample_posterior(answer.fit)
    summary = replace(
        posterior.summary,
        **{name: (getattr(posterior.summary, name).T * scale).T for name in ("mean", "std", "hdi", "point_value")},
    )
    wide = replace(posterior, draws=posterior.draws * scale, summary=summary)
    assert size(posterior_plots.posterior(answer, wide, {})) == size(posterior_plots.posterior(answer, posterior, {}))
