"""Matrices made from photons have the expectation and the noise that the formulas promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.data.simulate import (
    Bin,
    NoiseSpec,
    Recipe,
    field_root,
    matrix_of,
    mode_weights,
    normalised_correlation,
    photon_correlation,
    speckle_intensity,
    speckle_smoothing,
)
from hpcxpcs.errors import DataError

NOBODY = np.array([], dtype=np.intp)


def brownian_kernel(frames, rate=0.1):
    t = np.arange(frames)
    return np.exp(-rate * np.abs(t[:, None] - t[None, :]))


def moving_kernel(frames, phase=0.7):
    t = np.arange(frames)
    drift = np.exp(1j * phase * (t[:, None] - t[None, :]))
    return 0.7 * brownian_kernel(frames) + 0.3 * drift


def upper(matrix):
    return matrix[np.triu_indices(matrix.shape[0], 1)]


@given(st.floats(min_value=1e-3, max_value=1.0))
def test_mode_weights_reach_any_contrast_exactly(contrast):
    weights = mode_weights(contrast)
    assert np.all(weights >= 0.0)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert (weights**2).sum() == pytest.approx(contrast, rel=1e-9)


@pytest.mark.parametrize("contrast", [0.0, -0.1, 1.01, float("nan")])
def test_a_contrast_that_no_speckle_has_is_refused(contrast):
    with pytest.raises(DataError, match="contrast"):
        mode_weights(contrast)


@pytest.mark.parametrize("kernel", [brownian_kernel(30), moving_kernel(30), np.ones((30, 30))])
def test_the_root_reproduces_its_kernel(kernel):
    root = field_root(kernel)
    np.testing.assert_allclose(root @ root.conj().T, kernel, atol=1e-7)


def test_a_kernel_that_is_no_correlation_is_refused():
    kernel = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]])
    with pytest.raises(DataError, match="positive semidefinite"):
        field_root(kernel)


@pytest.mark.parametrize("kernel", [brownian_kernel(6), moving_kernel(6)])
def test_intensity_has_mean_one_and_the_contrast_of_its_modes(kernel):
    pixels = 200_000
    intensity = speckle_intensity(field_root(kernel), mode_weights(0.3), pixels, np.random.default_rng(3))
    np.testing.assert_allclose(intensity.mean(axis=1), 1.0, atol=5 * np.sqrt(0.3 / pixels))
    expected = 0.3 * np.abs(kernel) ** 2
    np.testing.assert_allclose(np.cov(intensity), expected, atol=8 * 0.3 / np.sqrt(pixels) * 2)


@pytest.mark.parametrize("kernel", [brownian_kernel(12), moving_kernel(12)])
def test_the_expectation_is_one_plus_contrast_times_shape(kernel):
    repeats, contrast, photons, pixels = 60, 0.4, 0.5, 3000
    rng = np.random.default_rng(4)
    samples = np.array(
        [
            upper(
                photon_correlation(
                    kernel, contrast=contrast, photons=photons, pixels=pixels, dead_frames=NOBODY, rng=rng
                )
            )
            for _ in range(repeats)
        ]
    )
    deviation = samples.mean(axis=0) - (1.0 + contrast * upper(np.abs(kernel) ** 2))
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(repeats)
    z = deviation / standard_error
    assert np.abs(z).max() < 4.5
    assert np.sqrt(np.mean(z**2)) < 1.6


def test_the_diagonal_contains_the_shot_noise():
    c2 = photon_correlation(
        brownian_kernel(40),
        contrast=0.1,
        photons=0.5,
        pixels=20_000,
        dead_frames=NOBODY,
        rng=np.random.default_rng(5),
    )
    assert np.diag(c2).mean() == pytest.approx(1.0 + 0.1 + 1.0 / 0.5, rel=0.01)


@pytest.mark.parametrize(("photons", "pixels"), [(0.5, 5000), (0.05, 5000), (0.2, 1000)])
def test_the_noise_of_an_element_is_one_over_photons_and_root_pixels(photons, pixels):
    kernel = np.eye(60) * 0.999 + 0.001
    c2 = photon_correlation(
        kernel,
        contrast=0.05,
        photons=photons,
        pixels=pixels,
        dead_frames=NOBODY,
        rng=np.random.default_rng(6),
    )
    assert upper(c2).std() == pytest.approx(1.0 / (photons * np.sqrt(pixels)), rel=0.12)


def test_an_empty_frame_becomes_a_row_of_zeros():
    products = np.array([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    c2 = normalised_correlation(products, np.array([2.0, 2.0, 0.0]), 10)
    np.testing.assert_allclose(c2, [[10.0, 5.0, 0.0], [5.0, 10.0, 0.0], [0.0, 0.0, 0.0]])


def test_given_the_photon_model_then_the_recipe_uses_the_field_and_kills_dead_frames():
    recipe = Recipe(
        frames=20,
        contrast=0.5,
        contrast_spread=0.0,
        offset_spread=0.0,
        noise=NoiseSpec("photon", photons=2.0, pixels=4000),
        dead_frames=(4,),
    )
    item = Bin(1, 0, 0, 0.0054, 0.0)

    def unused(_):
        raise AssertionError("the photon model needs the field, not the shape")

    first, again = (matrix_of(recipe, item, unused, lambda _: brownian_kernel(20)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, first.T)
    alive = np.arange(20) != 3
    assert np.all(first[3] == 0.0) and np.all(first[np.ix_(alive, alive)] > 0.0)


def independent_share(size):
    """Independent patterns per pixel, 1 / sum_q |mu_pq|^4 with |mu|^4 = 2^(-8 (d/size)^2), on a ring of 32 pixels."""
    steps = np.minimum(np.arange(32), 32 - np.arange(32))
    return 1.0 if size == 0.0 else float(np.sum(np.exp2(-8.0 * (steps / size) ** 2)) ** -2.0)


def wishart_covariance(first, second, pixels, share=1.0):
    """Cov(C2(i,j), C2(k,l)) of all upper pairs, from speckle K (N, N) and the diagonal of shot noise (N,)."""
    i, j = np.triu_indices(first.shape[0], 1)
    shot = np.diag(second)

    def part(a, b):
        return a[np.ix_(i, i)] * b[np.ix_(j, j)] + a[np.ix_(i, j)] * b[np.ix_(j, i)]

    mixed = part(first, shot) + part(shot, first) + part(shot, shot)
    return (part(first, first) / share + mixed) / pixels


@pytest.mark.parametrize("photons", [0.3, 20.0])
@pytest.mark.parametrize("size", [0.0, 2.0])
def test_given_speckle_and_photons_then_elements_fluctuate_together_as_a_wishart_matrix_does(photons, size):
    frames, contrast, pixels, repeats = 6, 0.1, 1024, 500
    kernel, rng = brownian_kernel(frames, rate=0.08), np.random.default_rng(11)
    level = photons * np.linspace(0.8, 1.2, frames)
    samples = np.array(
        [
            upper(
                photon_correlation(
                    kernel, contrast=contrast, photons=level, pixels=pixels, dead_frames=NOBODY, rng=rng,
                    speckle_size=size,
                )
            )
            for _ in range(repeats)
        ]
    )  # fmt: skip
    found = np.cov(samples, rowvar=False)
    expected = wishart_covariance(contrast * kernel**2, 1.0 / level, pixels, independent_share(size))
    # An element of a sample covariance has the variance (Sigma_ab^2 + Sigma_aa Sigma_bb) / (repeats - 1); what the
    # formula leaves out is of relative order contrast.
    scatter = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / (repeats - 1))
    z = (found - expected) / np.hypot(scatter, 2.0 * contrast * np.abs(expected))
    assert np.abs(z).max() < 4.5
    # Speckle is shared by all elements, which makes the trace one number of scatter sqrt(2/500), three times 6 %.
    assert np.trace(found) == pytest.approx(np.trace(expected), rel=0.2 + contrast)


def test_given_speckles_larger_than_a_pixel_then_neighbours_share_them_and_the_contrast_stays():
    smoothing, draw = speckle_smoothing(3.0), np.random.default_rng(2)
    patches = [
        speckle_intensity(field_root(np.ones((1, 1))), mode_weights(1.0), 32 * 32, draw, smoothing)[0]
        for _ in range(200)
    ]
    image = np.array(patches).reshape(-1, 32, 32) - 1.0
    variance = np.mean(image**2)
    assert variance == pytest.approx(1.0, rel=0.1)
    for distance in (1, 2, 3):
        shared = np.mean(image[:, :, :-distance] * image[:, :, distance:]) / variance
        assert shared == pytest.approx(2.0 ** -((2.0 * distance / 3.0) ** 2), abs=0.05)
