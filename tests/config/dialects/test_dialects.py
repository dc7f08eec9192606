"""Configurations of the published programs: recognised, translated key by key, and never guessed at."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcxpcs.config import Config, config_from_mapping, load_config, resolved_parameters
from hpcxpcs.config.dialects import TABLES, Fate, dialect_of, from_old
from hpcxpcs.config.dialects.rules import rule_for
from hpcxpcs.config.document import Document, read_document
from hpcxpcs.config.template import template
from hpcxpcs.errors import ConfigError, OldConfigurationWarning

HERE = Path(__file__).parent
EXAMPLES = ("homodyne_static", "homodyne_laminar", "homodyne_master", "heterodyne_flat", "heterodyne_grouped")
Read = Callable[..., Config]


def example(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    return loaded


def with_changes(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The example with some dotted keys set (or taken out, for ...)."""
    data = example(name)
    for key, value in changes.items():
        here = data
        *sections, last = key.split(".")
        for part in sections:
            here = here.setdefault(part, {})
        if value is ...:
            here.pop(last, None)
        else:
            here[last] = value
    return data


def read(name: str, **changes: Any) -> Config:
    """The configuration that an example with changes (dots written as __) becomes."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    with pytest.warns(OldConfigurationWarning):
        return config_from_mapping(with_changes(name, dotted))


def refused(name: str, **changes: Any) -> str:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    with warnings.catch_warnings(), pytest.raises(ConfigError) as caught:
        warnings.simplefilter("ignore", OldConfigurationWarning)
        config_from_mapping(with_changes(name, dotted))
    return str(caught.value)


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
    from hpcxpcs.config.field_types import leaf_paths

    ours = {".".join(map(str, path)) for path in leaf_paths(Config)}
    ours |= {"parameter_space.bounds", "data_filtering.phi_ranges", "scaling.constant"}
    for key, rule in TABLES[dialect].items():
        target = rule.to or (key if rule.fate is Fate.KEPT else "")
        assert not target or target in ours, (key, target)


@pytest.mark.parametrize("name", EXAMPLES)
def test_given_an_example_when_loaded_then_every_key_is_accounted_for_once(name: str) -> None:
    document = read_document(HERE / f"{name}.yaml")
    translation = from_old(document, HERE)
    assert translation is not None
    keys = [record.key for record in translation.records]
    assert len(keys) == len(set(keys))
    for path in leaves(document.data):
        dotted = ".".join(path)
        assert any(dotted == key or dotted.startswith(f"{key}.") for key in keys), dotted
    assert not [record for record in translation.records if record.fate is Fate.UNKNOWN]


def leaves(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in data.items():
        filled = isinstance(value, dict) and value
        found += leaves(value, (*path, key)) if filled else [(*path, key)]
    return found


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
    assert all(one.start is None for one in resolved_parameters(read("homodyne_laminar")))


def test_given_values_with_contrast_among_them_when_read_then_only_physics_keeps_its_start() -> None:
    config = read(
        "homodyne_static",
        initial_parameters__parameter_names=["contrast", "D0", "offset", "alpha", "D_offset"],
        initial_parameters__values=[0.3, 2e3, 1.0, -0.7, 5.0],
    )
    assert [one.start for one in resolved_parameters(config)] == [2e3, -0.7, 5.0]


@pytest.mark.parametrize("given_values", [None, [2e3, -0.7, 5.0]])
def test_given_fixed_parameters_when_read_then_they_are_held(given_values: list[float] | None) -> None:
    config = read(
        "homodyne_static",
        initial_parameters__fixed_parameters={"alpha": -0.5},
        initial_parameters__values=given_values,
    )
    assert [one.fixed for one in resolved_parameters(config)] == [None, -0.5, None]


def test_given_fixed_names_when_read_then_they_are_held_at_their_start() -> None:
    config = read(
        "homodyne_static",
        initial_parameters__fixed_parameters=["D_offset"],
        initial_parameters__values=[2e3, -0.7, 5.0],
    )
    assert [one.fixed for one in resolved_parameters(config)] == [None, None, 5.0]
    assert "has no value" in refused("homodyne_static", initial_parameters__fixed_parameters=["D_offset"])


@pytest.mark.parametrize("values", [None, [2e3, -0.7, 5.0]])
def test_given_active_parameters_when_read_then_all_others_are_held(values: list[float] | None) -> None:
    config = read(
        "homodyne_static",
        initial_parameters__active_parameters=["D0", "contrast"],
        initial_parameters__values=values,
    )
    assert [one.fixed is None for one in resolved_parameters(config)] == [True, False, False]


def test_given_contrast_and_offset_held_when_read_then_scaling_is_constant() -> None:
    config = read("homodyne_static", initial_parameters__fixed_parameters={"contrast": 0.2, "offset": 1.0})
    assert config.scaling.mode == "constant"
    assert config.scaling.constant is not None
    assert (config.scaling.constant.contrast, config.scaling.constant.offset) == (0.2, 1.0)
    assert "alone cannot be held" in refused(
        "homodyne_static", initial_parameters__fixed_parameters={"contrast": 0.2}
    )


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


@pytest.mark.parametrize(
    ("name", "last", "ours"), [("homodyne_static", -7, -1), ("heterodyne_flat", 100_000, -1)]
)
def test_given_a_way_to_say_all_frames_when_read_then_ours_is_minus_one(
    name: str, last: int, ours: int
) -> None:
    assert read(name, analyzer_parameters__end_frame=last).analyzer_parameters.end_frame == ours


def test_given_the_filter_of_the_loader_when_read_then_it_selects_or_is_refused_beside_another() -> None:
    loader = {"enabled": True, "phi_range": {"min": 170, "max": -170}}
    config = read("homodyne_laminar", data_filtering=loader, phi_filtering__enabled=False)
    assert [(one.min, one.max) for one in config.data_filtering.phi_ranges] == [(170, -170)]
    assert "write their intersection" in refused("homodyne_laminar", data_filtering=loader)
    off = read("homodyne_laminar", data_filtering={**loader, "enabled": False})
    assert len(off.data_filtering.phi_ranges) == 2


def test_given_what_heterodyne_took_for_granted_when_read_then_it_is_told() -> None:
    changes = {"temporal": ..., "analyzer_parameters.scattering.wavevector_q": 0.0054}
    translation = from_old(Document(with_changes("heterodyne_grouped", changes), "old.yaml"), None)
    assert translation is not None
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
        ({}, "lognormal", (3e3, 2.0)),
    ],
)
def test_given_a_prior_in_the_short_form_when_read_then_ours_is_the_same(
    entry: dict[str, Any], kind: str, values: tuple[float, ...]
) -> None:
    bounds = [{"name": "D0", "min": 100, "max": 1100, "unit": "Å²/s", **entry}]
    if "prior_mu" in entry and entry["prior_mu"] == 2e3:
        bounds[0]["max"] = 3000
    prior = resolved_parameters(read("homodyne_static", parameter_space__bounds=bounds))[0].prior
    assert prior.kind == kind
    assert [value for _, value in prior.values] == pytest.approx(values)


def test_given_grouped_parameters_when_read_then_values_bounds_and_priors_are_theirs() -> None:
    found = {one.parameter.name: one for one in resolved_parameters(read("heterodyne_grouped"))}
    assert (found["D0_ref"].start, found["D0_ref"].lower, found["D0_ref"].upper) == (5e3, 100.0, 1e4)
    assert found["D0_ref"].prior.kind == "lognormal"
    assert found["f0"].prior.values == (("a", 2.0), ("b", 3.0))
    assert found["beta"].fixed == 0.0


def test_given_flat_and_grouped_parameters_when_read_then_the_group_wins() -> None:
    names = ["D0_ref", "alpha_ref", "D_offset_ref"]
    flat = {"parameter_names": names, "values": [7e3, 0.2, 0.0]}
    found = resolved_parameters(read("heterodyne_grouped", initial_parameters=flat))
    assert found[0].start == 5e3
    assert found[1].fixed == 0.0


def test_given_a_reduced_model_when_all_parameters_are_listed_then_those_it_has_are_taken() -> None:
    config = read("heterodyne_grouped", optimization={"nlsq": {"analysis_mode": "static_ref"}})
    assert [one.parameter.name for one in resolved_parameters(config)] == [
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimization__nlsq__loss": "cauchy"}, "has no counterpart"),
        ({"preprocessing__enabled": True}, "has no counterpart"),
        ({"optimization__cmc__prior_tempering": False}, "has no counterpart"),
        ({"data_filtering": {"enabled": True, "quality_threshold": 0.5}}, "has no counterpart"),
        ({"quality_control": {"enabled": True, "auto_repair": "aggressive"}}, "has no counterpart"),
        ({"initial_parameters__fixed_paramters": {"phi0": 0}}, "did you mean fixed_parameters?"),
        (
            {"parameter_space__bounds": [{"name": "D0", "min": 1, "max": 9, "prior_sgima": 2}]},
            "unknown in an entry",
        ),
    ],
)
def test_given_what_would_change_the_answer_when_read_then_it_is_refused(
    change: dict[str, Any], said: str
) -> None:
    message = refused("homodyne_laminar", **change)
    assert said in message
    assert "--accept" in message


def test_given_a_key_of_no_meaning_when_read_then_it_is_told_and_left() -> None:
    document = Document(with_changes("homodyne_static", {"notes.of": "mine"}), "old.yaml")
    translation = from_old(document, None)
    assert translation is not None
    unknown = [record for record in translation.records if record.fate is Fate.UNKNOWN]
    assert [record.key for record in unknown] == ["notes.of"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"analysis_mode": "turbulent"}, "is not a model"),
        ({"analysis_mode": None, "parameter_space__model": ...}, "analysis_mode is missing"),
        ({"optimization": 3}, "must be a section of keys"),
        ({"experimental_data": "a.hdf"}, "must be a section of keys"),
        ({"phi_filtering__target_ranges": [[-10, 10]]}, "must be a range such as"),
        ({"phi_filtering__target_ranges": [{"min_angle": "x", "max_angle": 1}]}, "give an angle"),
        ({"initial_parameters__values": [1.0]}, "has 1 values for 7 parameter names"),
        ({"initial_parameters__values": "many"}, "must be null, or a list"),
        ({"initial_parameters__parameter_names": ["D0", {}]}, "is not a parameter name"),
        ({"initial_parameters__parameter_names": ["D0", "D0"]}, "is named more than once"),
        ({"initial_parameters__parameter_names": ["D0", "alpa"]}, "did you mean 'alpha'?"),
        ({"parameter_space__bounds": {"D0": [1, 2]}}, "must be a list of entries"),
        ({"parameter_space__bounds": [{"name": "D0", "min": 9, "max": 1}]}, "must be greater than min"),
        ({"parameter_space__bounds": [{"name": "D0", "type": "Cauchy"}]}, "is not a prior"),
        ({"analyzer_parameters__dt": "fast"}, "is not a number"),
        ({"analyzer_parameters__scattering__wavevector_q": ...}, "is missing"),
        ({"optimization__mcmc__num_chains": 0}, "must be at least 2"),
    ],
)
def test_given_a_malformed_value_when_read_then_it_is_refused_with_a_remedy(
    change: dict[str, Any], said: str
) -> None:
    assert said in refused("homodyne_laminar", **change)


def test_given_errors_in_an_old_file_when_loaded_then_lines_and_keys_are_those_of_the_file(
    tmp_path: Path,
) -> None:
    text = (HERE / "homodyne_master.yaml").read_text("utf-8")
    text = text.replace("    num_chains: 4\n    progress_bar", "    num_chains: 1\n    progress_bar")
    old = tmp_path / "old.yaml"
    old.write_text(text.replace("min: -2.0", "min: 5.0", 1), "utf-8")
    lines = old.read_text("utf-8").splitlines()
    with pytest.raises(ConfigError) as caught, pytest.warns(OldConfigurationWarning):
        load_config(old)
    said = str(caught.value)
    assert f"old.yaml:{1 + lines.index('    num_chains: 1')}: optimization.mcmc.num_chains" in said
    bound = next(i for i, line in enumerate(lines) if "min: 5.0" in line)
    assert any(f"old.yaml:{number}: parameter_space.bounds[1]" in said for number in range(bound, bound + 3))


@pytest.mark.parametrize(
    "text", ["analysis_mode: [static\n", "metadata: {config_version: 2\n", "\t- x\n", ""]
)
def test_given_malformed_text_when_loaded_then_it_is_an_error_and_never_a_default(
    text: str, tmp_path: Path
) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"old\.yaml"):
        load_config(old)


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


NEEDED = {"analysis_mode", "experimental_data", "analyzer_parameters", "metadata"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data(), name=st.sampled_from(EXAMPLES))
def test_given_any_subset_of_keys_when_read_then_it_is_a_configuration_or_one_clear_error(
    data: st.DataObject, name: str
) -> None:
    whole = example(name)
    paths = [path for path in leaves(whole) if path[0] not in NEEDED]
    gone = data.draw(st.sets(st.sampled_from(paths), max_size=len(paths)))
    left = copy.deepcopy(whole)
    for path in gone:
        here = left
        for part in path[:-1]:
            here = here[part]
        del here[path[-1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldConfigurationWarning)
        try:
            config = config_from_mapping(left)
        except ConfigError as error:
            assert "Traceback" not in str(error)
            assert ":" in str(error)
        else:
            assert config.optimization.method == "nlsq"
            assert resolved_parameters(config)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(EXAMPLES))
def test_given_any_value_at_any_key_when_read_then_it_is_a_configuration_or_one_clear_error(
    data: st.DataObject, name: str
) -> None:
    left = example(name)
    junk = st.sampled_from(
        [None, True, -1, 0, 1e300, "text", "", [], {}, [1, "x"], {"a": {"b": 1}}, [{}], "1e-3"]
    )
    for path in data.draw(st.lists(st.sampled_from(leaves(left)), min_size=1, max_size=4, unique=True)):
        here = left
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = data.draw(junk)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldConfigurationWarning)
        try:
            config_from_mapping(left)
        except ConfigError as error:
            assert str(error)
