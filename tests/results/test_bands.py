"""Credible bands of the curve: right, and written angle by angle."""

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.results.comparison import at_mean, compared, drawn_curves
from hpcxpcs.results.fitted import BAND_MATRICES, Bands, draws_for, write_fitted_data
from tests.results.sample import whole
from tests.results.sample_posterior import sampled_answer


@pytest.fixture(scope="module")
def answer():
    return sampled_answer(30)


@pytest.fixture(scope="module")
def archive(answer, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "fitted_data.npz"
    write_fitted_data(path, answer, answer.posterior)
    with np.load(path, allow_pickle=False) as members:
        return dict(members)


def curves_of(answer, angle, count):
    """Every drawn curve of one angle, (count,N,N), one by one."""
    data, t = answer.data, answer.data.t
    found = []
    for curve in drawn_curves(answer.fit, answer.posterior, count):
        shape = np.array(answer.model.shape(curve.values, t[:, None], t[None, :], float(data.phi[angle])))
        np.fill_diagonal(shape, 1.0)
        found.append(curve.offset[angle] + curve.contrast[angle] * shape)
    return np.array(found)


def test_given_a_posterior_then_the_archive_has_the_public_names_and_shapes(archive):
    assert {name: array.shape for name, array in archive.items()} == {
        **dict.fromkeys(BAND_MATRICES, (3, 30, 30)),
        "phi_angles": (3,),
        "per_angle_scaling": (3, 2),
        "t1": (30,),
        "t2": (30,),
        "q": (1,),
        "credible_probability": (1,),
    }


def test_given_a_posterior_then_the_curve_is_that_of_its_mean(answer, archive):
    at = at_mean(answer.fit, answer.posterior)
    scaling = replace(answer.fit.scaling, contrast=at.contrast, offset=at.offset)
    same = replace(answer, fit=replace(answer.fit, values=at.values, scaling=scaling))
    for angle in range(3):
        assert archive["c2_theoretical_scaled"][angle] == pytest.approx(whole(same, angle)["scaled"], rel=1e-6)
    assert archive["per_angle_scaling"] == pytest.approx(np.column_stack([at.contrast, at.offset]))


def test_given_draws_then_the_band_is_what_their_curves_span(answer, archive):
    inside = np.s_[1:, 1:]
    for angle in (0, 2):
        curves = curves_of(answer, angle, draws_for(3 * 30**2))
        mean, deviation = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        lower, upper = archive["c2_credible_lower"][angle], archive["c2_credible_upper"][angle]
        assert ((lower + upper) / 2)[inside] == pytest.approx(mean[inside], abs=2e-7)
        assert ((upper - lower) / (2 * 1.959964))[inside] == pytest.approx(deviation[inside], abs=2e-7)


def test_given_blocks_of_few_rows_then_the_band_is_the_same(answer):
    bands = [Bands(answer, answer.posterior, 0.95, rows) for rows in (7, 30)]
    few = [bands[0].around(block) for block in compared(answer, 7 * 30) if block.angle == 1]
    (one,) = [bands[1].around(block) for block in compared(answer, 30 * 30) if block.angle == 1]
    for side in range(2):
        assert np.concatenate([part[side] for part in few])[:, 1:] == pytest.approx(one[side][:, 1:], rel=1e-12)


@pytest.mark.parametrize(("points", "draws"), [(100, 64), (10**7, 40), (10**9, 16)])
def test_given_more_points_then_fewer_draws_make_the_band(points, draws):
    assert draws_for(points) == draws
