"""Default bounds and priors hold what any laboratory's data can show, and say no more than that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.config import MODEL_NAMES, DataScale, ResolvedParameter, config_from_mapping, resolved_parameters

SCALES = {
    "shear cell": DataScale(q=0.0054, gap=2.0e6, dt=0.1, first=0.1, last=100.0),
    "colloids": DataScale(q=0.002, gap=2.0e6, dt=1e-3, first=1e-3, last=1.0),
    "microseconds": DataScale(q=0.01, gap=1.0e7, dt=1e-6, first=1e-6, last=1e-3),
    "slow gel": DataScale(q=0.003, gap=2.0e6, dt=100.0, first=100.0, last=1e5),
    "placeholder": DataScale(q=1.0, gap=2.0e6, dt=1.0, first=1.0, last=300.0),
    "late window": DataScale(q=0.0054, gap=2.0e6, dt=0.1, first=500.0, last=600.0),
}


def resolved(model: str, scale: DataScale, **sections: object) -> dict[str, ResolvedParameter]:
    config = config_from_mapping(
        {
            "analysis_mode": model,
            "experimental_data": {"file_path": "a.h5"},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
            **sections,
        }
    )
    return {item.parameter.name: item for item in resolved_parameters(config, scale)}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_any_laboratory_then_every_prior_lies_within_its_bounds(model: str, scale: DataScale) -> None:
    for item in resolved(model, scale).values():
        low, middle, high = item.prior.quantile([0.05, 0.5, 0.95], item.lower, item.upper)
        assert item.lower < low < middle < high < item.upper, item.parameter.name
        assert np.isfinite([item.lower, item.upper]).all()


@pytest.mark.parametrize(
    ("scale", "name", "value"),
    [
        ("colloids", "D0", 1e8),
        ("slow gel", "D0", 1e-2),
        ("shear cell", "D0", 1.2e4),
        ("microseconds", "D0", 1e9),
        ("shear cell", "gamma_dot_t0", 9e-4),
        ("colloids", "gamma_dot_t0", 0.1),
        ("slow gel", "gamma_dot_t0", 1e-6),
    ],
)
def test_given_an_ordinary_rate_of_a_laboratory_then_it_is_well_inside(scale: str, name: str, value: float) -> None:
    item = resolved("laminar_flow", SCALES[scale])[name]
    assert item.lower < 0.1 * value and 10.0 * value < item.upper
    low, high = item.prior.quantile([0.01, 0.99], item.lower, item.upper)
    assert low < value < high


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_given_draws_of_the_priors_then_the_rate_in_the_middle_of_the_window_is_one_that_can_be_seen(
    scale: DataScale,
) -> None:
    found = resolved("static", scale)
    u = np.random.default_rng(1).uniform(size=(2, 4000))
    d0, alpha = (
        found[name].prior.quantile(u[k], found[name].lower, found[name].upper) for k, name in enumerate(("D0", "alpha"))
    )
    rate = np.log(d0) + alpha * np.log(scale.reference)
    slowest, fastest = np.log(scale.visible("diffusion"))
    assert np.mean((rate > slowest) & (rate < fastest)) > 0.4
    assert abs(np.median(rate) - 0.5 * (slowest + fastest)) < 0.15 * (fastest - slowest)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_given_a_rate_that_can_be_seen_then_the_prior_on_its_amplitude_says_little_of_its_exponent(
    scale: DataScale,
) -> None:
    prior = resolved("static", scale)["D0"].prior
    # At a known rate the amplitude is rate·t_ref^(−alpha): its prior is a normal in alpha of this width.
    width = prior.value("sigma") / max(abs(np.log(scale.reference)), 1e-9)
    assert width > 1.0


@pytest.mark.parametrize("length", [1e-3, 1e4])
@pytest.mark.parametrize("time", [1e-4, 60.0])
def test_given_other_units_of_length_and_time_then_the_bounds_are_those_of_the_same_rates(
    length: float, time: float
) -> None:
    scale = SCALES["shear cell"]
    other = DataScale(
        q=scale.q / length,
        gap=scale.gap * length,
        dt=scale.dt * time,
        first=scale.first * time,
        last=scale.last * time,
    )
    for rate, unit in (("diffusion", length**2), ("shear_rate", 1.0), ("velocity", length)):
        np.testing.assert_allclose(other.visible(rate), np.array(scale.visible(rate)) * unit / time, rtol=1e-12)


def test_given_a_fixed_exponent_then_the_amplitude_is_carried_with_it_alone() -> None:
    scale = SCALES["colloids"]
    found = resolved("static", scale, initial_parameters={"fixed_parameters": {"alpha": -1.0}})["D0"]
    slowest, fastest = scale.visible("diffusion")
    np.testing.assert_allclose([found.lower, found.upper], [slowest * scale.reference, fastest * scale.reference])
    narrow = resolved("static", replace(scale, first=1.0, last=1.0 + scale.window))["D0"]
    assert narrow.upper / narrow.lower < found.upper / found.lower * 1e3


def test_given_any_direction_of_the_flow_then_one_of_its_equals_is_inside_the_bounds_far_from_both() -> None:
    item = resolved("laminar_flow", SCALES["shear cell"])["phi0"]
    for phi0 in np.linspace(-180.0, 180.0, 73):
        equals = phi0 + 180.0 * np.arange(-2, 3)
        assert np.any((equals >= item.lower + 40.0) & (equals <= item.upper - 40.0))
