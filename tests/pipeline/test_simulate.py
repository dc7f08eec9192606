"""Simulated files: what the physics and the recipe say, through every layout, with the truth beside them."""

import json

import jax
import numpy as np
import pytest

from hpcxpcs.config import MODEL_NAMES, DataScale, config_from_mapping, load_config, resolved_parameters
from hpcxpcs.data.formats import open_file, read_truth
from hpcxpcs.data.select import load
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.errors import ConfigError, OutputError
from hpcxpcs.physics.model import build_model
from hpcxpcs.physics.rates import rate_integral
from hpcxpcs.pipeline.simulate import (
    TRUTH,
    SimulationSpec,
    simulate,
    simulate_twotime,
    true_parameters,
    truth_path,
)

FORMATS = ("nexus", "legacy", "cube", "nxxpcs", "viewer")
QUIET = NoiseSpec("iid", sd=0.0)


def small(model="laminar_flow", **settings):
    return SimulationSpec(model, **{"angles": 3, "frames": 24, **settings})


def expected_shape(spec, phi):
    model = build_model(spec.model, q=spec.q, gap=spec.gap)
    t = spec.dt * np.arange(spec.frames)
    theta = np.array([TRUTH[spec.model][name] for name in model.parameter_names])
    return np.asarray(model.shape(theta, t[:, None], t[None, :], phi))


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_no_noise_then_c2_is_the_model_with_the_true_scaling(model, tmp_path):
    spec = small(model, noise=QUIET, dtype="float64", output=tmp_path / "a.hdf")
    truth = json.loads(truth_path(simulate(spec)).read_text())
    twotime = simulate_twotime(spec)
    for k, phi in enumerate(truth["phi"]):
        expected = truth["offset"][k] + truth["contrast"][k] * expected_shape(spec, phi)
        np.testing.assert_allclose(off_diagonal(twotime.angle(k).c2), off_diagonal(expected), rtol=1e-12, atol=1e-12)


def test_given_noise_then_the_residual_has_the_stated_deviation():
    spec = small(frames=120, noise=NoiseSpec("iid", sd=0.02), contrast_spread=0.0, offset_spread=0.0)
    twotime = simulate_twotime(spec)
    residuals = [
        np.triu(twotime.angle(k).c2 - (1.0 + 0.15 * expected_shape(spec, phi)), 1) for k, phi in enumerate(twotime.phi)
    ]
    pairs = 3 * 120 * 119 / 2
    deviation = np.sqrt(np.sum(np.square(residuals)) / pairs)
    assert deviation == pytest.approx(0.02, rel=4.0 / np.sqrt(2.0 * pairs))


@pytest.mark.parametrize("model", ["laminar_flow", "two_component"])
def test_given_photons_then_the_mean_over_many_seeds_is_the_model(model):
    spec = small(
        model,
        angles=1,
        frames=10,
        contrast=0.5,
        contrast_spread=0.0,
        noise=NoiseSpec("photon", photons=1.0, pixels=2000),
    )
    upper = np.triu_indices(10, 1)
    samples = np.array(
        [simulate_twotime(SimulationSpec(**{**vars(spec), "seed": seed})).angle(0).c2[upper] for seed in range(50)]
    )
    expected = (1.0 + 0.5 * expected_shape(spec, 0.0))[upper]
    z = (samples.mean(axis=0) - expected) / (samples.std(axis=0, ddof=1) / np.sqrt(50))
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("half", [True, False])
def test_round_trip_through_every_layout_gives_back_the_matrices(name, half, tmp_path):
    spec = small(format=name, half=half, output=tmp_path / "run.hdf", config=tmp_path / "run.yaml")
    simulate(spec)
    read, made = load(load_config(tmp_path / "run.yaml")), simulate_twotime(spec)
    np.testing.assert_allclose(read.phi, made.phi)
    np.testing.assert_allclose(read.t, made.t, rtol=1e-12)
    assert (read.dt, read.q) == (pytest.approx(0.1), pytest.approx(0.0054))
    for k in range(3):
        np.testing.assert_array_equal(read.angle(k).c2, made.angle(k).c2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nexus", "not populated"),
        ("legacy", "not processed"),
        ("nxxpcs", "not populated"),
        ("viewer", "not processed"),
    ],
)
def test_given_missing_bins_then_the_file_names_them(name, reason, tmp_path):
    spec = small("static", phi=(-30.0, 0.0, 45.0), format=name, missing_bins=(2, 4), extra_q=1, output=tmp_path / "a")
    with open_file(simulate(spec)) as layout:
        assert {(round(item.q / spec.q, 9), item.phi, item.reason) for item in layout.absent} == {
            (1.0, 0.0, reason),
            (1.3, -30.0, reason),
        }
        assert len(layout.bins) == 4


@pytest.mark.parametrize("name", FORMATS)
def test_other_q_rings_and_missing_bins_do_not_shift_the_selection(name, tmp_path):
    spec = small(format=name, extra_q=2, missing_bins=(2, 5), output=tmp_path / "run.hdf", config=tmp_path / "run.yaml")
    simulate(spec)
    with open_file(spec.output) as layout:
        assert len(layout.bins) == 7
        assert len({info.q for info in layout.bins}) == 3
    read = load(load_config(spec.config))
    whole = simulate_twotime(small())
    np.testing.assert_allclose(read.phi, [-120.0, 120.0])
    for k, original in ((0, 0), (1, 2)):
        np.testing.assert_array_equal(read.angle(k).c2, whole.angle(original).c2)


def test_dead_frames_are_found_by_the_reader():
    twotime = simulate_twotime(small(dead_frames=(3, 17)))
    expected = np.ones(24, dtype=bool)
    expected[[0, 2, 16]] = False
    np.testing.assert_array_equal(twotime.angle(1).frame_ok, expected)


def test_the_truth_is_in_the_file_and_beside_it(tmp_path):
    spec = small(
        parameters={"D0": 2e4},
        dead_frames=(5,),
        extra_q=1,
        missing_bins=(6,),
        seed=9,
        output=tmp_path / "a.hdf",
    )
    path = simulate(spec)
    truth = json.loads((tmp_path / "a.hdf.truth.json").read_text())
    assert truth == read_truth(path)
    assert truth["model"] == "laminar_flow"
    assert truth["parameters"] == {**TRUTH["laminar_flow"], "D0": 2e4}
    assert truth["conventions"] == {"integrator": "exact", "shear_law": "couette"}
    assert truth["noise"] == {"model": "iid", "sd": 0.01}
    assert (truth["q"], truth["gap"], truth["dt"], truth["seed"]) == (0.0054, 2e6, 0.1, 9)
    assert (truth["dead_frames"], truth["missing_bins"]) == ([5], [6])
    assert len(truth["phi"]) == len(truth["contrast"]) == len(truth["offset"]) == 3
    assert truth["other_q"] == [pytest.approx(0.0054 * 1.3)]


def test_same_spec_gives_the_same_matrices_and_another_seed_others(tmp_path):
    first, again, other = (simulate_twotime(small(seed=seed)).angle(0).c2 for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_angle_keeps_its_matrix_when_others_are_added():
    few = simulate_twotime(small(phi=(-40.0, 0.0)))
    more = simulate_twotime(small(phi=(-40.0, 0.0, 30.0)))
    for k in range(2):
        np.testing.assert_array_equal(few.angle(k).c2, more.angle(k).c2)


def test_evaluating_a_few_rows_at_a_time_changes_nothing(monkeypatch):
    whole = simulate_twotime(small()).angle(0).c2
    monkeypatch.setattr("hpcxpcs.pipeline.simulate.ELEMENTS_AT_ONCE", 5 * 24)
    np.testing.assert_array_equal(simulate_twotime(small()).angle(0).c2, whole)


@pytest.mark.parametrize("noise", [NoiseSpec("iid"), NoiseSpec("photon", pixels=200)])
def test_a_rate_that_diverges_at_time_zero_gives_finite_matrices(noise):
    twotime = simulate_twotime(small("static", parameters={"alpha": -1.5}, noise=noise))
    assert np.isfinite(twotime.angle(0).c2).all()


def test_the_written_configuration_has_no_bounds_no_start_and_a_relative_path(tmp_path):
    folder = tmp_path / "configs"
    spec = small("two_component", output=tmp_path / "data" / "a.hdf", config=folder / "a.yaml")
    simulate(spec)
    config = load_config(spec.config)
    assert config.data_file.resolve() == spec.output.resolve()
    assert config.experimental_data.file_path == "../data/a.hdf"
    assert config.initial_parameters.values is None
    assert config.initial_parameters.fixed_parameters == {"f2": 1.0}
    assert config.parameter_space.bounds == ()


def test_conventions_reach_the_model_the_truth_and_the_configuration(tmp_path):
    spec = small(shear_law="homodyne-2", integrator="trapezoid", output=tmp_path / "a.hdf", config=tmp_path / "a.yaml")
    simulate(spec)
    assert read_truth(spec.output)["conventions"] == {"integrator": "trapezoid", "shear_law": "homodyne-2"}
    conventions = load_config(spec.config).conventions
    assert (conventions.integrator, conventions.shear_law) == ("trapezoid", "homodyne-2")
    usual = simulate_twotime(small(noise=QUIET)).angle(1).c2
    assert np.abs(simulate_twotime(small(noise=QUIET, shear_law="homodyne-2")).angle(1).c2 - usual).max() > 0.01
    assert np.abs(simulate_twotime(small(noise=QUIET, integrator="trapezoid")).angle(1).c2 - usual).max() > 1e-5


@pytest.mark.parametrize("present", ["a.hdf", "a.hdf.truth.json", "a.yaml"])
def test_nothing_is_overwritten_without_force(present, tmp_path):
    (tmp_path / present).write_text("precious")
    spec = small(output=tmp_path / "a.hdf", config=tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="--force"):
        simulate(spec)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    simulate(SimulationSpec(**{**vars(spec), "force": True}))
    assert (tmp_path / present).read_bytes() != b"precious"


def test_two_files_under_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="different file names"):
        simulate(small(output=tmp_path / "a.hdf", config=tmp_path / "a.hdf"))


def test_given_a_folder_that_cannot_be_written_then_the_error_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/a\.hdf"):
        simulate(small(output=tmp_path / "file" / "a.hdf"))


def test_one_line_is_reported_for_each_stage(tmp_path):
    lines = []
    simulate(small(output=tmp_path / "a.hdf", config=tmp_path / "a.yaml"), report=lines.append)
    assert [line.split()[0] for line in lines] == ["model", "matrices", "noise", "wrote", "wrote", "wrote"]
    assert "D0 12000" in lines[0] and "a.hdf" in lines[3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "laminer_flow"}, "did you mean 'laminar_flow'"),
        ({"parameters": {"D00": 1.0}}, "did you mean 'D0'"),
        ({"model": "static", "parameters": {"beta": 0.0}}, "beta"),
        ({"parameters": {"D0": -1.0}}, "D0 = -1 must be positive"),
        ({"parameters": {"alpha": 9.0}}, r"alpha = 9 is outside of -2 \.\.\. 2"),
        ({"parameters": {"D0": float("nan")}}, "D0"),
        ({"parameters": {"D_offset": -9e3}}, "diffusion falls to"),
        ({"angles": 0}, "angles"),
        ({"phi": ()}, "phi"),
        ({"phi": (10.0, 10.0)}, "twice"),
        ({"phi": (1e3,)}, "phi"),
        ({"frames": 7}, "frames: 7"),
        ({"dt": 0.0}, "dt"),
        ({"q": -1.0}, "q: -1"),
        ({"gap": float("inf")}, "gap"),
        ({"dtype": "float16"}, "float16"),
        ({"format": "tiff"}, "tiff"),
        ({"compression": "zip"}, "zip"),
        ({"shear_law": "none"}, "shear_law"),
        ({"dead_frames": (25,)}, "1 to 24"),
        ({"missing_bins": (4,)}, "1 to 3"),
        ({"noise": NoiseSpec("photon"), "offset": 1.1}, "offset"),
    ],
)
def test_what_cannot_be_simulated_is_refused_and_nothing_is_written(settings, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        simulate(small(**{"output": tmp_path / "a.hdf", **settings}))
    assert list(tmp_path.iterdir()) == []


def test_a_velocity_switched_off_is_legal():
    assert true_parameters("two_component", {"v0": 0.0})["v0"] == 0.0


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_the_default_truth_lies_inside_the_bounds(model):
    config = config_from_mapping(
        {
            "analysis_mode": model,
            "experimental_data": {"file_path": "a.h5"},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        }
    )
    for item in resolved_parameters(config, DataScale(0.0054, 2.0e6, 0.1, 0.1, 100.0)):
        assert item.lower < TRUTH[model][item.parameter.name] < item.upper


def test_the_default_shear_is_resolved_by_the_frames():
    spec, truth = SimulationSpec("laminar_flow"), TRUTH["laminar_flow"]
    t = spec.dt * np.arange(1, spec.frames)
    strain = np.diff(rate_integral(t, truth["gamma_dot_t0"], truth["beta"], truth["gamma_dot_t_offset"]))
    assert (0.5 * spec.q * spec.gap * strain).max() < 1.0


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_the_default_truth_is_identified_by_the_default_file(model):
    relative = _relative_standard_errors(model, SimulationSpec(model), pairs=4000)
    assert max(relative.values()) < 0.2, relative


def _relative_standard_errors(model_name, spec, pairs):
    """Cramér-Rao bounds from a random sample of pairs; contrast and offset of every angle are unknown."""
    model = build_model(model_name, q=spec.q, gap=spec.gap)
    theta = np.array([TRUTH[model_name][name] for name in model.parameter_names])
    free = [k for k, name in enumerate(model.parameter_names) if name != "f2"]
    i, j = np.sort(np.random.default_rng(0).integers(1, spec.frames, (2, pairs)), axis=0)
    i, j = spec.dt * i[i != j], spec.dt * j[i != j]
    share = 0.5 * (spec.frames - 1) * (spec.frames - 2) / i.size
    slopes = jax.jit(jax.jacfwd(model.shape))
    information = 0.0
    for phi in spec.angles_sorted:
        jacobian = np.asarray(slopes(theta, i, j, phi))[:, free]
        nuisance = np.stack([np.asarray(model.shape(theta, i, j, phi)), np.ones(i.size)], axis=1)
        jacobian = jacobian - nuisance @ np.linalg.lstsq(nuisance, jacobian, rcond=None)[0]
        information = information + share * jacobian.T @ jacobian * (spec.contrast / spec.noise.sd) ** 2
    scale = np.sqrt(np.diag(information))
    error = np.sqrt(np.diag(np.linalg.inv(information / np.outer(scale, scale)))) / scale
    return {model.parameter_names[k]: float(e / abs(theta[k])) for k, e in zip(free, error, strict=True)}
