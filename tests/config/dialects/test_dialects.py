"""Configurations of the published programs: recognised, translated key by key, and never guessed at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcxpcs.config import Config, load_config, parameter_choices
from hpcxpcs.config.dialects.recognise import dialect_of
from hpcxpcs.config.dialects.work import TABLES, Fate, rule_for
from hpcxpcs.config.document import read_document
from hpcxpcs.config.template import template
from hpcxpcs.errors import OldConfigurationWarning
from tests.config.dialects.old_files import (
    EXAMPLES,
    HERE,
    example,
    leaves,
    read,
    refused,
    translation_of,
    with_changes,
)


@pytest.mark.parametrize("dialect", ["homodyne", "heterodyne"])
def test_given_every_key_of_a_program_when_looked_up_then_the_table_has_a_rule(dialect: str) -> None:
    keys = (HERE / f"{dialect}_keys.txt").read_text("utf-8").split()
    assert len(keys) > 200
    assert [key for key in keys if rule_for(TABLES[dialect], key) is None] == []


@pytest.mark.parametrize("dialect", ["homodyne", "heterodyne"])
def test_given_every_rule_when_it_drops_a_key_then_it_says_why(dialect: str) -> None:
    for key, rule in TABLES[dialect].items():
        assert rule.why or rule.fate in (Fate.KEPT, Fate.RENAMED), key
        if rule.fate in (Fate.RENAMED, Fate.REPLACED):
            assert rule.to, key


@pytest.mark.parametrize("dialect", ["homodyne", "heterodyne"])
def test_given_every_target_of_a_rule_when_looked_up_then_our_schema_has_it(dialect: str) -> None:
    from hpcxpcs.config.section import leaf_paths

    ours = {".".join(map(str, path)) for path in leaf_paths(Config)}
    ours |= {"parameter_space.bounds", "data_filtering.phi_ranges", "scaling.constant"}
    for key, rule in TABLES[dialect].items():
        target = rule.to or (key if rule.fate is Fate.KEPT else "")
        assert not target or target in ours, (key, target)


@pytest.mark.parametrize("name", EXAMPLES)
def test_given_an_example_when_loaded_then_every_key_is_accounted_for_once(name: str) -> None:
    document = read_document(HERE / f"{name}.yaml")
    translation = translation_of(document)
    keys = [record.key for record in translation.records]
    assert len(keys) == len(set(keys))
    for path in leaves(document.data):
        dotted = ".".join(path)
        assert any(dotted == key or dotted.startswith(f"{key}.") for key in keys), dotted
    assert not [record for record in translation.records if record.fate is Fate.UNKNOWN]


@pytest.mark.parametrize("model", ["static", "laminar_flow", "two_component"])
def test_given_a_template_of_ours_when_examined_then_it_is_nobody_elses(model: str) -> None:
    assert dialect_of(yaml.safe_load(template(model))) is None
    without_version = yaml.safe_load(template(model))
    del without_version["schema_version"]
    assert dialect_of(without_version) is None


def test_given_names_of_two_components_and_no_model_when_examined_then_it_is_heterodyne() -> None:
    assert dialect_of({"initial_parameters": {"parameter_names": ["D0_ref", "D0_sample"]}}) == "heterodyne"
    ours = {"analysis_mode": "two_component", "initial_parameters": {"parameter_names": ["D0_ref"]}}
    assert dialect_of(ours) is None


@pytest.mark.parametrize("name", EXAMPLES)
def test_given_an_example_when_recognised_then_by_its_program(name: str) -> None:
    assert dialect_of(example(name)) == name.split("_")[0]


def test_given_a_laminar_file_when_read_then_the_formula_is_that_of_its_program() -> None:
    config = read("homodyne_laminar")
    assert config.conventions.shear_law == "homodyne-2"
    assert config.conventions.integrator == "exact"  # the trapezoid sum has no posterior
    assert config.analyzer_parameters.time_origin == "window"
    assert config.optimization.method == "nlsq"


def test_given_two_components_when_read_then_the_sign_and_clip_are_those_of_their_program() -> None:
    config = read("heterodyne_flat")
    assert config.conventions.heterodyne == "heterodyne-2"
    assert config.conventions.shear_law == "couette"


def test_given_values_null_when_read_then_starts_come_from_the_data() -> None:
    assert all(one.start is None for one in parameter_choices(read("homodyne_laminar")))


def test_given_values_with_contrast_among_them_when_read_then_only_physics_keeps_its_start() -> None:
    config = read(
        "homodyne_static",
        initial_parameters__parameter_names=["contrast", "D0", "offset", "alpha", "D_offset"],
        initial_parameters__values=[0.3, 2e3, 1.0, -0.7, 5.0],
    )
    assert [one.start for one in parameter_choices(config)] == [2e3, -0.7, 5.0]


@pytest.mark.parametrize("given_values", [None, [2e3, -0.7, 5.0]])
def test_given_fixed_parameters_when_read_then_they_are_held(given_values: list[float] | None) -> None:
    config = read(
        "homodyne_static",
        initial_parameters__fixed_parameters={"alpha": -0.5},
        initial_parameters__values=given_values,
    )
    assert [one.fixed for one in parameter_choices(config)] == [None, -0.5, None]


def test_given_fixed_names_when_read_then_they_are_held_at_their_start() -> None:
    config = read(
        "homodyne_static",
        initial_parameters__fixed_parameters=["D_offset"],
        initial_parameters__values=[2e3, -0.7, 5.0],
    )
    assert [one.fixed for one in parameter_choices(config)] == [None, None, 5.0]
    assert "has no value" in refused("homodyne_static", initial_parameters__fixed_parameters=["D_offset"])


@pytest.mark.parametrize("values", [None, [2e3, -0.7, 5.0]])
def test_given_active_parameters_when_read_then_all_others_are_held(values: list[float] | None) -> None:
    config = read(
        "homodyne_static",
        initial_parameters__active_parameters=["D0", "contrast"],
        initial_parameters__values=values,
    )
    assert [one.fixed is None for one in parameter_choices(config)] == [True, False, False]


def test_given_contrast_and_offset_held_when_read_then_scaling_is_constant() -> None:
    config = read("homodyne_static", initial_parameters__fixed_parameters={"contrast": 0.2, "offset": 1.0})
    assert config.scaling.mode == "constant"
    assert config.scaling.constant is not None
    assert (config.scaling.constant.contrast, config.scaling.constant.offset) == (0.2, 1.0)
    assert "alone cannot be held" in refused("homodyne_static", initial_parameters__fixed_parameters={"contrast": 0.2})


@pytest.mark.parametrize("limits", [(-180, 180), (0, 360), (170, -170), (-10, 10)])
def test_given_angle_ranges_when_read_then_they_mean_what_they_say(limits: tuple[int, int]) -> None:
    ranges = [{"min_angle": limits[0], "max_angle": limits[1], "description": "some"}]
    for name in ("homodyne_laminar", "heterodyne_flat"):
        found = read(name, phi_filtering__target_ranges=ranges).data_filtering.phi_ranges
        assert [(one.min, one.max) for one in found] == [limits]


def test_given_the_filter_off_when_read_then_all_angles_are_used() -> None:
    assert read("homodyne_laminar", phi_filtering__enabled=False).data_filtering.phi_ranges[0].min == -180
    # homodyne's filter was off, heterodyne's on, unless the file said otherwise
    assert read("homodyne_laminar", phi_filtering__enabled=...).data_filtering.phi_ranges[0].min == -180
    assert read("heterodyne_flat", phi_filtering__enabled=...).data_filtering.phi_ranges[0].min == 170


@pytest.mark.parametrize(("name", "last", "ours"), [("homodyne_static", -7, -1), ("heterodyne_flat", 100_000, -1)])
def test_given_a_way_to_say_all_frames_when_read_then_ours_is_minus_one(name: str, last: int, ours: int) -> None:
    assert read(name, analyzer_parameters__end_frame=last).analyzer_parameters.end_frame == ours


def test_given_the_filter_of_the_loader_when_read_then_it_selects_and_beside_another_both_hold() -> None:
    loader = {"enabled": True, "phi_range": {"min": 170, "max": -170}}
    config = read("homodyne_laminar", data_filtering=loader, phi_filtering__enabled=False)
    assert [(one.min, one.max) for one in config.data_filtering.phi_ranges] == [(170, -170)]
    assert "leaves no angle" in refused("homodyne_laminar", data_filtering=loader)
    both = read("homodyne_laminar", data_filtering={**loader, "phi_range": {"min": 0, "max": 88}})
    assert [(one.min, one.max) for one in both.data_filtering.phi_ranges] == [(0, 10), (85, 88)]
    off = read("homodyne_laminar", data_filtering={**loader, "enabled": False})
    assert len(off.data_filtering.phi_ranges) == 2


def test_given_what_heterodyne_took_for_granted_when_read_then_it_is_told() -> None:
    changes = {"temporal": ..., "analyzer_parameters.scattering.wavevector_q": 0.0054}
    translation = translation_of(with_changes("heterodyne_grouped", changes))
    told = {record.key: record.why for record in translation.records if record.line is None}
    assert "heterodyne took frame 2000" in told["analyzer_parameters.end_frame"]
    assert "heterodyne took 0.001 s" in told["analyzer_parameters.dt"]
    assert "all of the file are used" in told["phi_filtering.target_ranges"]


def test_given_temporal_counts_when_read_then_frames_count_from_one() -> None:
    config = read("heterodyne_grouped", temporal={"dt": 0.1, "t_start": 20, "time_length": 100})
    assert (config.analyzer_parameters.start_frame, config.analyzer_parameters.end_frame) == (21, 120)


def test_given_both_ways_to_name_the_file_when_read_then_each_program_decides_as_it_did() -> None:
    pair = {"data_folder_path": "folder", "data_file_name": "pair.hdf", "file_path": "single.hdf"}
    assert read("homodyne_static", experimental_data=pair).data_file.name == "pair.hdf"
    assert read("heterodyne_flat", experimental_data=pair).data_file.name == "single.hdf"


def test_given_a_path_from_the_working_directory_when_read_then_the_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "data" / "a.hdf").touch()
    data = with_changes(
        "homodyne_static", {"experimental_data": {"data_folder_path": "data", "data_file_name": "a.hdf"}}
    )
    (tmp_path / "configs" / "old.yaml").write_text(yaml.safe_dump(data), "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(OldConfigurationWarning):
        assert load_config(Path("configs/old.yaml")).data_file == tmp_path / "data" / "a.hdf"


@pytest.mark.parametrize(
    ("entry", "kind", "values"),
    [
        ({"type": "TruncatedNormal", "prior_mu": 2e3, "prior_sigma": 50}, "truncated_normal", (2e3, 50.0)),
        ({"type": "Normal"}, "normal", (600.0, 250.0)),
        ({"prior_mu": 500, "prior_sigma": 9}, "truncated_normal", (500.0, 9.0)),
        ({"type": "Uniform", "prior_mu": 1, "prior_sigma": 1}, "uniform", ()),
        ({"type": "HalfNormal", "prior_sigma": 700}, "half_normal", (700.0,)),
        ({"type": "BetaScaled", "prior_mu": 600, "prior_sigma": 250}, "beta_scaled", (1.5, 1.5)),
        ({"type": "BetaScaled"}, "beta_scaled", (2.0, 2.0)),
    ],
)
def test_given_a_prior_in_the_short_form_when_read_then_ours_is_the_same(
    entry: dict[str, Any], kind: str, values: tuple[float, ...]
) -> None:
    bounds = [{"name": "D0", "min": 100, "max": 1100, "unit": "Å²/s", **entry}]
    if "prior_mu" in entry and entry["prior_mu"] == 2e3:
        bounds[0]["max"] = 3000
    prior = parameter_choices(read("homodyne_static", parameter_space__bounds=bounds))[0].prior
    assert prior.kind == kind
    assert [value for _, value in prior.values] == pytest.approx(values)


def test_given_bounds_without_a_prior_when_read_then_the_data_decide_about_it() -> None:
    bounds = [{"name": "D0", "min": 100, "max": 1100, "unit": "Å²/s"}]
    found = parameter_choices(read("homodyne_static", parameter_space__bounds=bounds))[0]
    assert (found.lower, found.upper, found.prior) == (100.0, 1100.0, None)


def test_given_grouped_parameters_when_read_then_values_bounds_and_priors_are_theirs() -> None:
    found = {one.parameter.name: one for one in parameter_choices(read("heterodyne_grouped"))}
    assert (found["D0_ref"].start, found["D0_ref"].lower, found["D0_ref"].upper) == (5e3, 100.0, 1e4)
    assert found["D0_ref"].prior.kind == "lognormal"
    assert found["f0"].prior.values == (("a", 2.0), ("b", 3.0))
    assert found["beta"].fixed == 0.0


def test_given_flat_and_grouped_parameters_when_read_then_the_group_wins() -> None:
    names = ["D0_ref", "alpha_ref", "D_offset_ref"]
    flat = {"parameter_names": names, "values": [7e3, 0.2, 0.0]}
    found = parameter_choices(read("heterodyne_grouped", initial_parameters=flat))
    assert found[0].start == 5e3
    assert found[1].fixed == 0.0


def test_given_a_reduced_model_when_all_parameters_are_listed_then_those_it_has_are_taken() -> None:
    config = read("heterodyne_grouped", optimization={"nlsq": {"analysis_mode": "static_ref"}})
    assert [one.parameter.name for one in parameter_choices(config)] == [
        "D0_ref",
        "alpha_ref",
        "D_offset_ref",
    ]


def test_given_samplers_in_two_sections_when_read_then_the_one_that_won_wins() -> None:
    sampler = read("homodyne_master").optimization.cmc.per_shard_mcmc
    assert (sampler.num_warmup, sampler.num_samples, sampler.num_chains) == (1000, 3000, 4)
    flat = {"num_warmup": 600, "per_shard_mcmc": {"num_warmup": 900, "num_samples": 800}}
    sampler = read("heterodyne_flat", optimization__cmc=flat).optimization.cmc.per_shard_mcmc
    assert (sampler.num_warmup, sampler.num_samples) == (600, 800)


def test_given_json_when_loaded_then_it_is_the_same_as_yaml(tmp_path: Path) -> None:
    import json

    old = tmp_path / "old.json"
    old.write_text(json.dumps(example("homodyne_laminar")), "utf-8")
    with pytest.warns(OldConfigurationWarning):
        assert load_config(old).fingerprint() == read("homodyne_laminar").fingerprint()


def test_given_an_override_when_an_old_file_is_loaded_then_it_uses_our_keys(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_bytes((HERE / "homodyne_laminar.yaml").read_bytes())
    with pytest.warns(OldConfigurationWarning):
        assert load_config(old, ["conventions.integrator=trapezoid"]).conventions.integrator == "trapezoid"
