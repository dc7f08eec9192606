"""How homodyne and heterodyne treated and judged their data, and what of it is done here."""

from __future__ import annotations

from typing import Any

import pytest

from hpcxpcs.config.dialects.work import Fate, Record
from tests.config.dialects.old_files import read, records_of, refused, with_changes

OFF = {"normalize_data": {"enabled": False}}
"""The stage that changes the answer when nothing is said of it."""


def stages(**options: Any) -> dict[str, Any]:
    """Preprocessing that is on, with some stages."""
    return {"enabled": True, "stages": {**OFF, **options}}


def told(section: str, options: dict[str, Any], name: str = "homodyne_static") -> dict[str, Record]:
    """What becomes of every key, by its name; changes of the answer are accepted."""
    return records_of(with_changes(name, {section: options}), accept=True)


def test_given_no_word_on_preprocessing_when_read_then_no_stage_is_on() -> None:
    found = read("homodyne_static").preprocessing
    assert (found.diagonal, found.normalization, found.noise_reduction) == ("basic", "none", "none")
    assert (found.standard, found.validate_result) == ("as_stored", False)


@pytest.mark.parametrize("enabled", [False, None, ...])
def test_given_preprocessing_that_is_off_when_read_then_its_stages_do_not_count(enabled: Any) -> None:
    section = {"enabled": enabled, "stages": {"normalize_data": {"enabled": True, "method": "minmax"}}}
    if enabled is ...:
        del section["enabled"]
    assert read("homodyne_static", preprocessing=section).preprocessing.normalization == "none"
    assert "fitted as they were measured" in told("preprocessing", section)["preprocessing.stages"].why


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("none", "none"),
        ("minmax", "min_max"),
        ("statistical", "z_score"),
        ("mean", "mean"),
        ("Z_Score", "z_score"),
    ],
)
def test_given_a_normalisation_of_the_same_meaning_when_read_then_it_is_ours(method: str, ours: str) -> None:
    section = stages(normalize_data={"method": method})
    assert read("homodyne_static", preprocessing=section).preprocessing.normalization == ours


@pytest.mark.parametrize("method", ["baseline", "robust", "physics_based"])
def test_given_a_normalisation_of_another_meaning_when_read_then_it_needs_an_accept(method: str) -> None:
    section = stages(normalize_data={"enabled": True, "method": method})
    message = refused("homodyne_static", preprocessing=section)
    assert f'preprocessing.stages.normalize_data.method: "{method}" has no counterpart' in message
    assert "--accept" in message
    record = told("preprocessing", section)["preprocessing.stages.normalize_data.method"]
    assert (record.fate, record.changes_answer) == (Fate.DROPPED, True)


def test_given_preprocessing_that_normalises_by_default_when_read_then_it_is_refused_and_says_so() -> None:
    for section in ({"enabled": True}, {"enabled": True, "stages": {}}, {"enabled": True, "stages": None}):
        message = refused("homodyne_static", preprocessing=section)
        assert "preprocessing.enabled: true has no counterpart" in message
        assert "normalize_data off (enabled: false)" in message


@pytest.mark.parametrize("method", ["median", "gaussian", "wiener", "savgol"])
def test_given_a_noise_filter_that_is_on_when_read_then_it_needs_an_accept(method: str) -> None:
    section = stages(reduce_noise={"enabled": True, "method": method})
    assert f'reduce_noise.method: "{method}" has no counterpart' in refused("homodyne_static", preprocessing=section)
    record = told("preprocessing", section)["preprocessing.stages.reduce_noise.method"]
    kept = method in ("median", "gaussian")
    assert record.to == (f"preprocessing.noise_reduction: {method}" if kept else "")
    assert record.changes_answer


@pytest.mark.parametrize("options", [{"enabled": False, "method": "median"}, {"method": "median"}, {"enabled": True}])
def test_given_a_noise_filter_that_did_nothing_when_read_then_there_is_none(options: dict[str, Any]) -> None:
    found = read("homodyne_static", preprocessing=stages(reduce_noise=options)).preprocessing
    assert found.noise_reduction == "none"


@pytest.mark.parametrize(
    ("method", "ours"), [("basic", "basic"), ("statistical", "statistical"), ("interpolation", "basic")]
)
def test_given_a_method_for_the_diagonal_when_read_then_ours_is_the_same(method: str, ours: str) -> None:
    section = stages(correct_diagonal={"enabled": True, "method": method, "window": 5})
    found = read("homodyne_static", preprocessing=section).preprocessing
    assert found.diagonal == ours
    assert found.window == (5 if ours == "statistical" else 3)


def test_given_an_even_window_when_read_then_it_is_left_and_told() -> None:
    section = stages(correct_diagonal={"method": "statistical", "window": 4})
    assert read("homodyne_static", preprocessing=section).preprocessing.window == 3
    assert "odd" in told("preprocessing", section)["preprocessing.stages.correct_diagonal.window"].why


def test_given_stages_that_are_on_by_default_when_read_then_they_are_on_and_told() -> None:
    found = read("homodyne_static", preprocessing=stages()).preprocessing
    assert (found.standard, found.validate_result) == ("float64", True)
    records = told("preprocessing", stages())
    assert "is on unless it is off" in records["preprocessing.stages.standardize_format"].why
    off = stages(standardize_format={"enabled": False}, validate_output={"enabled": False})
    found = read("homodyne_static", preprocessing=off).preprocessing
    assert (found.standard, found.validate_result) == ("as_stored", False)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"enabled": "yes"}, "must be true or false"),
        (stages(normalize_data={"method": "cubic"}), "is no method; give one of none, mean"),
        (stages(normalize_data={"method": ["minmax"]}), "is no method"),
        (stages(normalize_data="minmax"), "must be a section of keys"),
        (stages(reduce_nois={"enabled": True}), "is no stage; give one of correct_diagonal"),
        (stages(normalize_data={"method": "minmax", "range": [0, 2]}), "has no such option"),
        ({"enabled": True, "stages": 3}, "must be a section of keys"),
    ],
)
def test_given_a_stage_that_is_none_when_read_then_it_is_refused(section: dict[str, Any], said: str) -> None:
    assert said in refused("homodyne_static", preprocessing=section)


@pytest.mark.parametrize("level", ["none", "basic", "standard", "comprehensive"])
def test_given_a_level_when_read_then_it_is_ours(level: str) -> None:
    section = {"enabled": True, "validation_level": level}
    found = read("homodyne_static", quality_control=section).quality_control
    assert found.level == level
    assert found.auto_repair == ("disabled" if level == "none" else "conservative")


def test_given_quality_control_without_a_level_when_read_then_it_is_the_usual_one_and_told() -> None:
    found = read("homodyne_static", quality_control={"enabled": True}).quality_control
    assert (found.level, found.auto_repair) == ("standard", "conservative")
    records = told("quality_control", {"enabled": True})
    assert "left out of the fit" in records["quality_control.auto_repair"].why


@pytest.mark.parametrize("section", [{"enabled": False}, {"enabled": False, "auto_repair": "aggressive"}, {}])
def test_given_quality_control_that_is_off_when_read_then_nothing_is_judged(section: dict[str, Any]) -> None:
    section = {**section, "validation_level": "comprehensive"}
    found = read("homodyne_static", quality_control=section).quality_control
    assert (found.level, found.auto_repair) == ("none", "disabled")


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({"auto_repair": "disabled"}, "disabled"),
        ({"auto_repair": "conservative"}, "conservative"),
        ({"auto_repair": "aggressive"}, "conservative"),
        ({"auto_repair": "aggressive", "repair_negative_correlations": False}, "conservative"),
        ({"auto_repair": "aggressive", "repair_negative_correlations": True}, "aggressive"),
        ({"auto_repair": "conservative", "repair_negative_correlations": True}, "conservative"),
    ],
)
def test_given_a_repair_when_read_then_what_it_filled_in_is_masked(options: dict[str, Any], ours: str) -> None:
    section = {"enabled": True, **options}
    assert read("homodyne_static", quality_control=section).quality_control.auto_repair == ours
    assert told("quality_control", section)["quality_control.auto_repair"].to.endswith(f": {ours}")


@pytest.mark.parametrize("name", ["heterodyne_flat", "heterodyne_grouped"])
def test_given_heterodynes_switch_when_read_then_the_data_are_judged_and_nothing_is_masked(name: str) -> None:
    found = read(name, quality_control={"enabled": True}).quality_control
    assert (found.level, found.auto_repair) == ("standard", "disabled")
    assert told("quality_control", {"enabled": True}, name)["quality_control.enabled"].why == "there nothing read it"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"enabled": "on"}, "must be true or false"),
        ({"enabled": True, "validation_level": "strict"}, "quality_control.validation_level"),
        ({"enabled": True, "auto_repair": "bold"}, "quality_control.auto_repair"),
    ],
)
def test_given_words_that_quality_control_never_had_when_read_then_they_are_refused(
    section: dict[str, Any], said: str
) -> None:
    assert said in refused("homodyne_static", quality_control=section)


EXAMPLES_OF_BOTH = ["homodyne_laminar", "heterodyne_flat"]


@pytest.mark.parametrize("name", EXAMPLES_OF_BOTH)
def test_given_a_cache_beside_the_data_when_read_then_prepared_matrices_stay_in_the_run(name: str) -> None:
    assert read(name).runtime.data_cache == "auto"
    data = {"data_folder_path": "data/x/", "data_file_name": "a.hdf", "cache_file_path": "./data/x"}
    assert read(name, experimental_data=data).runtime.data_cache == "auto"
    assert "beside the data" in told("experimental_data", data, name)["experimental_data.cache_file_path"].why


@pytest.mark.parametrize("name", EXAMPLES_OF_BOTH)
def test_given_a_cache_elsewhere_when_read_then_prepared_matrices_are_kept_there(name: str) -> None:
    data = {"file_path": "data/a.hdf", "cache_file_path": "/scratch/cache"}
    assert read(name, experimental_data=data).runtime.data_cache == "/scratch/cache"
    assert read(name, experimental_data={**data, "cache_file_path": ""}).runtime.data_cache == "auto"
    assert read(name, experimental_data={**data, "cache_file_path": None}).runtime.data_cache == "auto"
    message = refused(name, experimental_data={**data, "cache_file_path": 3})
    assert "experimental_data.cache_file_path" in message


@pytest.mark.parametrize(("strategy", "ours"), [("none", None), ("simple", "auto"), ("intelligent", "auto")])
def test_given_a_cache_strategy_when_read_then_none_keeps_nothing(strategy: str, ours: str | None) -> None:
    section = {"cache_strategy": strategy}
    assert read("homodyne_static", v2_features=section).runtime.data_cache == ours
    data = {"file_path": "a.hdf", "cache_file_path": "/scratch"}
    kept = read("homodyne_static", v2_features=section, experimental_data=data).runtime.data_cache
    assert kept == (None if strategy == "none" else "/scratch")
