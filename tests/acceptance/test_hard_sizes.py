"""Sizes and signals at which a least-squares fit of two-time data can go wrong without a word.

Between 10⁵ and 10⁶ points a published package returns its start values; slow decay lets contrast and rate
trade places; unequal contrasts bias a fit that assumes one for all.
"""

import numpy as np
import pytest
from scipy import stats

import hpcxpcs

SIZES = {"3 x 100²": {"angles": 3, "frames": 100}, "8 x 300²": {"angles": 8, "frames": 300}}
SHARED = {"contrast_spread": 0.0, "offset_spread": 0.0}
NUMBERS_ONLY = {"plots": False, "report": False, "fitted_data": False}


def written(path, model, **settings):
    """Simulate a file of `model` with contrast 0.3 and return its path."""
    settings = {"contrast": 0.3, "seed": 11, "q": 0.0054, **settings}
    return hpcxpcs.simulate(hpcxpcs.SimulationSpec(model, output=path, **settings))


def configuration(path, analysis_mode="laminar_flow", scaling="auto", **sections):
    """The configuration of a fit of `path`."""
    return {
        "schema_version": 1,
        "analysis_mode": analysis_mode,
        "experimental_data": {"file_path": str(path)},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "scaling": scaling if isinstance(scaling, dict) else {"mode": scaling},
        "optimization": {"method": "nlsq"},
        "output": NUMBERS_ONLY,
        **sections,
    }


def deviations(found):
    """Physical parameters minus truth, in standard errors."""
    point = found.point
    truth = np.array([found.truth["parameters"][name] for name in point.names])
    return (point.values - truth) / point.uncertainty


def chance(found):
    """Probability of a larger χ² of the deviations of the physical parameters, correlations included."""
    point = found.point
    count = int(point.free.sum())
    truth = np.array([found.truth["parameters"][name] for name in point.names])
    difference = (point.values - truth)[point.free]
    return stats.chi2.sf(difference @ np.linalg.solve(point.covariance[:count, :count], difference), count)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """For each size, a sheared suspension whose angles differ in contrast and offset, and one whose do not."""
    folder = tmp_path_factory.mktemp("sheared")
    return {
        (size, spread): written(
            folder / f"{number}-{spread}.hdf", "laminar_flow", **shape, **({} if spread == "own" else SHARED)
        )
        for number, (size, shape) in enumerate(SIZES.items())
        for spread in ("own", "shared")
    }


MODES = {
    "averaged": ("shared", {"mode": "averaged"}),
    "constant": ("shared", {"mode": "constant", "constant": {"contrast": 0.3, "offset": 1.0}}),
    "individual": ("own", {"mode": "individual"}),
    "fourier": ("shared", {"mode": "fourier"}),
    "hierarchical": ("own", {"mode": "hierarchical"}),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_shear_is_recovered_within_its_errors_at_sizes_where_start_values_were_returned(files, size, mode, tmp_path):
    spread, scaling = MODES[mode]
    found = hpcxpcs.fit(configuration(files[size, spread], scaling=scaling), run=tmp_path)
    assert found.point.ok and found.exit_code == 0
    assert found.point.scaling.mode == mode
    assert np.all(np.abs(deviations(found)) < 4.0)
    assert chance(found) > 1e-4


FAR_OFF = {
    "too slow": (200.0, 0.5, 0.0, 1e-5, 0.5, 0.0, 9.0),
    "too fast": (9e4, -1.5, 5e4, 0.3, -1.5, 0.05, -9.0),
}
"""Values of all seven parameters, in the order of the table, up to 300 times off."""


@pytest.fixture(scope="module")
def usual(files, tmp_path_factory):
    """The answer without start values from the user."""
    return hpcxpcs.fit(configuration(files["8 x 300²", "own"]), run=tmp_path_factory.mktemp("usual")).point


@pytest.mark.parametrize("starts", [8, 1])
@pytest.mark.parametrize("values", FAR_OFF)
def test_start_values_that_are_far_off_lead_to_the_same_answer(files, usual, values, starts, tmp_path):
    given = {"parameter_names": list(usual.names), "values": list(FAR_OFF[values])}
    settings = {"initial_parameters": given, "optimization": {"method": "nlsq", "nlsq": {"multi_start": starts}}}
    found = hpcxpcs.fit(configuration(files["8 x 300²", "own"], **settings), run=tmp_path).point
    assert found.ok
    assert np.all(np.abs(found.values - usual.values) < 0.05 * usual.uncertainty)


@pytest.mark.parametrize("mode", ["auto", "individual", "hierarchical"])
@pytest.mark.parametrize("decay", [0.3, 0.7])
def test_slow_decay_keeps_contrast_and_rate_within_their_errors(decay, mode, tmp_path):
    frames, dt, q = 200, 0.1, 0.0054
    rate = decay / (q**2 * frames * dt)
    path = written(
        tmp_path / "slow.hdf",
        "static",
        angles=5,
        frames=frames,
        parameters={"D0": rate, "alpha": 0.0, "D_offset": 0.0},
    )
    found = hpcxpcs.fit(
        configuration(path, "static", scaling=mode, initial_parameters={"fixed_parameters": {"D_offset": 0.0}}),
        run=tmp_path,
    )
    point = found.point
    z = (point.scaling.contrast - found.truth["contrast"]) / point.scaling.contrast_uncertainty
    assert point.ok
    assert np.all(np.abs(deviations(found)[point.free]) < 4.0)
    assert np.all(np.abs(z) < 4.0)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """A static suspension whose contrast varies by 10 % between eight angles."""
    path = tmp_path_factory.mktemp("unequal") / "c.hdf"
    return written(path, "static", angles=8, frames=100, contrast_spread=0.1)


def test_unequal_contrasts_are_flagged_in_words_when_one_is_assumed_for_all(unequal, tmp_path):
    found = hpcxpcs.fit(configuration(unequal, "static", scaling="averaged"), run=tmp_path)
    assert any("do not share one contrast and offset" in flag for flag in found.point.flags)
    assert any("scaling.mode auto" in flag for flag in found.point.flags)


def test_unequal_contrasts_do_not_bias_the_automatic_scaling(unequal, tmp_path):
    found = hpcxpcs.fit(configuration(unequal, "static"), run=tmp_path)
    scaling = found.point.scaling
    assert found.ok and not any("do not share" in flag for flag in found.point.flags)
    assert np.all(np.abs(deviations(found)) < 4.0) and chance(found) > 1e-4
    assert np.all(np.abs(scaling.contrast - found.truth["contrast"]) < 4.0 * scaling.contrast_uncertainty)


@pytest.mark.parametrize("holes", [{}, {"dead_frames": (7, 60), "missing_bins": (2,)}], ids=["whole", "holes"])
def test_every_layout_gives_the_same_answer_for_the_same_data(holes, tmp_path):
    answers = {}
    for layout, half in (("nexus", True), ("nexus", False), ("legacy", True), ("cube", False)):
        path = written(
            tmp_path / f"{layout}-{half}.hdf",
            "static",
            angles=4,
            frames=100,
            format=layout,
            half=half,
            **holes,
        )
        point = hpcxpcs.fit(configuration(path, "static"), run=tmp_path / layout).point
        assert point.ok
        answers[layout, half] = np.concatenate([point.values, point.scaling.contrast, point.scaling.offset])
    expected = answers["nexus", True]
    for answer in answers.values():
        assert np.allclose(answer, expected, rtol=1e-6, atol=0.0)
