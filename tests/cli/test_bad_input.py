"""Bad input: one clear error and nothing half-written."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli.fitting import QUICK, content, fit, parameters, simulated
from tests.cli.spoiled import FRAME_TIME, MATRICES, SECOND, N, changed, pairs_at, refused, with_sigma

CONFIGURATIONS = {
    "an unknown key": ("analysis_mod=static", "analysis_mod", "did you mean 'analysis_mode'"),
    "an unknown key deep inside": ("optimization.nlsq.multistart=3", "did you mean 'multi_start'"),
    "a word for a number": (
        "optimization.nlsq.multi_start=many",
        "multi_start",
        '"many" is not a whole number',
    ),
    "a number for a switch": ("output.plots=3", "output.plots", "3"),
    "a word for a switch": ("output.plots=perhaps", "output.plots", "perhaps"),
    "a list for a section": ("scaling=[1, 2]", "scaling"),
    "an unknown mode": ("scaling.mode=fourrier", "scaling.mode", "fourrier", "fourier"),
    "an unknown model": ("analysis_mode=statik", "analysis_mode", "statik", "did you mean 'static'"),
    "a method that does not exist": ("optimization.method=mcmc", "optimization.method", '"mcmc"', "nlsq"),
    "σ of zero": ("noise.sigma=0", "noise.sigma", "greater than 0"),
    "a negative σ": ("noise.sigma=-0.01", "noise.sigma", "-0.01", "greater than 0"),
    "a σ that is not a number": ("noise.sigma=.nan", "noise.sigma"),
    "a σ path without a slash": ("noise.sigma=sigma", "noise.sigma", "sigma", "dataset path"),
    "a negative q": ("analyzer_parameters.scattering.wavevector_q=-0.0054", "wavevector_q", "greater than 0"),
    "a gap in mm": ("analyzer_parameters.geometry.stator_rotor_gap=0.2", "stator_rotor_gap", "0.2", "Å"),
    "a negative time step": ("analyzer_parameters.dt=-1", "analyzer_parameters.dt", "-1"),
    "frame 0": ("analyzer_parameters.start_frame=0", "start_frame", "0"),
    "no angle range": ("data_filtering.phi_ranges=[]", "phi_ranges", "selects no angle"),
    "every parameter held": (
        "initial_parameters.fixed_parameters={D0: 12000, alpha: -0.4, D_offset: 500}",
        *("fixed_parameters", "nothing to fit"),
    ),
    "a parameter that the model lacks": ("initial_parameters.fixed_parameters={phi0: 3}", "phi0"),
    "a start outside its bounds": (
        "initial_parameters={parameter_names: [D0, alpha, D_offset], values: [1e4, 5, 0]}",
        *("initial_parameters.values[1]", "5", "bounds -2 ... 2 of alpha"),
    ),
    "bounds the wrong way round": ("parameter_space.bounds=[{name: D0, min: 5000, max: 100}]", "D0", "5000"),
}


@pytest.mark.parametrize("mistake", CONFIGURATIONS)
def test_a_mistake_in_the_configuration_is_named_with_its_remedy_and_ends_with_exit_code_2(
    mistake, config, tmp_path, capfd
):
    override, *words = CONFIGURATIONS[mistake]
    refused(fit(capfd, config, tmp_path / "run", override), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_file_is_named_with_file_and_line(copy, tmp_path, capfd):
    copy.write_text(copy.read_text() + "noise: {sigmaa: 0.1}\n")
    line = len(copy.read_text().splitlines())
    refused(fit(capfd, copy, tmp_path / "run"), 2, f"{copy}:{line}: noise.sigmaa", "did you mean 'sigma'")


def test_all_mistakes_are_told_at_once(config, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", "noise.sigma=-1", "scaling.mode=none", "output.plots=7")
    refused(outcome, 2, "noise.sigma", "scaling.mode", "output.plots")


def test_a_method_that_does_not_exist_is_a_wrong_option(config, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", options=("--method", "mcmc"))
    assert outcome.code == 2 and "'mcmc' is not" in outcome.err and "nlsq" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe"), "is an HDF5 data file"),
        (lambda path: path.write_text("analysis_mode: [static"), "1"),
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_text("static"), "holds a single value"),
    ],
    ids=["missing", "a folder", "binary", "broken YAML", "empty", "a single word"],
)
def test_a_configuration_that_cannot_be_read_is_named(make, words, tmp_path, capfd):
    make(tmp_path / "c.yaml")
    refused(fit(capfd, tmp_path / "c.yaml", tmp_path / "run"), 2, str(tmp_path / "c.yaml"), words)
    assert not (tmp_path / "run").exists()


SELECTIONS = {
    "a q that is not there": (
        "analyzer_parameters.scattering.wavevector_q=0.02",
        "0.02",
        "available: 0.0054",
    ),
    "a q in nm⁻¹": ("analyzer_parameters.scattering.wavevector_q=0.054", "0.054", "nm⁻¹", "Å⁻¹ are needed"),
    "angles that are not there": (
        "data_filtering.phi_range={min: 20, max: 30}",
        *("20…30", "available: -120, 0, 120"),
    ),
    "an end beyond the last frame": ("analyzer_parameters.end_frame=4000", "end_frame 4000", "40"),
    "a start beyond the last frame": ("analyzer_parameters.start_frame=41", "start_frame 41", "1…40"),
    "a window of five frames": ("analyzer_parameters.end_frame=5", "8 are needed", "widen", "end_frame"),
    "dead frames beyond the last": ("data_filtering.dead_frames=[5, 170]", "dead_frames", "170", "1…40"),
    "too many dead frames": (
        f"data_filtering.dead_frames={list(range(1, 36))}",
        *("only 5 usable frames of 40", "phi_ranges"),
    ),
    "a layout that it is not": ("experimental_data.format=legacy", "legacy", "C2T_all"),
    "a σ dataset that is not there": ("noise.sigma=/sigmas/c2", "noise.sigma", "no dataset /sigmas/c2"),
}


@pytest.mark.parametrize("mistake", SELECTIONS)
def test_what_is_not_in_the_file_is_told_with_what_is_and_ends_with_exit_code_1(mistake, config, tmp_path, capfd):
    override, *words = SELECTIONS[mistake]
    refused(fit(capfd, config, tmp_path / "run", override), 1, str(config.with_suffix(".hdf")), *words)
    assert list(tmp_path.iterdir()) == []


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.unlink()
    h5py.File(path, "w").close()


def unknown_layout(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["measured/intensity"] = np.ones((3, 4))


def g2_only(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["xpcs/multitau/normalized_g2"] = np.ones((3, 4))


def without_dt(path):
    with h5py.File(path, "r+") as file:
        del file[FRAME_TIME]


def with_zero_dt(path):
    with h5py.File(path, "r+") as file:
        file[FRAME_TIME][...] = 0.0


def without_qmap(path):
    with h5py.File(path, "r+") as file:
        del file["xpcs/qmap"]


def without_a_matrix(path):
    with h5py.File(path, "r+") as file:
        del file[MATRICES[1]]


DAMAGES = {
    "truncated": (truncate, "truncated"),
    "of 0 bytes": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("q phi c2\n"), "neither an HDF5 nor an NPZ file"),
    "missing": (lambda path: path.unlink(), "no such file", "experimental_data.file_path"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    "empty HDF5": (emptied, "no known two-time layout", "nexus", "legacy", "cube"),
    "of an unknown layout": (unknown_layout, "no known two-time layout", "/measured/intensity (3, 4)"),
    "a g2 result": (g2_only, "holds no two-time matrices"),
    "without q-map": (without_qmap, "/xpcs/qmap/dynamic_v_list_dim0 is missing"),
    "lacking one matrix": (without_a_matrix, " is missing", "which bins these are is not guessed"),
    "without time step": (without_dt, "time step", "analyzer_parameters.dt"),
    "with time step 0": (with_zero_dt, "time step", "analyzer_parameters.dt"),
    "with a NaN": (changed(pairs_at(np.nan, (3, 9)), SECOND), "phi = 0", "(4, 10)", "non_finite: mask"),
    "with an infinity": (changed(pairs_at(np.inf, (3, 9)), SECOND), "phi = 0", "(4, 10)", "non_finite: mask"),
    "all NaN": (changed(lambda c2, k: c2 * np.nan), "holds a number other than 0", "data_filtering.phi_ranges"),
    "constant at one angle": (
        changed(lambda c2, k: np.full((N, N), 1.2), SECOND),
        "phi = 0",
        "constant (1.2",
    ),
    "all zeros": (changed(lambda c2, k: np.zeros((N, N))), "holds a number other than 0", "data_filtering.phi_ranges"),
    "of three frames": (changed(lambda c2, k: c2[:3, :3]), "8 are needed", "the file has no more"),
    "smaller at one angle": (changed(lambda c2, k: c2[:30, :30], SECOND), "phi = 0", "(30, 30)", "(40, 40)"),
    "not square": (changed(lambda c2, k: c2[:30]), "(30, 40)", "(40, 40)"),
    "of vectors": (changed(lambda c2, k: c2[0]), "/xpcs/twotime/correlation_map/c2_00001", "(40,)"),
    "of stacks": (changed(lambda c2, k: c2.reshape(1, N, N)), "(1, 40, 40)"),
    "complex": (changed(lambda c2, k: c2 + 0j), "complex128", "real numbers"),
    "of texts": (changed(lambda c2, k: np.full((N, N), b"1.2")), "real numbers"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_is_wrong_and_ends_with_exit_code_1(damage, copy, tmp_path, capfd):
    inflict, *words = DAMAGES[damage]
    inflict(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", "analyzer_parameters.dt=auto")
    refused(outcome, 1, str(copy.with_suffix(".hdf")), *words)
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix != ".hdf") == [".yaml"]


@pytest.mark.parametrize(
    ("sigma", "words"),
    [
        (np.zeros((N, N)), "positive"),
        (np.full((N, N), -0.01), "positive"),
        (np.full((N, N), np.nan), "finite"),
        (np.full((N, N), 0.01j), "complex128"),
        (np.full((30, 30), 0.01), "(30, 30)"),
        (b"0.01", "numbers are needed"),
        (0.0, "positive"),
    ],
    ids=["zeros", "negative", "NaN", "complex", "of another size", "a text", "zero"],
)
def test_a_sigma_dataset_that_cannot_be_one_is_refused(sigma, words, copy, tmp_path, capfd):
    with_sigma(sigma)(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", "noise.sigma=/sigma")
    refused(outcome, 1, str(copy.with_suffix(".hdf")), "sigma", words)
    assert not (tmp_path / "run").exists()


def test_the_shear_of_one_angle_is_refused_unless_its_direction_is_known(tmp_path, capfd):
    config = simulated(tmp_path, "laminar_flow", frames=60)
    one = "data_filtering.phi_range={min: -5, max: 5}"
    refused(fit(capfd, config, tmp_path / "run", one), 1, "one angle", "phi = 0", "phi0", "fixed_parameters")
    assert not (tmp_path / "run").exists()
    known = "initial_parameters.fixed_parameters={phi0: -4, D_offset: 500, gamma_dot_t_offset: 1e-4}"
    outcome = fit(capfd, config, tmp_path / "run", one, known, *QUICK)
    assert outcome.code == 0, outcome.out
    found = parameters(tmp_path / "run")
    for name, truth in {"D0": 1.2e4, "alpha": -0.4, "gamma_dot_t0": 9e-4, "beta": -0.3}.items():
        assert abs(found[name]["value"] - truth) < 4 * found[name]["uncertainty"]
    assert found["phi0"]["fixed"] and found["phi0"]["value"] == -4 and found["phi0"]["uncertainty"] is None


@pytest.mark.parametrize("part", ["run", "run/results", "run/deeper"])
def test_a_file_in_place_of_the_run_folder_is_told_before_any_work(part, config, tmp_path, capfd):
    run = tmp_path / "run"
    blocker = run if part != "run/results" else run / "results"
    blocker.parent.mkdir(exist_ok=True)
    blocker.write_text("precious")
    outcome = fit(capfd, config, tmp_path / part if part == "run/deeper" else run, *QUICK)
    refused(outcome, 1, str(run), "cannot be written")
    assert "reading" not in outcome.err
    assert blocker.read_text() == "precious"


def test_a_run_folder_without_permission_is_told_before_any_work(config, tmp_path, capfd, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    allowed = os.access
    monkeypatch.setattr(
        "hpcxpcs.files.atomic.os.access", lambda path, mode: Path(path) != locked and allowed(path, mode)
    )
    outcome = fit(capfd, config, locked / "run", *QUICK)
    refused(outcome, 1, str(locked / "run"), "no permission to write there")
    assert "reading" not in outcome.err and list(locked.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "with a NaN", "of vectors", "constant at one angle"])
def test_results_of_an_earlier_run_survive_a_damaged_file(damage, copy, tmp_path, capfd):
    run = tmp_path / "run"
    assert fit(capfd, copy, run, *QUICK).code == 0
    before = content(run)
    DAMAGES[damage][0](copy.with_suffix(".hdf"))
    assert fit(capfd, copy, run, *QUICK).code == 1
    assert content(run) == before
