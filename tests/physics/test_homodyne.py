"""Diffusion and shear against moving particles, quadrature, and the published formula."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad

from hpcxpcs.physics.homodyne import sinc
from hpcxpcs.physics.model import TimeGrid, build_model

TRACERS = 200_000
SINC_DERIVATIVES = [jax.jit(f) for f in (sinc, jax.grad(sinc), jax.grad(jax.grad(sinc)))]


def intensity_correlation(phases: np.ndarray) -> float:
    """|⟨exp(i phase)⟩|² over particles."""
    return float(abs(np.exp(1j * phases).mean()) ** 2)


def five_sigma(expected: float, particles: int) -> float:
    """Five standard errors of |⟨exp(i phase)⟩|², with its bias of 1/particles."""
    return 5.0 * (np.sqrt(2.0 * expected / particles) + 1.0 / particles)


@pytest.mark.parametrize("x", [0.0, 1e-9, 1e-3, 0.2499, 0.25, 0.2501, 3.0, 40.0])
def test_given_any_argument_when_differentiated_twice_then_sinc_equals_the_slit_average(x):
    moments = [
        quad(lambda s, f=f: f(s), 0.0, 1.0, epsabs=1e-13, limit=200)[0]
        for f in (lambda s: np.cos(x * s), lambda s: -s * np.sin(x * s), lambda s: -(s**2) * np.cos(x * s))
    ]
    assert [float(f(x)) for f in SINC_DERIVATIVES] == pytest.approx(moments, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("phase", [0.5, 1.0, 2.0, np.pi, 4.0, 4.4934, 7.7])
def test_given_tracers_in_a_linear_profile_when_averaged_then_couette_is_their_correlation(phase):
    q, gap, phi, phi0, elapsed = 0.005, 2.0e6, 25.0, -5.0, 3.0
    alignment = np.cos(np.deg2rad(phi0 - phi))
    shear_rate = 2.0 * phase / (q * gap * alignment * elapsed)
    height = gap * np.random.default_rng(11).random(TRACERS)
    measured = intensity_correlation(q * alignment * height * shear_rate * elapsed)
    model = build_model("laminar_flow", q=q, gap=gap)
    theta = np.array([0.0, 0.0, 0.0, shear_rate, 0.0, 0.0, phi0])
    predicted = float(model.shape(theta, 1.0, 1.0 + elapsed, phi))
    assert measured == pytest.approx(predicted, abs=five_sigma(predicted, TRACERS))


def test_given_tracers_in_a_linear_profile_when_averaged_then_homodyne_2_is_not_their_correlation():
    q, gap, shear_rate = 0.005, 2.0e6, 4.0e-4
    height = gap * np.random.default_rng(12).random(TRACERS)
    measured = intensity_correlation(q * height * shear_rate)
    model = build_model("laminar_flow", q=q, gap=gap, shear_law="homodyne-2")
    predicted = float(model.shape(np.array([0.0, 0.0, 0.0, shear_rate, 0.0, 0.0, 0.0]), 1.0, 2.0, 0.0))
    assert abs(measured - predicted) > 20.0 * five_sigma(predicted, TRACERS)


def test_given_shear_that_changes_with_time_when_tracers_are_followed_then_the_strain_is_its_integral():
    q, gap, rate0, beta, offset = 0.005, 2.0e6, 1.0e-4, -0.6, 0.5e-4
    rng = np.random.default_rng(13)
    height, displacement = gap * rng.random(50_000), np.zeros(50_000)
    edges = np.linspace(0.5, 2.0, 1001)
    for middle, width in zip(0.5 * (edges[1:] + edges[:-1]), np.diff(edges), strict=True):
        displacement += height * (rate0 * middle**beta + offset) * width
    model = build_model("laminar_flow", q=q, gap=gap)
    theta = np.array([0.0, 0.0, 0.0, rate0, beta, offset, 0.0])
    predicted = float(model.shape(theta, 0.5, 2.0, 0.0))
    assert 0.1 < predicted < 0.9
    assert intensity_correlation(q * displacement) == pytest.approx(predicted, abs=five_sigma(predicted, 50_000))


@pytest.mark.parametrize(("d0", "alpha", "offset"), [(4.0e3, -0.8, 300.0), (900.0, 0.5, 0.0)])
def test_given_particles_whose_diffusion_ages_when_followed_then_static_is_their_correlation(d0, alpha, offset):
    q, particles = 0.01, 50_000
    rng = np.random.default_rng(17)
    edges = np.linspace(0.2, 3.0, 301)
    middles = 0.5 * (edges[1:] + edges[:-1])
    spread = np.sqrt((d0 * middles**alpha + offset) * np.diff(edges))
    model = build_model("static", q=q)
    position = np.zeros(particles)
    for k, step in enumerate(spread, start=1):
        position += step * rng.standard_normal(particles)
        if k in (60, 150, 300):
            predicted = float(model.shape(np.array([d0, alpha, offset]), edges[0], edges[k], 0.0))
            measured = intensity_correlation(q * position)
            assert measured == pytest.approx(predicted, abs=five_sigma(predicted, particles) + 1e-3 * predicted)


def published_homodyne(theta, times, dt, q, gap, phi):
    """The published formula, its floors included, from its written definition; shape f on times x times."""
    d0, alpha, d_offset, rate0, beta, rate_offset, phi0 = theta
    shortest = max(abs(times[1] - times[0]) / 2.0, 1e-8)
    safe = np.where(times > shortest, times, shortest)

    def pairs(amplitude, exponent, offset):
        values = np.maximum(amplitude * safe**exponent + offset, 1e-10)
        running = np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]))])
        return np.sqrt((running[:, None] - running[None, :]) ** 2 + 1e-12)

    diffusion = np.exp(np.clip(-0.5 * q**2 * dt * pairs(d0, alpha, d_offset), -700.0, 0.0))
    phase = q * gap * dt / (2.0 * np.pi) * np.cos(np.deg2rad(phi0 - phi)) * pairs(rate0, beta, rate_offset)
    return np.maximum(diffusion * np.sinc(phase / np.pi) ** 2, 1e-10) ** 2


@pytest.mark.parametrize("first", [0, 1], ids=["from zero", "from dt"])
@pytest.mark.parametrize(
    "theta",
    [
        [1.0e4, -0.7, 20.0, 0.05, 0.3, 0.01, 4.0],
        [5.0e3, -1.3, -400.0, 0.02, 0.6, -0.03, -2.0],
        [2.0e3, 0.4, 0.0, 0.1, -0.5, 0.0, 0.0],
    ],
    ids=["positive rates", "rates that reach the floor", "growing diffusion"],
)
def test_given_homodyne_2_with_trapezoid_when_compared_then_the_published_formula_is_reproduced(theta, first):
    q, gap, dt, phi = 0.005, 2.0e5, 0.1, 33.0
    times = dt * np.arange(first, first + 60)
    grid = TimeGrid(start=dt * first, step=dt, count=60)
    model = build_model("laminar_flow", q=q, gap=gap, shear_law="homodyne-2", integrator="trapezoid", grid=grid)
    shape = np.asarray(model.shape(np.array(theta), times[:, None], times[None, :], phi))
    published = published_homodyne(theta, times, dt, q, gap, phi)
    apart = ~np.eye(60, dtype=bool)
    assert np.abs(shape - published)[apart].max() < 1e-8
    assert published[apart].max() > 0.5


def test_given_a_steep_power_law_when_compared_then_trapezoid_is_wrong_in_the_first_bin_and_exact_is_not():
    theta, grid = np.array([100.0, -1.5, 0.0]), TimeGrid(start=0.1, step=0.1, count=50)
    truth, _ = quad(lambda t: 100.0 * t**-1.5, 0.1, 0.2)
    exact = build_model("static", q=0.01)
    summed = build_model("static", q=0.01, integrator="trapezoid", grid=grid)
    transports = [-np.log(float(m.shape(theta, 0.1, 0.2, 0.0))) / 0.01**2 for m in (exact, summed)]
    assert transports[0] == pytest.approx(truth, rel=1e-12)
    assert transports[1] / truth - 1.0 == pytest.approx(0.155, abs=0.001)
