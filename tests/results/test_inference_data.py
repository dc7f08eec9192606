"""inference_data.nc opens with xarray alone, and ArviZ finds what it looks for."""

import json

import arviz_stats
import numpy as np
import pytest
import xarray

from hpcxpcs.results.inference_data import inference_data_file
from tests.results.sample import PHI
from tests.results.sample_posterior import CHAINS, SAMPLED, SAMPLES, sampled_answer


def opened(answer, path):
    path.write_bytes(inference_data_file(answer, answer.posterior))
    return xarray.open_datatree(path, engine="h5netcdf")


@pytest.fixture(scope="module")
def answer():
    return sampled_answer()


@pytest.fixture(scope="module")
def tree(answer, tmp_path_factory):
    with opened(answer, tmp_path_factory.mktemp("nc") / "inference_data.nc") as found:
        yield found


def test_given_a_consensus_then_the_tree_has_its_groups(tree):
    assert set(tree.children) == {
        *("posterior", "sample_stats", "observed_data", "diagnostics"),
        *("sampled", "shards", "certificate"),
    }


def test_given_the_file_then_draws_come_back_bit_by_bit_with_units(tree, answer):
    posterior = tree["posterior"]
    assert set(posterior.data_vars) == {*SAMPLED, "contrast", "offset"}
    for k, name in enumerate(SAMPLED):
        assert np.array_equal(posterior[name].values, answer.posterior.draws[..., k])
    assert posterior["D0"].attrs["units"] == "Å²/s^(1+alpha)"
    assert posterior["contrast"].dims == ("chain", "draw", "phi")
    assert posterior["phi"].values.tolist() == list(PHI)
    assert np.array_equal(tree["sample_stats/lp"].values, answer.posterior.log_posterior)


def test_given_a_consensus_then_sampler_statistics_are_with_the_chains_they_belong_to(tree, answer):
    assert set(tree["sample_stats"].data_vars) == {"lp"}
    sampled = tree["sampled"]
    assert sampled["sample_stats"].attrs["label"] == "shard 1"
    assert int(sampled["sample_stats/diverging"].sum()) == 1
    assert np.array_equal(sampled["posterior/D0"].values, answer.posterior.statistics.draws[..., 0])


def test_given_exact_chains_then_their_statistics_are_where_arviz_looks(tmp_path):
    with opened(sampled_answer(route="exact"), tmp_path / "x.nc") as tree:
        assert "sampled" not in tree.children
        assert "certificate" not in tree.children
        assert {"lp", "energy", "diverging", "n_steps", "acceptance_rate"} <= set(tree["sample_stats"].data_vars)
        assert float(arviz_stats.bfmi(tree)["energy"].min()) > 0.3


def test_given_the_file_then_arviz_summarises_its_posterior_and_its_chains(tree):
    for part in (tree, tree["sampled"]):
        table = arviz_stats.summary(part, var_names=["D0", "alpha"], round_to="none")
        assert list(table.index) == ["D0", "alpha"]
        assert float(table.loc["D0", "mean"]) == pytest.approx(12060, rel=0.01)
    assert tree["posterior"].sizes["chain"] * tree["posterior"].sizes["draw"] == CHAINS * SAMPLES


def test_given_the_file_then_shards_certificate_and_verdict_are_in_it(tree, answer):
    assert tree["shards/accepted"].values.tolist() == [True, True, False, True]
    assert tree["shards/reasons"].values.tolist()[2] == "R-hat 1.31 of beta"
    assert tree["shards/mean"].sel(shard=3, parameter="beta") == answer.posterior.shards[3].mean[4]
    assert float(tree["certificate/k_hat"]) == 0.21
    assert tree.attrs["verdict"] == "certified"
    assert json.loads(tree.attrs["settings"])["warmup"] == 500
    assert tree.attrs["data_fingerprint"] == answer.data.fingerprint()


def test_given_the_file_then_data_are_summarised_angle_by_angle(tree, answer):
    observed = tree["observed_data"]
    assert observed["pairs"].values.tolist() == answer.fit.pairs.tolist()
    assert observed["sigma"].values.tolist() == answer.fit.sigma.tolist()
    assert observed["time"].attrs["units"] == "s"


def test_given_the_file_then_intervals_carry_their_probability(tree, answer):
    interval = tree["diagnostics/hdi"]
    assert interval.attrs["probability"] == 0.95
    assert float(interval.sel(parameter="D0", edge="lower")) == answer.posterior.summary.hdi[0, 0]
