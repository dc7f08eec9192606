"""What the simulator puts into a matrix: scaling, noise on pairs and frames, dead frames, reproducibility."""

import numpy as np
import pytest

from hpcxpcs.data.simulate import (
    DIAGONAL_SPIKE,
    RING_SPACING,
    Bin,
    NoiseSpec,
    Recipe,
    add_pair_noise,
    bins_of,
    even_angles,
    matrix_of,
    noise_spec,
    scale_frames,
    scaling_of,
)
from hpcxpcs.errors import ConfigError

N = 80
BIN = Bin(number=1, ring=0, angle=0, q=0.0054, phi=-30.0)
QUIET = NoiseSpec("iid", sd=0.0)


def decay(item):
    t = np.arange(N)
    return np.exp(-np.abs(t[:, None] - t[None, :]) * item.q * 10.0)


def matrices(recipe, bins):
    return [matrix_of(recipe, item, decay, no_field) for item in bins]


def no_field(item):
    raise AssertionError("only the photon model needs the field")


def upper(matrix):
    return matrix[np.triu_indices(matrix.shape[0], 1)]


def test_given_no_noise_then_the_matrix_is_offset_plus_contrast_times_shape():
    recipe = Recipe(frames=N, noise=QUIET, dtype="float64")
    contrast, offset = scaling_of(recipe, BIN)
    c2 = matrix_of(recipe, BIN, decay, no_field)
    np.testing.assert_allclose(upper(c2), upper(offset + contrast * decay(BIN)), rtol=1e-14)


def test_the_diagonal_has_a_spike_that_no_fit_could_overlook():
    recipe = Recipe(frames=N, noise=QUIET, dtype="float64")
    contrast, offset = scaling_of(recipe, BIN)
    c2 = matrix_of(recipe, BIN, decay, no_field)
    np.testing.assert_allclose(np.diag(c2), offset + contrast + DIAGONAL_SPIKE, rtol=1e-14)


def test_same_seed_gives_the_same_bits_and_another_seed_other_ones():
    first, again, other = (matrix_of(Recipe(frames=N, seed=seed), BIN, decay, no_field) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.any(upper(first) == upper(other))


def test_a_matrix_does_not_depend_on_the_other_bins_or_on_their_order():
    recipe = Recipe(frames=N)
    few = bins_of(0.0054, (0.0, 40.0), 0, ())
    many = bins_of(0.0054, (0.0, 40.0), 2, (1,))
    by_key = {(b.ring, b.angle): m for b, m in zip(many, matrices(recipe, many), strict=True)}
    for item, matrix in zip(reversed(few), matrices(recipe, few[::-1]), strict=True):
        np.testing.assert_array_equal(matrix, by_key[item.ring, item.angle])


def test_no_two_bins_share_noise():
    recipe = Recipe(frames=N, contrast_spread=0.0, offset_spread=0.0)
    bins = bins_of(0.0054, even_angles(2), 4, ())
    noise = [upper(m - 0.15 * decay(b)) for b, m in zip(bins, matrices(recipe, bins), strict=True)]
    correlation = np.corrcoef(noise) - np.eye(len(bins))
    assert np.abs(correlation).max() < 5.0 / np.sqrt(noise[0].size)


def test_pair_noise_has_the_stated_deviation_is_white_and_is_mirrored():
    noise = np.zeros((300, 300))
    add_pair_noise(noise, 0.02, np.random.default_rng(1))
    draws = upper(noise)
    assert draws.std() == pytest.approx(0.02, rel=4.0 / np.sqrt(2 * draws.size))
    assert abs(draws.mean()) < 4.0 * 0.02 / np.sqrt(draws.size)
    assert np.unique(draws).size > 0.999 * draws.size
    np.testing.assert_array_equal(noise, noise.T)
    rows = noise.sum(axis=1) / (0.02 * np.sqrt(299.0))
    assert rows.var() == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / 300.0))


def test_frame_noise_has_dyadic_covariance():
    rng, sd, draws = np.random.default_rng(2), 0.05, 20_000
    level = np.array([[1.0, 1.1, 1.2, 1.3], [1.1, 1.0, 1.4, 1.5], [1.2, 1.4, 1.0, 1.6], [1.3, 1.5, 1.6, 1.0]])
    samples = np.empty((draws, 4, 4))
    for sample in samples:
        sample[:] = level
        scale_frames(sample, sd, rng)
    shared = np.cov(samples[:, 0, 1], samples[:, 0, 2])
    apart = np.cov(samples[:, 0, 1], samples[:, 2, 3])
    error = 5.0 * 2.0 * sd**2 * 2.0 / np.sqrt(draws)
    assert shared[0, 1] == pytest.approx(sd**2 * 1.1 * 1.2, abs=error)
    assert shared[0, 0] == pytest.approx((2 * sd**2 + sd**4) * 1.1**2, abs=error)
    assert apart[0, 1] == pytest.approx(0.0, abs=error)


def test_given_the_frame_model_then_rows_share_noise_on_top_of_pair_noise():
    recipe = Recipe(frames=N, noise=NoiseSpec("frame", sd=0.01, frame_sd=0.01), contrast_spread=0.0, offset_spread=0.0)
    bins = bins_of(0.0054, even_angles(40), 0, ())
    noise = np.array([matrix_of(recipe, item, decay, no_field) - (1.0 + 0.15 * decay(item)) for item in bins])
    noise[:, np.arange(N), np.arange(N)] = 0.0
    row_variance = float(np.mean(noise.sum(axis=2) ** 2)) / (N - 1) ** 2
    pairs_alone, frames = 0.01**2 / (N - 1), (0.01 * 1.02) ** 2
    assert row_variance == pytest.approx(frames * (1 + 1 / (N - 1)) + pairs_alone, rel=0.15)


def test_the_matrix_is_exactly_symmetric_under_every_noise_on_the_matrix():
    for noise in (NoiseSpec("iid"), NoiseSpec("frame", frame_sd=0.05)):
        c2 = matrix_of(Recipe(frames=N, noise=noise), BIN, decay, no_field)
        np.testing.assert_array_equal(c2, c2.T)


def test_dead_frames_are_rows_and_columns_of_zeros_and_nothing_else_is():
    c2 = matrix_of(Recipe(frames=N, dead_frames=(3, 17)), BIN, decay, no_field)
    zero = np.zeros(N, dtype=bool)
    zero[[2, 16]] = True
    np.testing.assert_array_equal(c2 == 0.0, zero[:, None] | zero[None, :])


def test_contrast_and_offset_spread_between_angles_as_asked():
    recipe = Recipe(frames=N, contrast=0.2, contrast_spread=0.1, offset=1.01, offset_spread=0.003)
    contrast, offset = np.array([scaling_of(recipe, b) for b in bins_of(0.0054, even_angles(400), 0, ())]).T
    assert contrast.mean() == pytest.approx(0.2, abs=4 * 0.02 / 20)
    assert contrast.std() == pytest.approx(0.02, rel=0.15)
    assert offset.mean() == pytest.approx(1.01, abs=4 * 0.003 / 20)
    assert offset.std() == pytest.approx(0.003, rel=0.15)
    assert abs(np.corrcoef(contrast, offset)[0, 1]) < 0.2


def test_contrast_stays_in_its_range_however_wide_the_spread():
    for mean in (1e-3, 0.9):
        recipe = Recipe(frames=N, contrast=mean, contrast_spread=0.5)
        drawn = [scaling_of(recipe, b)[0] for b in bins_of(0.0054, even_angles(300), 0, ())]
        assert min(drawn) > 0.0 and max(drawn) <= 1.0


def test_the_matrix_has_the_type_asked_for():
    assert matrix_of(Recipe(frames=N), BIN, decay, no_field).dtype == np.float32
    assert matrix_of(Recipe(frames=N, dtype="float64"), BIN, decay, no_field).dtype == np.float64


def test_bins_run_over_q_then_phi_and_keep_their_number_when_others_are_missing():
    bins = bins_of(0.01, (-10.0, 20.0), 2, (2, 5))
    assert [(b.number, b.ring, b.angle) for b in bins] == [(1, -1, 0), (3, 0, 0), (4, 0, 1), (6, 1, 1)]
    np.testing.assert_allclose([b.q for b in bins], [0.01 / RING_SPACING, 0.01, 0.01, 0.01 * RING_SPACING])
    assert [b.phi for b in bins] == [-10.0, -10.0, 20.0, 20.0]


def test_even_angles_cover_the_circle_without_both_ends():
    assert even_angles(1) == (0.0,)
    assert even_angles(3) == (-120.0, 0.0, 120.0)
    np.testing.assert_allclose(np.diff(even_angles(23)), 360.0 / 23)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contrast": 0.0}, "contrast"),
        ({"contrast": 1.2}, "contrast"),
        ({"offset": 3.0}, "offset"),
        ({"contrast_spread": -0.1}, "contrast_spread"),
        ({"dead_frames": (0,)}, "dead frames"),
        ({"dead_frames": (N + 1,)}, f"1 to {N}"),
        ({"seed": -1}, "seed"),
        ({"noise": NoiseSpec("photon")}, "frame sums"),
    ],
)
def test_an_impossible_recipe_is_refused_by_name(change, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(frames=N, **change)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "white"}, "white"),
        ({"sd": -1.0}, "sd"),
        ({"sd": float("nan")}, "sd"),
        ({"frame_sd": -1.0}, "frame_sd"),
        ({"photons": 0.0}, "photons"),
        ({"pixels": 1}, "pixels"),
    ],
)
def test_an_impossible_noise_is_refused_by_name(settings, words):
    with pytest.raises(ConfigError, match=words):
        NoiseSpec(**settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.01, (0.0,), -1, ()), "extra q"),
        ((0.01, (0.0,), 0, (2,)), "missing bins"),
        ((0.01, (0.0, 1.0), 1, (1, 2)), "none is left"),
    ],
)
def test_impossible_bins_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        bins_of(*arguments)


def test_no_angle_at_all_is_refused():
    with pytest.raises(ConfigError, match="angles"):
        even_angles(0)


@pytest.mark.parametrize(
    ("model", "setting"), [("iid", "frame_sd"), ("iid", "photons"), ("frame", "pixels"), ("photon", "sd")]
)
def test_a_setting_that_the_noise_model_would_ignore_is_refused(model, setting):
    with pytest.raises(ConfigError, match=setting):
        noise_spec(model, **{setting: 5})


def test_settings_left_open_take_their_defaults():
    assert noise_spec("frame", sd=0.02, frame_sd=None, pixels=None) == NoiseSpec("frame", sd=0.02)
