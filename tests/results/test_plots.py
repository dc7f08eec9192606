"""Pictures show what they say, and one that fails costs nothing else."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from hpcxpcs.results import plots
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.drawing import evenly_chosen
from hpcxpcs.results.gallery import Gallery
from tests.results.sample import reduced, sample_answer, sample_data, sample_run

OVERALL = {"overview.png", "angle_scaling.png", "residual_checks.png"}


@pytest.fixture(scope="module")
def answer():
    return sample_answer()


def drawn(answer, folder):
    told = []
    gallery = Gallery(folder, answer, told.append)
    for block in compared(answer):
        gallery.add(block)
    gallery.finish()
    return gallery, told


def pixels(png):
    return image.imread(io.BytesIO(png))


def size(png):
    """Width and height from the header of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_given_angles_then_file_names_keep_every_digit():
    assert plots.angle_file_names([-12.5, 0.0, 45.123456789]) == (
        "c2_phi_-12.5.png",
        "c2_phi_0.0.png",
        "c2_phi_45.123456789.png",
    )


@given(st.lists(st.sampled_from([0.0, -0.0, 1e-9, 12.1, 12.1000001, -12.1]) | st.floats(-180, 180), max_size=12))
def test_given_any_angles_then_no_two_files_have_the_same_name(phi):
    names = plots.angle_file_names(phi)
    assert len(set(names)) == len(phi)
    assert all("/" not in name for name in names)


def test_given_an_answer_then_every_picture_is_made_and_told(answer, tmp_path):
    gallery, told = drawn(answer, tmp_path)
    expected = {*OVERALL, *plots.angle_file_names(answer.data.phi)}
    assert gallery.failed == []
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert told[:3] == [f"picture {name}" for name in plots.angle_file_names(answer.data.phi)]
    assert all(size(path.read_bytes())[0] > 1000 for path in tmp_path.iterdir())


def test_given_one_picture_that_fails_then_the_others_are_made_and_the_error_is_kept(answer, tmp_path, monkeypatch):
    real = plots.AnglePage.draw

    def failing(page, summary):
        if summary.angle == 1:
            raise ValueError("no ink")
        return real(page, summary)

    monkeypatch.setattr(plots.AnglePage, "draw", failing)
    gallery, _ = drawn(answer, tmp_path)
    assert [(item.what, item.reason) for item in gallery.failed] == [("plots/c2_phi_0.0.png", "ValueError: no ink")]
    assert len(list(tmp_path.iterdir())) == 5


def test_given_pages_drawn_in_a_row_then_each_is_what_it_would_be_alone(answer):
    summaries = [reduced(answer, k) for k in (0, 2)]
    page = plots.AnglePage(answer)
    first, second = (page.draw(one) for one in summaries)
    assert first == plots.AnglePage(answer).draw(summaries[0])
    assert size(first) == size(second)
    assert not np.array_equal(pixels(first), pixels(second))
    assert page.draw(summaries[0]) == page.draw(summaries[0])


def test_given_a_misfit_then_its_sign_has_a_colour_and_zero_is_white(answer):
    summary = reduced(answer, 0)
    counts = {}
    for name, level in (("above", 3.0), ("none", 0.0), ("below", -3.0)):
        residual = np.full_like(summary.residual, level)
        rgb = pixels(plots.AnglePage(answer).draw(replace(summary, residual=residual)))[..., :3]
        panel = rgb[120:260, 830:960].reshape(-1, 3).mean(axis=0)
        counts[name] = panel
    assert counts["above"][0] > counts["above"][2] + 0.2
    assert counts["below"][2] > counts["below"][0] + 0.2
    assert counts["none"] == pytest.approx(np.full(3, 0.97), abs=0.02)


@pytest.mark.parametrize("phi", [(30.0,), tuple(np.linspace(0, 90, 61))], ids=["one angle", "61 angles"])
def test_given_few_or_many_angles_then_the_overview_is_drawn(phi):
    answer = sample_answer(12, phi)
    summaries = [reduced(answer, 0)] * len(phi)
    summaries = [replace(one, angle=k) for k, one in enumerate(summaries)]
    assert size(plots.overview(answer, summaries))[0] > 1000
    assert len(evenly_chosen(list(summaries), 60)) == min(60, len(phi))


def test_given_dead_frames_then_pictures_are_still_made(tmp_path):
    answer = sample_answer()
    gallery, _ = drawn(replace(answer, data=sample_data(dead_frames=(6, 7, 40))), tmp_path)
    assert gallery.failed == []


def test_given_no_robust_errors_and_a_constant_scaling_then_pictures_are_still_made(tmp_path):
    answer = sample_answer()
    unknown = np.full(3, np.nan)
    scaling = replace(
        answer.fit.scaling,
        contrast_uncertainty=unknown,
        offset_uncertainty=unknown,
        robust_contrast_uncertainty=None,
        robust_offset_uncertainty=None,
    )
    answer = replace(answer, fit=replace(answer.fit, scaling=scaling), run=sample_run(truth={"contrast": 0.2}))
    assert drawn(answer, tmp_path)[0].failed == []
