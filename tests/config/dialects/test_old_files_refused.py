"""Old configurations that cannot be understood, or would give another answer, are refused with a remedy."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcxpcs.config import config_from_mapping, load_config, parameter_choices
from hpcxpcs.config.dialects.work import Fate
from hpcxpcs.config.document import Document
from hpcxpcs.errors import ConfigError, OldConfigurationWarning
from tests.config.dialects.old_files import (
    EXAMPLES,
    HERE,
    example,
    leaves,
    refused,
    translation_of,
    with_changes,
)

NEEDED = {"analysis_mode", "experimental_data", "analyzer_parameters", "metadata"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimization__nlsq__loss": "cauchy"}, "has no counterpart"),
        ({"preprocessing__enabled": True}, "has no counterpart"),
        ({"optimization__cmc__prior_tempering": False}, "has no counterpart"),
        ({"data_filtering": {"enabled": True, "quality_threshold": 0.5}}, "has no counterpart"),
        ({"initial_parameters__fixed_paramters": {"phi0": 0}}, "did you mean fixed_parameters?"),
        (
            {"parameter_space__bounds": [{"name": "D0", "min": 1, "max": 9, "prior_sgima": 2}]},
            "unknown in an entry",
        ),
    ],
)
def test_given_what_would_change_the_answer_when_read_then_it_is_refused(change: dict[str, Any], said: str) -> None:
    message = refused("homodyne_laminar", **change)
    assert said in message
    assert "--accept" in message


def test_given_a_key_of_no_meaning_when_read_then_it_is_told_and_left() -> None:
    document = Document(with_changes("homodyne_static", {"notes.of": "mine"}), "old.yaml")
    translation = translation_of(document)
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
def test_given_a_malformed_value_when_read_then_it_is_refused_with_a_remedy(change: dict[str, Any], said: str) -> None:
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


MALFORMED = [
    *(("yaml", text) for text in ("analysis_mode: [static\n", "metadata: {config_version: 2\n", "\t- x\n", "")),
    *(("json", text) for text in ('{"analysis_mode": "static"', '{"analysis_mode": "static"} x', "[1, 2]", "")),
]


@pytest.mark.parametrize(("kind", "text"), MALFORMED)
def test_given_malformed_text_when_loaded_then_it_is_an_error_and_never_a_default(
    kind: str, text: str, tmp_path: Path
) -> None:
    old = tmp_path / f"old.{kind}"
    old.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=rf"old\.{kind}"):
        load_config(old)


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
            assert parameter_choices(config)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(EXAMPLES))
def test_given_any_value_at_any_key_when_read_then_it_is_a_configuration_or_one_clear_error(
    data: st.DataObject, name: str
) -> None:
    left = example(name)
    junk = st.sampled_from([None, True, -1, 0, 1e300, "text", "", [], {}, [1, "x"], {"a": {"b": 1}}, [{}], "1e-3"])
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
