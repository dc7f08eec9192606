"""Table, bounds, starts, fixed and active parameters become one statement per parameter."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hpcxpcs.config import (
    Config,
    DataScale,
    ParameterChoice,
    Prior,
    ResolvedParameter,
    parameter_choices,
    parameters_of,
    resolved_parameters,
)
from hpcxpcs.config.resolve import from_record, recorded
from hpcxpcs.config.schema import Config as SchemaConfig
from hpcxpcs.errors import ConfigError

Load = Callable[..., Config]
Problems = Callable[..., list[str]]


SCALE = DataScale(q=0.0054, gap=2.0e6, dt=0.1, first=0.1, last=100.0)


def by_name(config: Config) -> dict[str, ParameterChoice]:
    return {item.parameter.name: item for item in parameter_choices(config)}


def with_data(config: Config, scale: DataScale = SCALE) -> dict[str, ResolvedParameter]:
    return {item.parameter.name: item for item in resolved_parameters(config, scale)}


def test_given_nothing_about_parameters_then_all_is_left_to_the_data_but_what_has_no_dimension(load: Load) -> None:
    choices = parameter_choices(load())
    assert [item.parameter for item in choices] == list(parameters_of("laminar_flow"))
    for item in choices:
        known = item.parameter.kind in ("exponent", "angle")
        assert all((value is not None) == known for value in (item.lower, item.upper, item.prior))
        assert item.start is None and item.fixed is None and item.given == ()


def test_given_only_a_lower_bound_then_the_upper_one_comes_from_the_data_and_both_say_so(load: Load) -> None:
    free, bounded = load(), load("parameter_space: {bounds: [{name: D0, min: 123}]}\n")
    found = with_data(bounded)["D0"]
    assert found.lower == 123.0
    assert (found.upper, found.prior) == (with_data(free)["D0"].upper, with_data(free)["D0"].prior)
    assert found.origins() == {"min": "configuration", "max": "data", "prior": "data"}
    assert with_data(free)["alpha"].origins() == {"min": "table", "max": "table", "prior": "table"}


@pytest.mark.parametrize("start", [1e-9, 1e30])
def test_given_a_start_beyond_what_the_data_show_then_the_bounds_make_room_for_it(load: Load, start: float) -> None:
    config = load(f"initial_parameters: {{parameter_names: [D0, D_offset], values: [{start}, {start}]}}\n")
    for name in ("D0", "D_offset"):
        found = with_data(config)[name]
        assert found.lower < start < found.upper and found.start == start


def test_given_bounds_that_the_data_contradict_then_told_with_the_origin_of_each(load: Load) -> None:
    config = load("parameter_space: {bounds: [{name: D0, min: 1e30}]}\n")
    with pytest.raises(ConfigError, match=r"D0 an empty range: min 1e\+30 \(configuration\), max .* \(data\)"):
        resolved_parameters(config, SCALE)


def test_given_bounds_far_from_what_the_data_show_then_the_prior_of_the_data_moves_to_them(load: Load) -> None:
    config = load("parameter_space: {bounds: [{name: D0, min: 1e12, max: 1e13}]}\n")
    found = with_data(config)["D0"]
    assert found.prior.covers(found.lower, found.upper) and found.prior.value("median") == 1e12


def test_given_a_record_then_the_same_parameters_to_the_bit(load: Load) -> None:
    resolved = resolved_parameters(load("initial_parameters: {fixed_parameters: {phi0: 1.5}}\n"), SCALE)
    assert from_record("laminar_flow", json.loads(json.dumps(recorded(resolved)))) == resolved


@pytest.mark.parametrize(
    ("keys", "units"),
    [
        ("dt: frames", ["Å²/frame^(1+alpha)", "", "Å²/frame"]),
        ("scattering: {wavevector_q: unknown}", ["1/s^(1+alpha)", "", "1/s"]),
        ("dt: frames, scattering: {wavevector_q: unknown}", ["1/frame^(1+alpha)", "", "1/frame"]),
    ],
)
def test_given_time_in_frames_or_no_q_then_units_say_so(load_text: Load, keys: str, units: list[str]) -> None:
    known = "" if "scattering" in keys else ", scattering: {wavevector_q: 0.01}"
    config = load_text(
        f"analysis_mode: static\nexperimental_data: {{file_path: a.h5}}\nanalyzer_parameters: {{{keys}{known}}}\n"
    )
    assert [item.parameter.unit for item in resolved_parameters(config, SCALE)] == units


def test_given_shear_without_q_then_refused_with_the_reason(problems: Problems) -> None:
    found = problems("", "analyzer_parameters.scattering.wavevector_q=unknown")
    assert len(found) == 1 and "q times the gap" in found[0]


def test_given_bounds_and_priors_then_they_replace_the_table(load: Load) -> None:
    resolved = by_name(
        load("""
parameter_space:
  bounds:
    - {name: D0, min: 1e3, max: 2e4, prior: {type: lognormal, median: 1.0e4, sigma: 1.0}}
    - {name: alpha, prior_mu: -1.2, prior_sigma: 0.3}
    - {name: phi_0, max: 5}
""")
    )
    assert (resolved["D0"].lower, resolved["D0"].upper) == (1e3, 2e4)
    assert resolved["D0"].prior == Prior("lognormal", (("median", 1e4), ("sigma", 1.0)))
    assert resolved["alpha"].prior == Prior("truncated_normal", (("mu", -1.2), ("sigma", 0.3)))
    assert (resolved["phi0"].lower, resolved["phi0"].upper) == (-135.0, 5.0)


def test_given_values_in_another_order_then_each_reaches_its_parameter(load: Load) -> None:
    resolved = by_name(
        load("""
initial_parameters:
  parameter_names: [phi_0, gamma_dot_0, D0]
  values: [3, null, 5e3]
""")
    )
    assert resolved["phi0"].start == 3.0
    assert resolved["gamma_dot_t0"].start is None
    assert resolved["D0"].start == 5e3
    assert resolved["alpha"].start is None


def test_given_values_without_names_then_they_are_in_canonical_order(load: Load) -> None:
    config = load("initial_parameters: {values: [1e3, -0.5, 1, 0.1, 0.2, 0, 4]}\n")
    assert [item.start for item in parameter_choices(config)] == [1e3, -0.5, 1.0, 0.1, 0.2, 0.0, 4.0]


def test_given_fixed_parameters_then_they_are_held(load: Load) -> None:
    resolved = by_name(load("initial_parameters: {fixed_parameters: {phi0: 0.0}}\n"))
    assert resolved["phi0"].fixed == 0.0
    assert [name for name, item in resolved.items() if item.fixed is None] == [
        parameter.name for parameter in parameters_of("laminar_flow")[:-1]
    ]


def test_given_active_parameters_then_all_others_are_held_at_start_or_without_effect(load: Load) -> None:
    resolved = by_name(
        load("""
initial_parameters:
  parameter_names: [D0, beta]
  values: [5e3, 0.25]
  active_parameters: [D0, alpha]
""")
    )
    assert {name for name, item in resolved.items() if item.fixed is None} == {"D0", "alpha"}
    assert resolved["D0"].start == 5e3
    assert resolved["beta"].fixed == 0.25
    assert resolved["gamma_dot_t0"].fixed == 0.0


@pytest.mark.parametrize(("model", "name"), [("two_component", "v0"), ("laminar_flow", "gamma_dot_t0")])
def test_given_a_flow_amplitude_fixed_at_zero_then_legal_although_its_bounds_exclude_it(
    load: Load, model: str, name: str
) -> None:
    config = load("", f"analysis_mode={model}", f"initial_parameters.fixed_parameters.{name}=0")
    resolved = with_data(config)
    assert resolved[name].lower > 0
    assert resolved[name].fixed == 0.0


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("initial_parameters: {fixed_parameters: {alpha: 3}}", "alpha: 3.0 is outside the bounds -2 ... 2"),
        ("initial_parameters: {parameter_names: [alpha], values: [3]}", "values[0]: 3.0 is outside"),
        ("initial_parameters: {values: [1, 2]}", "values: must have length 7"),
        ("initial_parameters: {parameter_names: [D0, alpha], values: [1]}", "values: must have length 2"),
        ("initial_parameters: {parameter_names: [phi0, phi_0]}", "names phi0 more than once"),
        ("initial_parameters: {active_parameters: [D0, D0]}", "names D0 more than once"),
        ("initial_parameters: {fixed_parameters: {phi0: 0, phi_0: 1}}", "names phi0 more than once"),
        ("initial_parameters: {active_parameters: [D0, beta], fixed_parameters: {D0: 1e3}}", "is fixed as"),
        ("initial_parameters: {active_parameters: [], parameter_names: [D0], values: [1]}", "leaves nothing to fit"),
        ("initial_parameters: {active_parameters: [D0]}\nparameter_space: {bounds: [{name: beta, min: 1}]}",
         "holds beta at its default 0, which is outside the bounds 1 ... 2"),
        ("initial_parameters: {fixed_parameters: {v0: 0}}", "two_component has it"),
        ("initial_parameters: {parameter_names: [contrast]}", "belong to the section scaling"),
        ("parameter_space: {bounds: [{name: D0}, {name: D0}]}", "names D0 more than once"),
        ("parameter_space: {bounds: [{name: gama_dot_t0}]}", "did you mean 'gamma_dot_t0'?"),
        ("parameter_space: {bounds: [{name: alpha, min: 3}]}", "alpha an empty range: min 3 (configuration), max 2"),
        ("initial_parameters: {active_parameters: [alpha]}", "holds D0, which has no neutral value"),
        ("initial_parameters: {parameter_names: [D0], values: [-1]}", "is not positive"),
        ("parameter_space: {bounds: [{name: D0, min: 1, max: 1}]}", "must be greater than min (1)"),
        ("parameter_space: {bounds: [{name: D0, min: 1e12, max: 1e13, prior: {type: lognormal, median: 1, sigma: 1}}]}",
         "leaves no mass of the prior"),
        ("parameter_space: {bounds: [{name: D0, prior_mu: 1}]}", "prior_sigma: is missing"),
        ("parameter_space: {bounds: [{name: D0, prior_sigma: 1}]}", "lacks its prior_mu"),
        ("parameter_space: {bounds: [{name: D0, prior_mu: 1, prior_sigma: 1, prior: {type: normal}}]}",
         "lacks mu"),
        ("parameter_space: {bounds: [{name: D0, prior_mu: 9, prior_sigma: 1, prior: {type: uniform}}]}",
         "keep one of the two"),
    ],
)  # fmt: skip
def test_given_parameters_that_do_not_fit_together_then_told_so(problems: Problems, more: str, expected: str) -> None:
    found = problems(more + "\n")
    assert len(found) == 1
    assert expected in found[0]
    assert "config.yaml:5: " in found[0] or "config.yaml:6: " in found[0]


@pytest.mark.parametrize("model", ["static", "static_ref", "static_both"])
@pytest.mark.parametrize(
    "more",
    [
        "parameter_space: {bounds: [{name: gamma_dot_t0}]}\n",
        "initial_parameters: {parameter_names: [gamma_dot_t0]}\n",
        "initial_parameters: {active_parameters: [gamma_dot_0]}\n",
        "initial_parameters: {fixed_parameters: {gamma_dot_t0: 0}}\n",
    ],
)
def test_given_a_static_model_when_flow_parameters_are_named_then_told_which_model_has_them(
    problems: Problems, model: str, more: str
) -> None:
    assert "laminar_flow has it" in problems(more, f"analysis_mode={model}")[0]


def test_given_all_parameters_fixed_then_refused(problems: Problems) -> None:
    found = problems(
        "initial_parameters: {fixed_parameters: {D0: 1e3, alpha: 0, D_offset: 0}}\n", "analysis_mode=static"
    )
    assert "leaves nothing to fit" in found[0]


def test_given_a_config_that_bypassed_the_loader_when_resolved_then_names_are_still_checked() -> None:
    config = SchemaConfig.model_validate(
        {
            "analysis_mode": "static",
            "experimental_data": {"file_path": "a.h5"},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.01}},
            "initial_parameters": {
                "fixed_parameters": {"alhpa": 0},
                "parameter_names": ["D0"],
                "values": [1, 2],
            },
        }
    )
    with pytest.raises(ConfigError, match="did you mean 'alpha'") as caught:
        resolved_parameters(config, SCALE)
    assert "must have length 1" in str(caught.value)
