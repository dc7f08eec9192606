"""A key of an older program has an effect, or the account says that it has none and why."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from hpcxpcs.config.dialects.translate import Translation, from_old
from hpcxpcs.config.dialects.work import TABLES, Fate, Record
from hpcxpcs.config.document import Document
from hpcxpcs.config.load import validated
from hpcxpcs.errors import ConfigError
from tests.config.dialects.old_files import HERE

BASES: Mapping[str, Mapping[str, Any]] = {
    "homodyne": {"analysis_mode": "laminar_flow", "experimental_data.file_path": "a.hdf"},
    "heterodyne": {"experimental_data.file_path": "a.hdf"},
}
WANTED = {"analyzer_parameters.dt": 0.1, "analyzer_parameters.scattering.wavevector_q": 0.0054}
"""Taken out of the configuration again where the key under test says the same."""

RANGES = [{"min_angle": -10, "max_angle": 10}], [{"min_angle": 80, "max_angle": 95}]
D0 = ({"name": "D0", "min": 100, "max": 1e5}, {"name": "D0", "min": 100, "max": 1e6})
BY_TARGET: Mapping[str, tuple[Any, Any]] = {
    "runtime.data_cache": ("/scratch/a", "/scratch/b"),
    "analyzer_parameters.geometry.stator_rotor_gap": (1.0e6, 2.5e6),
    "analyzer_parameters.dt": (0.1, 0.2),
    "analyzer_parameters.start_frame": (2, 3),
    "analyzer_parameters.end_frame": (200, 300),
    "analyzer_parameters.scattering.wavevector_q": (0.01, 0.02),
    "data_filtering.phi_ranges": ([-10.0], [20.0]),
    "data_filtering.q_tolerance": (0.05, 0.2),
    "optimization.method": ("nlsq", "cmc"),
    "optimization.nlsq.max_iterations": (50, 60),
    "optimization.nlsq.tolerance": (1e-6, 1e-7),
    "optimization.nlsq.multi_start": (3, 5),
    "optimization.nlsq.seed": (1, 2),
    "optimization.nlsq.cmaes": (True, False),
    "scaling.mode": ("individual", "averaged"),
    "scaling.fourier_order": (2, 3),
    "optimization.cmc.per_shard_mcmc.num_warmup": (300, 400),
    "optimization.cmc.per_shard_mcmc.num_samples": (300, 400),
    "optimization.cmc.per_shard_mcmc.num_chains": (2, 3),
    "optimization.cmc.per_shard_mcmc.target_accept_prob": (0.8, 0.85),
    "optimization.cmc.per_shard_mcmc.max_tree_depth": (8, 9),
    "optimization.cmc.per_shard_mcmc.seed": (1, 2),
    "optimization.cmc.sharding.strategy": ("random", "contiguous"),
    "optimization.cmc.sharding.num_shards": (2, 3),
    "optimization.cmc.combination.method": ("consensus_mc", "robust_consensus_mc"),
    "optimization.cmc.validation.max_r_hat": (1.05, 1.1),
    "optimization.cmc.validation.min_ess": (100, 200),
    "optimization.cmc.validation.min_bfmi": (0.1, 0.3),
    "optimization.cmc.validation.max_divergence_rate": (0.05, 0.1),
    "optimization.cmc.validation.min_success_rate": (0.5, 0.8),
    "logging.level": ("DEBUG", "ERROR"),
    "logging.max_size_mb": (3, 4),
    "logging.backup_count": (1, 2),
    "output.plots": (True, False),
    "output.directory": ("one", "two"),
}
"""Two legal values for keys that become one of ours."""
BY_KEY: Mapping[str, tuple[Any, Any]] = {
    "analysis_mode": ("static", "laminar_flow"),
    "optimization.nlsq.analysis_mode": ("static_ref", "static_both"),
    "data_file": ("a.hdf", "b.hdf"),
    "experimental_data.file_path": ("a.hdf", "b.hdf"),
    "experimental_data.data_folder_path": ("a", "b"),
    "experimental_data.data_file_name": ("a.hdf", "b.hdf"),
    "v2_features.cache_strategy": ("none", "simple"),
    "phi_filtering.target_ranges": RANGES,
    "phi_filtering.tolerance": (2.0, 3.0),
    "data_filtering.phi_range.min": (-20.0, -10.0),
    "data_filtering.phi_range.max": (10.0, 20.0),
    "data_filtering.q_range.min": (0.0052, 0.0053),
    "data_filtering.q_range.max": (0.0055, 0.0056),
    "initial_parameters.parameter_names": (["D0", "alpha"], ["D0", "D_offset"]),
    "initial_parameters.values": ([1e3], [2e3]),
    "initial_parameters.active_parameters": (["D0"], ["alpha"]),
    "initial_parameters.fixed_parameters": ({"alpha": 0.0}, {"alpha": 0.1}),
    "parameter_space.bounds": ([D0[0]], [D0[1]]),
    "logging.enabled": (True, False),
    "logging.console.enabled": (True, False),
    "quality_control.enabled": (True, False),
    "quality_control.validation_level": ("basic", "comprehensive"),
    "quality_control.auto_repair": ("disabled", "conservative"),
    "quality_control.repair_negative_correlations": (True, False),
    "preprocessing.stages.correct_diagonal.method": ("basic", "statistical"),
    "preprocessing.stages.normalize_data.method": ("mean", "minmax"),
    "preprocessing.stages.reduce_noise.method": ("median", "gaussian"),
    "preprocessing.stages.standardize_format.enabled": (True, False),
    "preprocessing.stages.validate_output.enabled": (True, False),
    "optimization.cmc.validation.max_divergences": (3, 30),
    "optimization.cmc.max_divergences": (3, 30),
    "parameters.*.value": (1e3, 2e3),
    "parameters.*.vary": (True, False),
    "parameters.*.min": (100, 200),
    "parameters.*.max": (5e4, 6e4),
    "parameters.*.prior": ("normal", "uniform"),
    "parameters.*.prior_params": ({"loc": 1e3, "scale": 10}, {"loc": 2e3, "scale": 10}),
}
PREPARED = {"preprocessing.enabled": True, "preprocessing.stages.normalize_data.method": "mean"}
JUDGED = {"quality_control.enabled": True}
BESIDE: Mapping[str, Mapping[str, Any]] = {
    "experimental_data.data_folder_path": {
        "experimental_data.file_path": ...,
        "experimental_data.data_file_name": "c.hdf",
    },
    "experimental_data.data_file_name": {
        "experimental_data.file_path": ...,
        "experimental_data.data_folder_path": "c",
    },
    "data_file": {"experimental_data.file_path": ...},
    "phi_filtering.target_ranges": {"phi_filtering.enabled": True},
    "phi_filtering.include_angles": {"phi_filtering.enabled": True},
    "phi_filtering.exclude_angles": {"phi_filtering.enabled": True},
    "phi_filtering.tolerance": {"phi_filtering.enabled": True, "phi_filtering.exclude_angles": [45.0]},
    "data_filtering.phi_range.min": {"data_filtering.phi_range.max": 40},
    "data_filtering.phi_range.max": {"data_filtering.phi_range.min": -40},
    "initial_parameters.values": {"initial_parameters.parameter_names": ["D0"]},
    "initial_parameters.parameter_names": {"initial_parameters.values": [300.0, 0.5]},
    "quality_control.validation_level": JUDGED,
    "quality_control.auto_repair": JUDGED,
    "quality_control.repair_negative_correlations": {**JUDGED, "quality_control.auto_repair": "aggressive"},
    **{
        f"preprocessing.stages.{stage}.{key}": PREPARED
        for stage, key in (
            *(
                ("correct_diagonal", "method"),
                ("normalize_data", "method"),
                ("standardize_format", "enabled"),
            ),
            ("validate_output", "enabled"),
        )
    },
    "preprocessing.stages.reduce_noise.method": {
        **PREPARED,
        "preprocessing.stages.reduce_noise.enabled": True,
    },
    "optimization.nlsq.multi_start.n_starts": {"optimization.nlsq.multi_start.enable": True},
    "optimization.nlsq.multistart_n": {"optimization.nlsq.multistart": True},
    "optimization.cmc.per_angle_mode": {"optimization.method": "cmc"},
    "optimization.cmc.per_angle.per_angle_mode": {"optimization.method": "cmc"},
    "parameters.*.vary": {"parameters.reference.D0_ref.value": 1e3},
    "parameters.*.min": {"parameters.reference.D0_ref.max": 5e4},
    "parameters.*.max": {"parameters.reference.D0_ref.min": 100},
    "parameters.*.prior": {},
    "parameters.*.prior_params": {"parameters.reference.D0_ref.prior": "normal"},
}
"""What has to stand beside a key for it to count, ... for what must not."""
OF_HETERODYNE = {"D0": "D0_ref", "alpha": "alpha_ref", "D_offset": "D_offset_ref"}
MODES = {"static": "static_ref", "laminar_flow": "static_both"}
LIVES_ON = (Fate.KEPT, Fate.RENAMED, Fate.REPLACED)


def for_dialect(value: Any, dialect: str) -> Any:
    """A value with heterodyne's names of parameters, models and rules of combination."""
    if dialect == "homodyne":
        return value
    if isinstance(value, dict):
        return {OF_HETERODYNE.get(key, key): for_dialect(item, dialect) for key, item in value.items()}
    if isinstance(value, list):
        return [for_dialect(item, dialect) for item in value]
    return {**OF_HETERODYNE, **MODES}.get(value, value) if isinstance(value, str) else value


def old_file(dialect: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A short configuration of a program with dotted keys set, or taken out (...)."""
    data: dict[str, Any] = {}
    for key, value in {**BASES[dialect], **WANTED, **changes}.items():
        here = data
        *sections, last = key.split(".")
        for part in sections:
            here = here.setdefault(part, {})
        if value is ...:
            here.pop(last, None)
        else:
            here[last] = copy.deepcopy(value)
    return data


def translated(dialect: str, changes: Mapping[str, Any]) -> Translation:
    """What becomes of an old file."""
    document = Document(old_file(dialect, changes), "old.yaml")
    translation = from_old(document, None, dialect, accept=True)
    return translation


def spelt(key: str) -> str:
    """A key of the table as a file has it: `parameters.*.value` for one parameter."""
    return key.replace(".*.", ".reference.D0_ref.")


def beside(key: str, target: str) -> dict[str, Any]:
    """What stands beside a key: nothing that says the same, and what it takes for the key to count."""
    needed = dict(BESIDE.get(key.replace("analyzer_parameters.*", "parameters.*"), {}))
    if key.startswith("analyzer_parameters.*"):
        needed = {f"analyzer_{name}": value for name, value in needed.items()}
    if target in WANTED and target != key:
        needed[target] = ...
    return needed


def record_of(key: str, translation: Translation) -> Record:
    """The record of a key, or of the section that was dealt with as a whole."""
    records, parts = {one.key: one for one in translation.records}, key.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(records[name] for name in names if name in records)


LIVING = [(dialect, key) for dialect, table in TABLES.items() for key, rule in table.items() if rule.fate in LIVES_ON]


@pytest.mark.parametrize(("dialect", "key"), LIVING)
def test_given_two_values_of_a_key_that_lives_on_then_two_configurations_and_the_account_says_so(
    dialect: str, key: str
) -> None:
    target = TABLES[dialect][key].to or key
    values = BY_KEY.get(key.replace("analyzer_parameters.*", "parameters.*")) or BY_TARGET[target]
    found, fates = [], set()
    for value in values:
        changes = for_dialect({**beside(key, target), spelt(key): value}, dialect)
        translation = translated(dialect, changes)
        record = record_of(spelt(key), translation)
        assert record.fate in LIVES_ON or record.why, record
        found.append(validated(translation.document).to_mapping())
        fates.add(record.fate)
    assert found[0] != found[1]
    assert fates & {*LIVES_ON}


@pytest.mark.parametrize("dialect", TABLES)
def test_given_keys_that_have_no_place_here_then_the_account_says_why(dialect: str) -> None:
    keys = (HERE / f"{dialect}_keys.txt").read_text("utf-8").split()
    living = {spelt(key) for one, key in LIVING if one == dialect}
    dropped = [key for key in keys if key not in living and not key.startswith("parameters.")]
    assert len(dropped) > 200
    for key in dropped:
        for value in (True, "text"):
            try:
                translation = translated(dialect, {key: value})
            except ConfigError as error:  # what is no value of the key is refused under its name
                assert key.rpartition(".")[0] in str(error), error
                continue
            record = record_of(key, translation)
            assert record.fate is not Fate.UNKNOWN, key
            assert record.why or record.to, key
