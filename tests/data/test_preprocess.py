"""Preprocessing is off, and when on does what its name says, to usable pairs alone, and leaves a record."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.quality.report import examine
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import DataError
from tests.data.quality.damage import N, clean_stack

PHI = np.array([0.0, 60.0])
OFF = ~np.eye(N, dtype=bool)


def record(stack=None, **settings):
    """A record of two angles, with stages by name."""
    own = {name: settings.pop(name) for name in ("sigma", "dead_frames", "non_finite") if name in settings}
    stack = clean_stack(phi=PHI) if stack is None else stack
    return from_arrays(stack, PHI, q=0.005, dt=0.1, processing=Preprocessing(**settings), **own)


def test_given_the_defaults_then_nothing_is_changed_or_recorded():
    stack = clean_stack(phi=PHI)
    plain = from_arrays(stack, PHI, q=0.005, dt=0.1)
    np.testing.assert_array_equal(plain.angle(0).c2, stack[0])
    assert "preprocessing" not in plain.provenance and plain.provenance["notes"] == []
    assert plain.fingerprint() == record().fingerprint()
    assert "changed_data" not in {item.check for item in examine(plain, "standard").deductions}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", lambda c2: c2 / c2[OFF].mean()),
        ("min_max", lambda c2: (c2 - c2[OFF].min()) / (c2[OFF].max() - c2[OFF].min())),
        ("z_score", lambda c2: (c2 - c2[OFF].mean()) / c2[OFF].std()),
    ],
)
def test_given_a_normalization_then_c2_and_sigma_are_scaled_alike(method, expected):
    stack = clean_stack(phi=PHI)
    found = record(stack, normalization=method, sigma=0.005).angle(1)
    np.testing.assert_allclose(found.c2, expected(stack[1]), rtol=1e-12, atol=1e-12)
    factor = np.ptp(stack[1][OFF]) / np.ptp(found.c2[OFF])
    np.testing.assert_allclose(found.sigma[OFF], 0.005 / factor)


def test_given_normalization_by_the_baseline_then_long_lags_are_one():
    found = record(3.0 * clean_stack(phi=PHI), normalization="baseline").angle(0).c2
    assert np.mean(np.concatenate([found.diagonal(lag) for lag in range(60, N)])) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("method", ["median", "gaussian"])
def test_given_noise_reduction_then_noise_falls_the_decay_stays_and_symmetry_holds(method):
    quiet, noisy = clean_stack(phi=PHI, sigma=0.0), clean_stack(phi=PHI, sigma=0.02)
    found = record(noisy, noise_reduction=method, window=5, validate_result=True).angle(0).c2
    assert np.std((found - quiet[0])[OFF]) < 0.75 * np.std((noisy[0] - quiet[0])[OFF])
    np.testing.assert_array_equal(found.diagonal(), noisy[0].diagonal())
    for lag in (1, 5, 40):
        assert np.mean(found.diagonal(lag) - quiet[0].diagonal(lag)) == pytest.approx(0.0, abs=0.01)
    untouched = record(quiet, noise_reduction=method).angle(0).c2
    np.testing.assert_allclose(untouched[5:-5, 5:-5], quiet[0][5:-5, 5:-5], atol=2e-3)


@pytest.mark.parametrize("method", ["median", "gaussian"])
def test_given_masked_values_then_they_reach_no_other_pair_and_are_not_filled(method):
    stack = clean_stack(phi=PHI)
    hurt = stack.copy()
    hurt[0, 20, 40] = hurt[0, 40, 20] = np.nan
    hurt[0, 50, :] = hurt[0, :, 50] = 0.0
    found = record(hurt, noise_reduction=method, non_finite="mask", validate_result=True).angle(0)
    assert not found.pair_ok[20, 40] and np.isnan(found.c2[20, 40]) and not found.frame_ok[50]
    used = found.frame_ok[:, None] & found.frame_ok[None, :] & found.pair_ok & OFF
    assert np.isfinite(found.c2[used]).all()
    assert np.abs(found.c2[used] - stack[0][used]).max() < 0.05


def test_given_noise_reduction_and_known_sigma_then_it_is_refused():
    with pytest.raises(DataError, match=r"noise\.sigma.*noise_reduction"):
        record(noise_reduction="median", sigma=0.01).angle(0)


def test_given_a_level_of_zero_then_dividing_by_it_is_refused():
    with pytest.raises(DataError, match="normalization: baseline would divide by"):
        record(clean_stack(phi=PHI) - 2.0, normalization="baseline").angle(0)


def test_given_the_number_type_then_matrices_have_it():
    stack = clean_stack(phi=PHI).astype(np.float32)
    assert record(stack).angle(0).c2.dtype == np.float32
    assert record(stack, standard="float64").angle(0).c2.dtype == np.float64
    assert record(stack, normalization="mean").angle(0).c2.dtype == np.float32


@pytest.mark.parametrize("method", ["basic", "statistical", "interpolation"])
def test_given_a_diagonal_method_then_pictures_change_and_fits_do_not(method):
    stack = clean_stack(phi=PHI, sigma=0.0)
    found = record(stack, diagonal=method)
    picture = found.picture(0)
    np.testing.assert_array_equal(found.angle(0).c2, stack[0])
    np.testing.assert_array_equal(picture[OFF], stack[0][OFF])
    beside, near = stack[0].diagonal(1).mean(), picture.diagonal().mean()
    assert near < beside if method == "statistical" else near >= beside - 1e-3
    assert found.fingerprint() == record(stack).fingerprint()


def test_given_stages_then_each_is_recorded_in_order_with_shapes_and_time():
    found = record(normalization="mean", noise_reduction="gaussian", window=7, standard="float64", validate_result=True)
    before = [stage["seconds"] for stage in found.provenance["preprocessing"]]
    found.angle(0)
    stages = found.provenance["preprocessing"]
    assert [(stage["stage"], stage["method"]) for stage in stages] == [
        ("normalization", "mean"),
        ("noise_reduction", "gaussian"),
        ("standardise", "float64"),
        ("validate", "finite and symmetric"),
    ]
    assert stages[1]["parameters"] == {"window": 7, "along": "equal lag"}
    assert all(stage["input_shape"] == stage["output_shape"] == [N, N] for stage in stages)
    assert before == [None] * 4 and all(stage["seconds"] > 0.0 for stage in stages)
    notes = " ".join(found.provenance["notes"])
    assert "was normalised (mean)" in notes and "error bars are too small" in notes


def test_given_stages_that_change_data_then_fingerprint_and_quality_tell():
    prints = {record(**{name: method}).fingerprint() for name, method in [
        ("normalization", "none"), ("normalization", "mean"), ("noise_reduction", "median"), ("standard", "float64"),
    ]}  # fmt: skip
    assert len(prints) == 4
    report = examine(record(normalization="mean", noise_reduction="median"), "basic")
    (item,) = report.deductions
    assert (item.check, item.stage, item.points) == ("changed_data", "preprocessed", 10.0)
    assert "noise_reduction median" in item.reason
