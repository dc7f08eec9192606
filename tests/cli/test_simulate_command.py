"""`hpcxpcs simulate` as it is called."""

import json
import subprocess
import sys
from typing import get_args

import pytest
from click.testing import CliRunner

from hpcxpcs.cli import main
from hpcxpcs.cli.inspect import command as inspect_command
from hpcxpcs.cli.simulate import command
from hpcxpcs.config.sections import ExperimentalData
from hpcxpcs.data.formats import FORMATS, detect, open_file, read_truth

SMALL = ["--angles", "2", "--frames", "16"]


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_options_reach_the_file(tmp_path):
    path = tmp_path / "a.hdf"
    result = run(
        *(
            "laminar_flow",
            "-o",
            path,
            "--format",
            "cube",
            "--phi",
            "-30,0,45.5",
            "--frames",
            20,
            "--dt",
            0.05,
        ),
        *("--set", "D0=2e4", "--set", "phi0=3", "--contrast", 0.3, "--contrast-spread", 0, "--offset", 1.01),
        *("--offset-spread", 0, "--noise", 0.02, "--dead-frames", "3,17", "--extra-q", 1, "--seed", 5),
        *("--dtype", "float64", "--compression", "none", "--q", 0.01, "--gap", 1e6),
    )
    assert result.exit_code == 0, result.output
    truth = read_truth(path)
    assert truth["phi"] == [-30.0, 0.0, 45.5]
    assert (truth["parameters"]["D0"], truth["parameters"]["phi0"]) == (2e4, 3.0)
    assert (truth["contrast"], truth["offset"]) == ([0.3] * 3, [1.01] * 3)
    assert (truth["q"], truth["gap"], truth["dt"], truth["frames"]) == (0.01, 1e6, 0.05, 20)
    assert (truth["noise"], truth["dead_frames"], truth["seed"]) == ({"model": "iid", "sd": 0.02}, [3, 17], 5)
    with open_file(path) as layout:
        assert (layout.format, layout.dtype, layout.compression) == ("cube", "float64", "none")
        assert len(layout.bins) == 6


@pytest.mark.parametrize(
    ("options", "noise"),
    [
        (
            ["--noise-model", "frame", "--frame-noise", "0.01"],
            {"model": "frame", "sd": 0.01, "frame_sd": 0.01},
        ),
        (
            ["--noise-model", "photon", "--photons", "2", "--pixels", "500"],
            {"model": "photon", "photons": 2.0, "pixels": 500, "speckle_size": 0.0, "photon_drift": 0.0},
        ),
    ],
)
def test_every_noise_model_can_be_asked_for(options, noise, tmp_path):
    assert run("static", "-o", tmp_path / "a.hdf", *SMALL, *options).exit_code == 0
    assert read_truth(tmp_path / "a.hdf")["noise"] == noise


def test_given_a_layout_then_both_commands_and_the_configuration_know_it():
    offered = {
        name: next(item.type.choices for item in called.params if item.name.startswith("format"))
        for name, called in (("simulate", command), ("inspect", inspect_command))
    }
    configured = get_args(ExperimentalData.model_fields["format"].annotation)
    assert [list(names) for names in offered.values()] == [[*FORMATS, "frames"], ["auto", *FORMATS]]
    assert list(configured) == ["auto", *FORMATS]


@pytest.mark.parametrize("name", FORMATS)
def test_every_layout_can_be_asked_for(name, tmp_path):
    assert run("static", "-o", tmp_path / "a.hdf", *SMALL, "--format", name, "--missing-bins", 2).exit_code == 0
    assert detect(tmp_path / "a.hdf") == name
    assert len(read_truth(tmp_path / "a.hdf")["phi"]) == 1


def test_what_was_written_is_printed(tmp_path):
    result = run("static", "-o", tmp_path / "a.hdf", "--config", tmp_path / "a.yaml", *SMALL)
    written = [line.split()[1] for line in result.output.splitlines() if line.startswith("wrote")]
    assert written == [str(tmp_path / name) for name in ("a.hdf", "a.hdf.truth.json", "a.yaml")]
    assert json.loads((tmp_path / "a.hdf.truth.json").read_text())["model"] == "static"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "D0"], "NAME=NUMBER"),
        (["--set", "D0=fast"], "NAME=NUMBER"),
        (["--dead-frames", "3;4"], "list of integers"),
        (["--phi", "a,b"], "list of numbers"),
        (["--noise-model", "white"], "white"),
    ],
)
def test_a_malformed_option_is_refused_with_its_form(arguments, words, tmp_path):
    result = run("static", "-o", tmp_path / "a.hdf", *arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statik"], "did you mean 'static'"),
        (["static", "--set", "alhpa=1"], "did you mean 'alpha'"),
        (["static", "--set", "D0=-1"], "D0 = -1 must be positive"),
        (["static", "--frames", "4"], "at least 8"),
    ],
)
def test_an_impossible_request_ends_with_the_exit_code_of_a_wrong_configuration(arguments, words, tmp_path, capsys):
    assert main(["simulate", *arguments, "-o", str(tmp_path / "a.hdf")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [("a.npz", "nexus", "choose format cube"), ("a.npy", "cube", ".npy files are not"), ("a.mat", "cube", ".mat")],
)
def test_a_name_that_promises_another_kind_of_file_is_refused(name, layout, words, tmp_path, capsys):
    assert main(["simulate", "static", "--format", layout, "-o", str(tmp_path / name), *SMALL]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_second_run_overwrites_only_with_force(tmp_path, capsys):
    call = ["simulate", "static", "-o", str(tmp_path / "a.hdf"), *SMALL]
    assert main(call) == 0
    assert main(call) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*call, "--force"]) == 0


def test_help_needs_no_heavy_import():
    script = (
        "import sys\n"
        "from hpcxpcs.cli import main\n"
        "code = main(['simulate', '--help'])\n"
        "heavy = {'jax', 'numpy', 'h5py', 'pydantic', 'yaml', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout
