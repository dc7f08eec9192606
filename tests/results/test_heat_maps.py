"""The picture of selected data: what a fit would get, on the axes of the pages that show the fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.results.drawing import selected_data
from hpcxpcs.results.plots import AnglePage
from tests.data.stacks import Q, matrix
from tests.results.sample import reduced, sample_answer


def maps_of(figure):
    """The axes with a map, and the maps."""
    axes = [ax for ax in figure.axes if ax.get_xlabel()]
    return axes, [ax.images[0] for ax in axes]


def values(image):
    return np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)


def test_given_the_data_of_a_fit_then_its_map_is_the_one_of_the_page_of_the_fit():
    answer = sample_answer()
    axes, maps = maps_of(selected_data(answer.data))
    page = AnglePage(answer)
    assert len(maps) == answer.data.n_phi
    for angle in range(len(maps)):
        summary = reduced(answer, angle)
        page.draw(summary)
        shown = page._data
        np.testing.assert_allclose(values(maps[angle]), values(shown), rtol=1e-12)
        assert maps[angle].get_extent() == shown.get_extent()
        assert maps[angle].origin == shown.origin == "lower"
        assert maps[angle].get_cmap().name == shown.get_cmap().name
        assert axes[angle].get_xlabel() == shown.axes.get_xlabel() == "t2 (s)"
        assert axes[angle].get_ylabel() == shown.axes.get_ylabel() == "t1 (s)"
        low, high = np.nanpercentile(summary.data, (0.5, 99.5))
        assert maps[angle].get_clim() == pytest.approx((low, high))


def test_given_a_late_origin_dead_frames_and_preprocessing_then_the_map_shows_all_of_them():
    c2 = matrix(3, 30)
    c2[24:, :] = c2[:, 24:] = np.nan
    c2[4, :] = c2[:, 4] = 0
    processing = Preprocessing(normalization="mean", noise_reduction="median")
    data = from_arrays([c2], [45.0], Q, 0.5, t=5.0 + 0.5 * np.arange(30), processing=processing)
    figure = selected_data(data)
    (ax,), (image,) = maps_of(figure)
    assert image.get_extent() == [4.75, 19.75, 4.75, 19.75]
    np.testing.assert_array_equal(values(image), data.picture(0))
    assert np.isnan(values(image)[24:]).all() and np.isnan(values(image)[4]).all()
    assert np.nanmean(values(image)) == pytest.approx(1.0, abs=0.01)
    assert "φ = 45°" in ax.get_title()
    words = figure.get_suptitle()
    assert "frames 1 to 30" in words and "normalization: mean" in words and "noise_reduction: median" in words


def test_given_no_time_step_then_the_axes_are_in_frames():
    (ax,), _ = maps_of(selected_data(from_arrays([matrix(1)], [0.0], Q, 1.0), "frames"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t2 (frames)", "t1 (frames)")


@pytest.mark.parametrize(("angles", "shown"), [(1, [0]), (4, [0, 1, 2, 3]), (11, [0, 2, 4, 6, 8, 10])])
def test_given_many_angles_then_six_evenly_spaced_ones_are_drawn(angles, shown):
    data = from_arrays([matrix(k) for k in range(angles)], [10.0 * k for k in range(angles)], Q, 0.1)
    axes, _ = maps_of(selected_data(data))
    assert [ax.get_title().split("φ = ")[1] for ax in axes] == [f"{10 * k}°" for k in shown]


def test_given_more_frames_than_pixels_then_means_of_known_pairs_are_drawn():
    c2 = matrix(2, 450)
    c2[3, 5] = c2[5, 3] = np.nan
    data = from_arrays([c2], [0.0], Q, 0.1, non_finite="mask")
    (_,), (image,) = maps_of(selected_data(data))
    whole = data.picture(0)
    assert values(image).shape == (150, 150)
    assert values(image)[1, 1] == pytest.approx(np.nanmean(whole[3:6, 3:6]))
    assert values(image)[149, 7] == pytest.approx(whole[447:450, 21:24].mean())
    assert image.get_extent() == pytest.approx([-0.05, 44.95, -0.05, 44.95])


def test_given_matrices_that_a_fit_refuses_then_they_are_still_drawn():
    bad, empty = matrix(1), np.zeros((12, 12))
    bad[2, 5:8] = np.nan
    data = from_arrays([bad, empty, matrix(2)], [0.0, 45.0, 90.0], Q, 0.1)
    _, (first, second, _) = maps_of(selected_data(data))
    assert np.isnan(values(first)[2, 5]) and np.isfinite(values(first)[2, 4])
    assert np.isnan(values(second)).all()
    normalised = replace(data, processing=Preprocessing(normalization="baseline"))
    axes, _ = maps_of(selected_data(normalised))
    assert [len(ax.texts) for ax in axes] == [0, 1, 0]
    assert "finds no usable pair" in axes[1].texts[0].get_text()
