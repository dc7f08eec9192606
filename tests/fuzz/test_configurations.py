"""Ten thousand configurations with mistakes: each is used, or refused in one readable message that names the file."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from hpcxpcs.config import load_config
from hpcxpcs.errors import OldConfigurationWarning
from tests.fuzz import configurations
from tests.fuzz.pool import told, verdicts

COUNT = 10_000


@pytest.mark.slow
def test_given_ten_thousand_configurations_with_mistakes_then_each_is_used_or_refused_in_words(tmp_path):
    found = list(verdicts("configuration", range(COUNT), tmp_path))
    bad = [verdict for verdict in found if not verdict.fine]
    assert not bad, told("configuration", bad)
    counted = Counter(verdict.text for verdict in found)
    assert len(found) == COUNT
    assert min(counted["used"], counted["refused"]) > COUNT // 20, f"one-sided mistakes test little: {counted}"


@pytest.mark.filterwarnings(f"ignore::{OldConfigurationWarning.__module__}.{OldConfigurationWarning.__name__}")
def test_given_the_configurations_that_mistakes_are_made_in_then_each_is_accepted(tmp_path):
    for number, text in enumerate(dict.fromkeys(configurations.originals())):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, "utf-8")
        assert load_config(path).data_file.name


def test_given_a_seed_then_its_configuration_is_the_same_whatever_was_made_before():
    seeds = list(range(200))
    before = {seed: configurations.mutated(seed) for seed in seeds}
    random.Random(1).shuffle(seeds)
    assert all(configurations.mutated(seed) == before[seed] for seed in seeds)
    assert len({content for _, content in before.values()}) > 180


def test_given_changes_of_the_structure_then_other_configurations_do_not_notice(tmp_path):
    before = json.dumps([configurations.plain(k) for k in range(len(configurations.originals()))], default=str)
    for seed in range(200):
        configurations.mutated(seed)
    after = json.dumps([configurations.plain(k) for k in range(len(configurations.originals()))], default=str)
    assert before == after
