"""What is possible but hardly meant is told, what is usual is not, and nothing that the model can do is refused."""

import math

import pytest

from hpcxpcs.config import DataScale, config_from_mapping, resolved_parameters
from hpcxpcs.config.parameters import MODEL_NAMES, parameters_of, scaling_parameters
from hpcxpcs.config.plausible import (
    GAP,
    PARAMETER_RANGES,
    SETTING_RANGES,
    check_config,
    check_parameters,
    check_values,
)


def config(model="static", **changes):
    mapping = {
        "analysis_mode": model,
        "experimental_data": {"file_path": "a.h5"},
        "analyzer_parameters": {"dt": 0.1, "scattering": {"wavevector_q": 0.0054}},
    }
    for key, value in changes.items():
        here = mapping
        *sections, last = key.split("__")
        for part in sections:
            here = here.setdefault(part, {})
        here[last] = value
    return config_from_mapping(mapping)


def told(found, severity="warning"):
    return " | ".join(found.of(severity))


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_defaults_then_nothing_is_told(model):
    assert check_config(config(model)).remarks == ()


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_any_default_of_a_parameter_then_it_is_no_warning(model):
    parameters = (*parameters_of(model), *scaling_parameters())
    assert not check_values({p.name: p.default for p in parameters if p.default is not None}).at_least("warning")


def test_every_parameter_has_a_range_with_its_own_unit():
    known = {p.name: p for model in MODEL_NAMES for p in (*parameters_of(model), *scaling_parameters())}
    assert set(PARAMETER_RANGES) | {"f1", "f2", "gamma_dot_t_offset", "v_offset"} == set(known)
    for name, ranges in PARAMETER_RANGES.items():
        for allowed in ranges:
            assert allowed.low < allowed.high and (allowed.below or allowed.above)
            assert allowed.unit.split("^")[0] == known[name].unit.split("^")[0], name


SCALE = DataScale(q=0.002, gap=2.0e6, dt=1e-3, first=1e-3, last=1.0)


def test_given_ordinary_colloids_in_fast_frames_then_nothing_is_told_of_them():
    assert not check_values({"D0": 1e8, "alpha": 0.0, "D_offset": 0.0}, {}, SCALE).at_least("warning")


@pytest.mark.parametrize(
    ("values", "words", "severity"),
    [
        ({"D0": 1e11, "alpha": 0.0}, "D0 = 1e+11: all is over within one frame", "warning"),
        ({"D0": 10.0, "alpha": 0.0}, "D0 = 10: hardly anything happens in the window", "info"),
        ({"gamma_dot_t0": 1e3, "beta": 0.0}, "over within one frame", "warning"),
        ({"v0": 1e9, "beta": 0.0}, "over within one frame", "warning"),
        ({"f1": 1e6}, "far outside of these data", "warning"),
        ({"f2": 1e3}, "far outside of these data", "warning"),
    ],
)
def test_given_the_scale_of_the_data_then_what_they_cannot_show_is_told(values, words, severity):
    assert words in told(check_values(values, {}, SCALE), severity)


def test_given_bounds_that_leave_out_all_that_the_data_show_then_a_warning():
    old = config(parameter_space__bounds=[{"name": "D0", "min": 1e-9, "max": 1e-8}])
    assert "nothing is seen below it" in told(check_parameters(resolved_parameters(old, SCALE), SCALE))
    assert not check_parameters(resolved_parameters(config(), SCALE), SCALE).remarks


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"D0": -3.0}, "D0 = -3: there is no diffusion"),
        ({"D0_ref": 0.0}, "no diffusion"),
        ({"alpha": -1.9}, "alpha = -1.9: the coefficient changes this steeply only in a transient"),
        ({"alpha_sample": 1.5}, "(usual: -1.5 … 1)"),
        ({"gamma_dot_t0": -0.01}, "a negative rate"),
        ({"beta": 2.5}, "beta = 2.5"),
        ({"phi0": 400.0}, "more than a full turn"),
        ({"f0": 0.7, "f3": 0.6}, "the fraction is cut at 1"),
        ({"f3": -0.1}, "a fraction is not negative"),
        ({"contrast": 1.2}, "a contrast is at most 1"),
        ({"offset": 0.2}, "level off at 1"),
    ],
)
def test_given_a_value_that_is_hardly_meant_then_it_is_a_warning_with_the_usual_range(values, words):
    found = check_values(values)
    assert words in told(found) and not found.of("error")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"D0": 100.0, "D_offset": -5.0}, "a negative constant part"),
        ({"D0": 100.0, "D_offset": 80.0}, "hard to tell apart"),
        ({"contrast": 0.05}, "weak contrast"),
    ],
)
def test_given_a_value_worth_a_look_then_it_is_no_warning_but_a_note(values, words):
    found = check_values(values)
    assert words in told(found, "info") and not found.at_least("warning") and found.at_least("info")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_given_a_value_that_is_no_number_then_it_is_an_error(value):
    found = check_values({"D0": value})
    assert "no finite number" in told(found, "error")


def test_given_errors_then_only_what_they_do_not_explain_is_told():
    assert not check_values({"alpha": -1.9}, {"alpha": 0.2}).remarks
    assert check_values({"alpha": -1.9}, {"alpha": 0.1}).of("warning")
    assert not check_values({"alpha": -1.9}, {"alpha": math.inf}).remarks


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"analyzer_parameters__scattering__wavevector_q": 5.4},
            "wavevector_q = 5.4: larger than XPCS reaches",
        ),
        ({"analyzer_parameters__scattering__wavevector_q": 5e-6}, "is it in 1/nm or 1/m?"),
        ({"analyzer_parameters__dt": 1e-9}, "analyzer_parameters.dt = 1e-09: shorter"),
        ({"analyzer_parameters__dt": 5e3}, "longer than frames last"),
        ({"analyzer_parameters__end_frame": 12}, "frames from start_frame to end_frame = 12: few lags"),
        ({"data_filtering__q_tolerance": 0.9}, "q_tolerance = 0.9"),
        ({"data_filtering__phi_ranges": [{"min": 5, "max": 5}]}, "only this very angle"),
        ({"initial_parameters__fixed_parameters": {"alpha": -1.8}}, "fixed value of alpha = -1.8"),
        ({"initial_parameters__values": [1000, 1.5, 0]}, "start value of alpha = 1.5"),
        ({"parameter_space__bounds": [{"name": "D0", "min": -5}]}, "lower bound of D0 = -5"),
        (
            {"scaling__mode": "constant", "scaling__constant": {"contrast": 1.4, "offset": 1}},
            "contrast = 1.4",
        ),
    ],
)
def test_given_a_setting_that_is_hardly_meant_then_it_is_a_warning(changes, words):
    found = check_config(config(**changes))
    assert words in told(found) and len(found.of("warning")) == 1


@pytest.mark.parametrize("last", [-1, 2, 5, 16, 1000])
def test_given_a_window_that_is_wide_enough_or_refused_anyway_then_nothing_is_told(last):
    assert not check_config(config(analyzer_parameters__end_frame=last)).remarks


def test_the_gap_matters_where_there_is_shear_only():
    narrow = {"analyzer_parameters__geometry__stator_rotor_gap": 2e4}
    assert "less than 0.01 mm" in told(check_config(config("laminar_flow", **narrow)))
    assert not check_config(config("static", **narrow)).remarks
    assert GAP.words(2e6) is None


def test_given_a_term_that_is_switched_off_then_its_zero_is_no_doubt():
    off = {"initial_parameters__fixed_parameters": {"gamma_dot_t0": 0}}
    assert not check_config(config("laminar_flow", **off)).remarks


def test_ranges_of_settings_name_keys_that_exist():
    for path in SETTING_RANGES:
        value = config()
        for part in path:
            value = getattr(value, part)
