"""What the documents of homodyne and heterodyne show runs as it stands there, and means what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcxpcs.config import config_from_mapping, load_config, parameter_choices
from hpcxpcs.config.dialects.recognise import dialect_of
from hpcxpcs.config.dialects.text import page
from hpcxpcs.config.dialects.translate import warning
from hpcxpcs.config.dialects.work import Fate, Record
from hpcxpcs.config.document import Document, read_document
from hpcxpcs.data.select import in_phi_ranges
from hpcxpcs.errors import OldConfigurationWarning
from tests.config.dialects.old_files import (
    HERE,
    example,
    leaves,
    read,
    records_of,
    refused,
    translation_of,
    with_changes,
)

DOCUMENTS = ("homodyne_document", "heterodyne_document", "heterodyne_document_flat")
PAGE = Path(__file__).parents[3] / "docs" / "old-configurations.md"


def told(name: str, **changes: Any) -> dict[str, Record]:
    """What becomes of every key of an example with changes (dots written as __), by its name."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return records_of(with_changes(name, dotted), accept=True)


def ranges(name: str, **changes: Any) -> list[tuple[float, float]]:
    """The ranges of angles that an example with changes selects."""
    return [(one.min, one.max) for one in read(name, **changes).data_filtering.phi_ranges]


def test_given_the_page_of_all_keys_then_it_says_what_the_rules_say() -> None:
    command = "python -c \"from hpcxpcs.config.dialects.text import page; print(page(), end='')\""
    assert PAGE.read_text("utf-8") == page(), f"{command} > docs/{PAGE.name} writes it anew"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_given_a_documents_example_when_read_then_every_key_is_accounted_for_and_nothing_takes_an_accept(
    name: str,
) -> None:
    document = read_document(HERE / f"{name}.yaml")
    assert dialect_of(document.data) == name.split("_")[0]
    translation = translation_of(document)
    keys = [record.key for record in translation.records]
    assert len(keys) == len(set(keys))
    for path in leaves(document.data):
        dotted = ".".join(path)
        assert any(dotted == key or dotted.startswith(f"{key}.") for key in keys), dotted
    assert Fate.UNKNOWN not in {record.fate for record in translation.records}
    with pytest.warns(OldConfigurationWarning):
        load_config(HERE / f"{name}.yaml")


def test_given_homodynes_example_when_read_then_flat_keys_mean_the_nested_ones() -> None:
    config = read("homodyne_document")
    assert config.analyzer_parameters.scattering.wavevector_q == 0.0123
    assert config.analyzer_parameters.geometry.stator_rotor_gap == 2.0e6
    assert config.runtime.data_cache == "auto"
    assert ranges("homodyne_document") == [(-90, 90)]
    first, second, third, *others = parameter_choices(config)
    assert [one.start for one in (first, second, third)] == [10000, 0.5, 100]
    assert [one.start for one in others] == [None] * 4
    assert first.prior.values == (("mu", 10000.0), ("sigma", 5000.0))


def test_given_flat_and_nested_keys_when_read_then_the_nested_ones_win() -> None:
    nested = {"analyzer_parameters__scattering__wavevector_q": 0.011}
    assert read("homodyne_document", **nested).analyzer_parameters.scattering.wavevector_q == 0.011
    record = told("homodyne_document", **nested)["analyzer_parameters.wavevector_q"]
    assert record.fate is Fate.DROPPED and "wins" in record.why


def test_given_and_so_on_elsewhere_than_at_the_end_when_read_then_it_is_no_parameter() -> None:
    message = refused("homodyne_document", initial_parameters__parameter_names=["D0", "...", "alpha"])
    assert "is not a parameter" in message
    assert "has 2 values for 7" in refused("homodyne_document", initial_parameters__values=[1e4, 0.5])


@pytest.mark.parametrize(
    ("limits", "fate", "tolerance"),
    [
        ({"min": 0.01, "max": 0.05}, Fate.DROPPED, 0.1),
        ({"min": 0.01}, Fate.DROPPED, 0.1),
        ({"min": 0.012, "max": 0.05}, Fate.REPLACED, 0.0003 / 0.0123),
        ({"min": 0.01, "max": 0.0125}, Fate.REPLACED, 0.0002 / 0.0123),
    ],
)
def test_given_a_range_of_q_when_read_then_the_bin_that_is_fitted_is_in_it(
    limits: dict[str, float], fate: Fate, tolerance: float
) -> None:
    config = read("homodyne_document", data_filtering__q_range=limits)
    assert math.isclose(config.data_filtering.q_tolerance, tolerance, rel_tol=1e-9)
    assert told("homodyne_document", data_filtering__q_range=limits)["data_filtering.q_range"].fate is fate


def test_given_a_range_without_the_q_that_is_asked_for_when_read_then_it_is_refused() -> None:
    message = refused("homodyne_document", data_filtering__q_range={"min": 0.02, "max": 0.05})
    assert "which is not in the range" in message and "--accept" in message
    assert "must be a range" in refused("homodyne_document", data_filtering__q_range=[0.01, 0.05])


def test_given_no_word_on_whether_filters_count_when_read_then_they_do_and_it_is_said_aloud() -> None:
    changes = {"data_filtering.enabled": ...}
    document = Document(with_changes("homodyne_document", changes), "old.yaml")
    translation = translation_of(document)
    assert translation.document.data["data_filtering"]["phi_ranges"] == [{"min": -90, "max": 90}]
    assert "data_filtering.enabled is not given: its document filters" in warning(translation, document)
    assert ranges("homodyne_document", data_filtering__enabled=False) == [(-180, 180)]
    assert "must be true or false" in refused("homodyne_document", data_filtering__enabled="no")


def test_given_ranges_and_no_word_on_whether_they_count_when_read_then_it_is_said_aloud_that_they_do_not() -> None:
    section = {"target_ranges": [{"min_angle": -10, "max_angle": 10}]}
    document = Document(with_changes("homodyne_document", {"phi_filtering": section}), "old.yaml")
    translation = translation_of(document)
    assert "phi_filtering.target_ranges is dropped: phi_filtering.enabled" in warning(translation, document)
    off = Document(with_changes("homodyne_document", {"phi_filtering": {**section, "enabled": False}}), "old.yaml")
    translation = translation_of(off)
    assert "target_ranges" not in warning(translation, off)


def test_given_filters_of_which_any_is_enough_when_read_then_several_are_refused() -> None:
    assert "has no counterpart" in refused("homodyne_document", data_filtering__combine_criteria="OR")
    assert ranges("homodyne_document", data_filtering__combine_criteria="AND") == [(-90, 90)]
    alone = {"data_filtering__combine_criteria": "OR", "data_filtering__q_range": ...}
    assert ranges("homodyne_document", **alone) == [(-90, 90)]


NO_ANGLES = {"scattering__phi_angles": ..., "phi_filtering": {}}


@pytest.mark.parametrize(
    ("section", "phi", "used"),
    [
        ({"include_angles": [0, 90]}, [-0.05, 0, 0.06, 90.04, 91], [True, True, False, True, False]),
        ({"include_angles": [0], "tolerance": 3}, [-3, -3.1, 3, 357, 356], [True, False, True, True, False]),
        ({"include_angles": [180], "tolerance": 5}, [176, -176, 174, 0], [True, True, False, False]),
        ({"include_angles": [270], "tolerance": 1}, [-90, 270, 90], [True, True, False]),
        (
            {"exclude_angles": [45], "tolerance": 3},
            [41, 42, 45, 48, 49, -45],
            [True, False, False, False, True, True],
        ),
        (
            {"exclude_angles": [-180], "tolerance": 2},
            [178, 180, -178, 177, -177],
            [False, False, False, True, True],
        ),
        ({"exclude_angles": [0, 2], "tolerance": 2}, [-2, -3, 1, 4, 5], [False, True, False, False, True]),
        (
            {
                "target_ranges": [{"min_angle": 170, "max_angle": -170}],
                "exclude_angles": [180],
                "tolerance": 1,
            },
            [171, 180, -171, -180, -168, 0],
            [True, False, True, False, False, False],
        ),
        (
            {"include_angles": [0], "exclude_angles": [1], "tolerance": 2},
            [-2, -1.5, 0, 3],
            [True, True, False, False],
        ),
        ({"enabled": False, "include_angles": [0], "exclude_angles": [90]}, [0, 45, 90], [True, True, True]),
        ({"include_angles": [], "exclude_angles": [], "tolerance": 2}, [0, 45], [True, True]),
    ],
)
def test_given_angles_to_take_or_to_leave_out_when_read_then_exactly_those_are_used(
    section: dict[str, Any], phi: list[float], used: list[bool]
) -> None:
    config = read("heterodyne_document", **{**NO_ANGLES, "phi_filtering": section})
    selected = in_phi_ranges(np.array(phi, dtype=float), config.data_filtering.phi_ranges)
    assert selected.tolist() == used


def test_given_explicit_angles_and_some_left_out_when_read_then_the_others_are_used() -> None:
    config = read("heterodyne_document")
    selected = in_phi_ranges(np.array([-60.0, 0.0, 45.0, 90.0, 30.0]), config.data_filtering.phi_ranges)
    assert selected.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phi_filtering": {"include_angles": [0]}}, "keep one of the two"),
        ({"phi_filtering": {"exclude_angles": [-60, 0, 45, 90]}}, "leaves no angle"),
        ({"phi_filtering": {"exclude_angles": ["x"]}}, "is not a number"),
        ({"phi_filtering": {"exclude_angles": [0], "tolerance": -1}}, "less than 180 degrees"),
        ({"phi_filtering": {"exclude_angles": [0], "enabled": "maybe"}}, "must be true or false"),
    ],
)
def test_given_angles_that_cannot_be_meant_when_read_then_they_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refused("heterodyne_document", **changes)


def test_given_heterodynes_words_for_shards_when_read_then_they_are_ours() -> None:
    cmc = read("heterodyne_document").optimization.cmc
    assert (cmc.sharding.num_shards, cmc.sharding.strategy) == (3, "stratified")
    assert cmc.validation.max_divergence_rate == 40 / 4000
    both = {"n_shards": 3, "num_shards": 5, "shard_strategy": "random", "strategy": "contiguous"}
    sharding = read("heterodyne_document", optimization__cmc__sharding=both).optimization.cmc.sharding
    assert (sharding.num_shards, sharding.strategy) == (5, "contiguous")


@pytest.mark.parametrize(
    ("cmc", "rate"),
    [
        ({"validation": {"max_divergences": 40}}, 0.01),
        ({"validation": {"max_divergences": 0}}, 0.0),
        ({"validation": {"max_divergences": 9000}}, 0.999),
        (
            {"validation": {"max_divergences": 40}, "num_samples": 500, "per_shard_mcmc": {"num_chains": 2}},
            0.04,
        ),
        ({"validation": {"max_divergences": 40, "max_divergence_rate": 0.2}}, 0.2),
    ],
)
def test_given_a_number_of_divergences_when_read_then_it_is_their_share(cmc: dict[str, Any], rate: float) -> None:
    found = read("heterodyne_document", optimization__cmc=cmc).optimization.cmc.validation
    assert found.max_divergence_rate == rate


def test_given_groups_in_the_analyzers_section_when_read_then_those_in_parameters_win() -> None:
    group = {"D0_ref": {"value": 7e3, "vary": True}, "alpha_ref": {"value": 0.3, "vary": False}}
    alone = read("heterodyne_document", analyzer_parameters__reference=group, parameters=...)
    assert (parameter_choices(alone)[0].start, parameter_choices(alone)[1].fixed) == (7e3, 0.3)
    both = read("heterodyne_document", analyzer_parameters__reference=group)
    assert (parameter_choices(both)[0].start, parameter_choices(both)[1].fixed) == (5e3, 0.0)


@pytest.mark.parametrize("prefix", ["analysis.", ""])
def test_given_the_short_form_of_heterodyne_when_read_then_it_counts_where_nothing_else_does(
    prefix: str,
) -> None:
    short = {"method": "cmc", "phi_angles": [30.0], "q": 0.02, "dt": 0.5, "scaling_mode": "individual"}
    changes: dict[str, Any] = {f"{prefix}{key}": value for key, value in short.items()}
    gone = dict.fromkeys(("scattering", "temporal", "optimization", "phi_filtering"), ...)
    with pytest.warns(OldConfigurationWarning):
        config = config_from_mapping(with_changes("heterodyne_document", {**gone, **changes}))
    assert config.optimization.method == "cmc"
    assert config.analyzer_parameters.scattering.wavevector_q == 0.02
    assert (config.analyzer_parameters.dt, config.scaling.mode) == (0.5, "individual")
    assert [(one.min, one.max) for one in config.data_filtering.phi_ranges] == [(29.95, 30.05)]
    with pytest.warns(OldConfigurationWarning):
        kept = config_from_mapping(with_changes("heterodyne_document", changes))
    assert kept.analyzer_parameters.scattering.wavevector_q == 0.0054
    assert (kept.optimization.method, kept.analyzer_parameters.dt) == ("nlsq", 0.1)


@pytest.mark.parametrize("name", ["homodyne_document", "heterodyne_document"])
def test_given_a_log_that_is_the_name_of_a_file_when_read_then_it_is_left_behind_and_its_level_counts(
    name: str,
) -> None:
    section = {"level": "WARNING", "file": "a.log", "structured": True, "log_convergence": False}
    assert read(name, logging=section).logging.level == "warning"
    for key in ("file", "structured", "log_convergence"):
        assert told(name, logging=section)[f"logging.{key}"].fate is Fate.DROPPED


@pytest.mark.parametrize(
    ("given", "ours", "said"),
    [
        ("cache.npz", "auto", "names a file, and no folder"),
        ("/scratch/me/cache.npz", "/scratch/me", "named a file; its folder is meant"),
        ("/path/to/data/cache.npz", "auto", "beside the data"),
        ("/scratch/me", "/scratch/me", ""),
    ],
)
def test_given_a_cache_that_is_the_name_of_a_file_when_read_then_its_folder_is_meant(
    given: str, ours: str, said: str
) -> None:
    config = read("homodyne_document", experimental_data__cache_file_path=given)
    assert config.runtime.data_cache == ours
    record = told("homodyne_document", experimental_data__cache_file_path=given)
    assert said in record["experimental_data.cache_file_path"].why


def test_given_a_cache_without_a_suffix_when_a_file_is_there_then_its_folder_is_meant(
    tmp_path: Path,
) -> None:
    (tmp_path / "cache").touch()
    (tmp_path / "folder.npz").mkdir()
    for name, ours in (("cache", tmp_path), ("folder.npz", tmp_path / "folder.npz")):
        config = read("homodyne_document", experimental_data__cache_file_path=str(tmp_path / name))
        assert config.runtime.data_cache == str(ours)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("phi_filtering.include_angels", "did you mean include_angles?"),
        ("analyzer_parameters.num_shards", "did you mean optimization.cmc.num_shards?"),
        ("phi_filtering.by_colour", "nothing is done with it"),
        ("wavevector_q", "did you mean analyzer_parameters.scattering.wavevector_q?"),
    ],
)
def test_given_an_unknown_key_in_a_section_of_the_program_when_read_then_it_is_refused(key: str, said: str) -> None:
    message = refused("heterodyne_document", **{key.replace(".", "__"): 3})
    assert f"{key}: 3 is of unknown meaning; {said}" in message and "--accept" in message


def test_given_a_section_of_ones_own_when_read_then_it_is_left_and_named() -> None:
    document = Document({**example("homodyne_document"), "notes": {"method": "mine"}}, "old.yaml")
    translation = translation_of(document)
    assert "; notes.method is of unknown meaning; nothing is done with it;" in warning(translation, document)


def test_given_a_distance_that_was_the_gap_when_read_then_a_gap_is_asked_for() -> None:
    distance = {"experimental_data__geometry": {"sample_detector_distance": 4.0e6}}
    assert "homodyne took it for the gap" in refused(
        "homodyne_document", **distance, analyzer_parameters__stator_rotor_gap=...
    )
    assert read("homodyne_document", **distance).analyzer_parameters.geometry.stator_rotor_gap == 2.0e6
