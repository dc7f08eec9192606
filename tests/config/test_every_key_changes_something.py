"""Every key of the configuration does something: with another legal value something else comes out.

EFFECTS says for each key what: settings with which the key matters, another value, and where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, create_model

from hpcxpcs.config.prior import PRIOR_VALUES
from hpcxpcs.config.schema import Config
from hpcxpcs.config.section import leaf_paths
from tests.config import outcomes as see
from tests.config.outcomes import POSTERIOR, Laboratory, Look, Settings, nested

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Effect:
    """With `other` in the place of what `given` (or the default) says of the key, `look` finds something else.

    For a key inside a list, or of a prior, `other` is the whole list.
    """

    look: Look
    other: Any
    given: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class SeenElsewhere:
    """Why changing the key is not tried here, and the test that does it."""

    reason: str
    test: str


def angles(low: float, high: float) -> dict[str, float]:
    return {"min": low, "max": high}


def of_d0(**settings: Any) -> list[dict[str, Any]]:
    return [{"name": "D0", **settings}]


def started(names: list[str], values: list[float]) -> Settings:
    return {
        "optimization.nlsq.multi_start": 1,
        "initial_parameters.parameter_names": names,
        "initial_parameters.values": values,
    }


BOUNDS = "parameter_space.bounds"
RANGES = "data_filtering.phi_ranges"
SAMPLER = "optimization.cmc.per_shard_mcmc"
SHIFTED = {"analyzer_parameters.start_frame": 5}
FILE_AND_FOLDER = {
    "experimental_data.file_path": None,
    "experimental_data.data_folder_path": "{folder}",
    "experimental_data.data_file_name": "static.hdf",
}
CONSTANT = {"scaling.mode": "constant", "scaling.constant.contrast": 0.3, "scaling.constant.offset": 1.0}
HOLES = {"experimental_data.file_path": "{holes}"}
POOR = {"experimental_data.file_path": "{poor}", "quality_control.level": "standard"}
LARGE = {"experimental_data.file_path": "{large}", "runtime.memory": "4 GiB"}
KEPT = {**LARGE, "runtime.data_cache": "{folder}/kept"}
PHOTONS = {"experimental_data.file_path": "{photons}"}
FAINT = {**POSTERIOR, "experimental_data.file_path": "{faint}"}
REJECTED = {**FAINT, "optimization.cmc.certificate.k_hat": 1e-6}
TALKATIVE = {"logging.level": "debug", "logging.max_size_mb": 0.01, "logging.backup_count": 5}
FREE = {"initial_parameters.fixed_parameters": {}}
SHEAR = {"analysis_mode": "laminar_flow"}
SEED = {"optimization.nlsq.multi_start": 4}
G2 = {"g2.method": "nlsq", "g2.model": "single"}
MANY = {"campaign.files": "{folder}/{{kind}}.hdf"}
POOLED = {**MANY, "campaign.q": "all", "campaign.pool": ["kind", "q"]}
JOINED = {"joint.sets": [{"file": "{static}"}, {"file": "{other}"}], "joint.free": ["D0"]}

EFFECTS: dict[str, Effect | SeenElsewhere] = {
    "campaign.files": Effect(see.items, "{other}", MANY),
    "campaign.analysis": Effect(see.items, "g2", MANY),
    "campaign.q": Effect(see.items, "all", MANY),
    "campaign.windows": Effect(see.items, {"frames": 20}, MANY),
    "campaign.models": Effect(see.items, ["static", "laminar_flow"], MANY),
    "campaign.vary": Effect(see.items, {"noise.model": ["auto", "independent"]}, MANY),
    "campaign.pool": Effect(see.items, ["kind"], MANY),
    "campaign.pool_free": Effect(see.items, ["D0"], POOLED),
    "campaign.pool_free_by": Effect(see.items, ["kind"], POOLED | {"campaign.pool_free": ["D0"]}),
    "joint.sets.file": Effect(see.data, [{"file": "{static}"}, {"file": "{many}"}], JOINED),
    "joint.sets.q": Effect(see.data, [{"file": "{static}"}, {"file": "{other}", "q": 0.00702}], JOINED),
    "joint.sets.label": Effect(
        see.point, [{"file": "{static}", "label": "one"}, {"file": "{other}", "label": "one"}], JOINED
    ),
    "joint.free": Effect(see.point, [], JOINED),
    "campaign.group_by": Effect(see.items, ["kind"], MANY),
    "g2.model": Effect(see.multi_tau, "auto", G2),
    "g2.method": Effect(see.multi_tau, "nuts", G2),
    "g2.baseline": Effect(see.multi_tau, 1.0, G2),
    "g2.contrast": Effect(see.multi_tau, "shared", G2),
    "g2.errors": Effect(see.multi_tau, "stated", G2),
    "g2.error_floor": Effect(see.multi_tau, 0.01, G2),
    "g2.delays": Effect(see.multi_tau, [0.002, 1.0], G2),
    "g2.draws": Effect(see.multi_tau, 150, {**G2, "g2.method": "nuts", "g2.draws": 100}),
    "g2.seed": Effect(see.multi_tau, 1, {**G2, "g2.method": "nuts", "g2.draws": 100}),
    "schema_version": Effect(see.point, 2),  # 1 is the only one that is read: another is refused
    "analysis_mode": Effect(see.curve, "laminar_flow"),
    "experimental_data.data_folder_path": Effect(see.data, "{empty}", FILE_AND_FOLDER),
    "experimental_data.data_file_name": Effect(see.data, "other.hdf", FILE_AND_FOLDER),
    "experimental_data.file_path": Effect(see.data, "{other}"),
    "experimental_data.format": Effect(see.data, "cube"),
    "analyzer_parameters.dt": Effect(see.data, 0.05),
    "analyzer_parameters.start_frame": Effect(see.data, 3),
    "analyzer_parameters.end_frame": Effect(see.data, 30),
    "analyzer_parameters.time_origin": Effect(see.data, "file", SHIFTED),
    "analyzer_parameters.scattering.wavevector_q": Effect(
        see.data, 0.0065, {"experimental_data.file_path": "{other}", "data_filtering.q_tolerance": 0.5}
    ),
    "analyzer_parameters.geometry.stator_rotor_gap": Effect(see.curve, 1.0e6, SHEAR),
    "data_filtering.q_tolerance": Effect(see.data, 0.01, {"analyzer_parameters.scattering.wavevector_q": 0.0055}),
    "data_filtering.phi_range.min": Effect(see.data, angles(-10, 130), {"data_filtering.phi_range": angles(-130, 130)}),
    "data_filtering.phi_range.max": Effect(see.data, angles(-130, 10), {"data_filtering.phi_range": angles(-130, 130)}),
    "data_filtering.phi_ranges.min": Effect(see.data, [angles(-10, 130)], {RANGES: [angles(-130, 130)]}),
    "data_filtering.phi_ranges.max": Effect(see.data, [angles(-130, 10)], {RANGES: [angles(-130, 130)]}),
    "data_filtering.dead_frames": Effect(see.data, [7]),
    "data_filtering.non_finite": Effect(see.data, "mask", HOLES),
    "preprocessing.diagonal": Effect(see.picture, "interpolation"),
    "preprocessing.normalization": Effect(see.data, "baseline"),
    "preprocessing.noise_reduction": Effect(see.data, "median"),
    "preprocessing.window": Effect(see.data, 5, {"preprocessing.noise_reduction": "median"}),
    "preprocessing.standard": Effect(see.data, "float64"),
    "preprocessing.validate_result": Effect(see.stages, True),
    "quality_control.level": Effect(see.judged, "basic"),
    "quality_control.auto_repair": Effect(see.data, "conservative", {**HOLES, "quality_control.level": "basic"}),
    "quality_control.refuse_poor": Effect(see.taken, True, POOR),
    "conventions.shear_law": Effect(see.curve, "homodyne-2", SHEAR),
    "conventions.integrator": Effect(see.curve, "trapezoid", SHEAR),
    "conventions.heterodyne": Effect(see.curve, "heterodyne-2", {"analysis_mode": "two_component"}),
    "scaling.mode": Effect(see.point, "averaged"),
    "scaling.fourier_order": Effect(see.point, 1, {"experimental_data.file_path": "{many}", "scaling.mode": "fourier"}),
    "scaling.constant.contrast": Effect(see.point, 0.31, CONSTANT),
    "scaling.constant.offset": Effect(see.point, 1.001, CONSTANT),
    "noise.sigma": Effect(see.point, 0.05),
    "noise.scale": Effect(see.point, "fixed"),
    "noise.model": Effect(see.point, "independent", PHOTONS),
    "noise.photons": Effect(see.point, 1.0, PHOTONS),
    "noise.pixels": Effect(see.point, 100.0, PHOTONS),
    "parameter_space.bounds.name": Effect(
        see.point, [{"name": "alpha", "max": 0.5}], {BOUNDS: [{"name": "D0", "max": 0.5}]}
    ),
    "parameter_space.bounds.min": Effect(see.point, of_d0(min=2e4), {BOUNDS: of_d0(min=1e3)}),
    "parameter_space.bounds.max": Effect(see.point, of_d0(max=5e3), {BOUNDS: of_d0(max=5e4)}),
    "parameter_space.bounds.prior_mu": Effect(
        see.prior, of_d0(prior_mu=9e3, prior_sigma=1e3), {BOUNDS: of_d0(prior_mu=1e4, prior_sigma=1e3)}
    ),
    "parameter_space.bounds.prior_sigma": Effect(
        see.prior, of_d0(prior_mu=1e4, prior_sigma=2e3), {BOUNDS: of_d0(prior_mu=1e4, prior_sigma=1e3)}
    ),
    "parameter_space.bounds.prior": Effect(
        see.prior, of_d0(prior={"type": "normal", "mu": 1.1e4, "sigma": 1e2}), {BOUNDS: of_d0()}
    ),
    "initial_parameters.parameter_names": Effect(
        see.search, ["D0", "D_offset"], {**FREE, **started(["D0", "alpha"], [1.4e4, 0.2])}
    ),
    "initial_parameters.values": Effect(see.search, [1.1e4, -0.1], started(["D0", "alpha"], [1.4e4, 0.1])),
    "initial_parameters.fixed_parameters": Effect(see.point, {"D_offset": 50.0}),
    "initial_parameters.active_parameters": Effect(see.point, ["D0"]),
    "optimization.method": Effect(see.files, "cmc", {**POSTERIOR, "optimization.method": "nlsq"}),
    "optimization.nlsq.multi_start": Effect(see.search, 5),
    "optimization.nlsq.cmaes": Effect(see.search, True),
    "optimization.nlsq.max_iterations": Effect(see.point, 1),
    "optimization.nlsq.tolerance": Effect(see.search, 0.1),
    "optimization.nlsq.uncertainty": Effect(see.point, "model"),
    "optimization.nlsq.seed": Effect(see.search, 1, SEED),
    "optimization.cmc.sharding.strategy": Effect(see.draws, "random", POSTERIOR),
    "optimization.cmc.sharding.num_shards": Effect(see.draws, 3, POSTERIOR),
    "optimization.cmc.anchor": Effect(see.draws, "none", POSTERIOR),
    "optimization.cmc.per_shard_mcmc.num_warmup": Effect(see.draws, 60, POSTERIOR),
    "optimization.cmc.per_shard_mcmc.num_samples": Effect(see.draws, 60, POSTERIOR),
    "optimization.cmc.per_shard_mcmc.num_chains": Effect(see.draws, 3, POSTERIOR),
    "optimization.cmc.per_shard_mcmc.target_accept_prob": Effect(see.draws, 0.999, POSTERIOR),
    "optimization.cmc.per_shard_mcmc.max_tree_depth": Effect(
        see.draws, 3, {**POSTERIOR, f"{SAMPLER}.target_accept_prob": 0.999}
    ),
    "optimization.cmc.per_shard_mcmc.seed": Effect(see.draws, 7, POSTERIOR),
    "optimization.cmc.combination.method": SeenElsewhere(
        "it takes a shard that contradicts the others", "tests/pipeline/test_contradicting_shards.py"
    ),
    "optimization.cmc.validation.max_r_hat": Effect(see.judgement, 1.01),
    "optimization.cmc.validation.min_ess": Effect(see.judgement, 400),
    "optimization.cmc.validation.min_bfmi": Effect(see.judgement, 0.4),
    "optimization.cmc.validation.max_divergence_rate": Effect(see.judgement, 0.01),
    "optimization.cmc.validation.min_success_rate": Effect(see.without_a_shard, 0.4, POSTERIOR),
    "optimization.cmc.certificate.draws": Effect(see.certificate, 600, POSTERIOR),
    "optimization.cmc.certificate.k_hat": Effect(see.verdict, 1e-6, FAINT),
    "optimization.cmc.certificate.on_reject": Effect(see.verdict, "exact", REJECTED),
    "likelihood.tolerance": Effect(see.representation, 0.003),
    "runtime.workers": Effect(see.processes, 2, POSTERIOR),
    "runtime.cores_per_worker": Effect(see.workers_on_four_cores, 2),
    "runtime.ranks_per_machine": SeenElsewhere(
        "it takes MPI ranks to see how many of them work", "tests/acceptance/test_many_ranks.py"
    ),
    "runtime.checkpoint_every": Effect(see.checkpoints, 1000, POSTERIOR),
    "runtime.memory": Effect(see.kept, "64 MiB", LARGE),
    "runtime.data_cache": Effect(see.kept, None, KEPT),
    "runtime.data_cache_limit": Effect(see.kept, "64 MiB", KEPT),
    "runtime.compilation_cache_dir": Effect(see.compiled, "{folder}/compiled"),
    "output.directory": Effect(see.place, "elsewhere"),
    "output.plots": Effect(see.files, True),
    "output.report": Effect(see.files, True),
    "output.fitted_data": Effect(see.files, True),
    "output.items": SeenElsewhere("it takes a campaign", "tests/acceptance/test_campaign.py"),
    "logging.level": Effect(see.logs, "debug", POSTERIOR),
    "logging.max_size_mb": Effect(see.logs, 10, TALKATIVE),
    "logging.backup_count": Effect(see.logs, 0, TALKATIVE),
}


def keys(schema: type[Config] = Config) -> set[str]:
    """All keys of a schema, those of lists included."""
    return {".".join(map(str, path)) for path in leaf_paths(schema)}


def untold(schema: type[Config]) -> set[str]:
    """Keys of the schema that are not in the table, and the other way round."""
    return keys(schema) ^ EFFECTS.keys()


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its key; what is in a list has no number."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from flat(item, key)
    elif isinstance(value, dict) and key not in EFFECTS:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def changed_key(key: str, effect: Effect) -> Settings:
    """The settings with the other value; nothing but the key differs."""
    section = key.rpartition(".")[0]
    place = section if section in effect.given else key
    after = {**effect.given, place: effect.other}
    before = dict(flat(nested({**see.USUAL, **effect.given})))
    now = dict(flat(nested({**see.USUAL, **after})))
    different = {name for name in before | now if before.get(name, ...) != now.get(name, ...)}
    assert different == {key}
    return after


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, private_cache: None) -> Laboratory:
    folder = tmp_path_factory.mktemp("laboratory")
    (folder / "empty").mkdir()
    return Laboratory(folder, {"empty": str(folder / "empty")})


def test_the_table_has_every_key_of_the_schema_and_no_other() -> None:
    assert untold(Config) == set()


def test_given_a_key_more_or_less_in_the_schema_then_the_table_does_not_fit() -> None:
    more = create_model("More", __base__=Config, of_no_effect=(int, Field(default=1)))
    assert untold(more) == {"of_no_effect"}
    assert "logging.level" in untold(more.model_fields["logging"].annotation)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [key for key, effect in EFFECTS.items() if isinstance(effect, Effect)])
def test_given_another_value_then_something_else_comes_out(lab: Laboratory, key: str) -> None:
    effect = EFFECTS[key]
    assert isinstance(effect, Effect)
    after = changed_key(key, effect)
    assert effect.look(lab, effect.given) != effect.look(lab, after)


@pytest.mark.parametrize("look", [see.data, see.curve, see.point, see.draws])
def test_given_the_same_values_computed_anew_then_the_same_comes_out(lab: Laboratory, look: Look) -> None:
    given = POSTERIOR if look is see.draws else {}
    again = {**given, "logging.level": "warning"}
    assert look(lab, given) == look(lab, again)


@pytest.mark.parametrize("key", [key for key, effect in EFFECTS.items() if isinstance(effect, SeenElsewhere)])
def test_given_a_key_that_is_seen_elsewhere_then_that_test_sets_it(key: str) -> None:
    effect = EFFECTS[key]
    assert isinstance(effect, SeenElsewhere)
    assert key in (ROOT / effect.test).read_text()


VALUES = {"mu": 1e4, "sigma": 0.5, "median": 1e4, "rate": 1e-3, "a": 2.0, "b": 3.0}


def prior_of(kind: str, larger: str = "") -> Settings:
    """A prior of D0, with one of its values half as large again."""
    values = {name: VALUES[name] for name in PRIOR_VALUES[kind]}
    if "mu" in values or kind == "half_normal":
        values["sigma"] = 2e4
    values |= {larger: 1.5 * values[larger]} if larger else {}
    return {BOUNDS: of_d0(min=1e3, max=1e5, prior={"type": kind, **values})}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PRIOR_VALUES.items() for name in names])
def test_given_another_value_of_a_prior_then_it_is_another_prior(lab: Laboratory, kind: str, name: str) -> None:
    assert see.prior(lab, prior_of(kind)) != see.prior(lab, prior_of(kind, larger=name))


def test_given_another_kind_of_prior_then_it_is_another_prior(lab: Laboratory) -> None:
    found = {kind: see.prior(lab, prior_of(kind)) for kind in PRIOR_VALUES}
    assert found["normal"] == found.pop("truncated_normal"), "all are truncated to the bounds"
    assert len({repr(value) for value in found.values()}) == len(found)
