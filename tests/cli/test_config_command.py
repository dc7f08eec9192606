"""`hpcxpcs config new | check | schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcxpcs.cli import main
from hpcxpcs.cli.config import command
from hpcxpcs.config import MODEL_NAMES, json_schema, load_config, template
from hpcxpcs.errors import ConfigError, OutputError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    assert run("new", "laminar_flow", "-o", str(path)).exit_code == 0
    return path


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_a_model_when_new_then_its_template_is_printed(model: str) -> None:
    result = run("new", model)
    assert result.exit_code == 0
    assert result.stdout == template(model)


def test_given_a_file_name_when_new_then_file_and_schema_are_written_and_usable(config: Path) -> None:
    assert load_config(config).analysis_mode == "laminar_flow"
    beside = config.with_name("hpcxpcs.schema.json")
    assert json.loads(beside.read_text(encoding="utf-8")) == json_schema()


def test_given_an_existing_file_when_new_then_kept_unless_forced(config: Path) -> None:
    result = run("new", "static", "-o", str(config))
    assert isinstance(result.exception, ConfigError)
    assert "--force" in str(result.exception)
    assert load_config(config).analysis_mode == "laminar_flow"
    assert run("new", "static", "-o", str(config), "--force").exit_code == 0
    assert load_config(config).analysis_mode == "static"


def test_given_a_folder_that_does_not_exist_when_new_then_an_error_names_it(tmp_path: Path) -> None:
    result = run("new", "static", "-o", str(tmp_path / "absent" / "c.yaml"))
    assert isinstance(result.exception, OutputError)
    assert "absent" in str(result.exception)


def test_given_an_unknown_model_when_new_then_a_suggestion() -> None:
    result = run("new", "two_componant")
    assert isinstance(result.exception, ConfigError)
    assert "did you mean 'two_component'?" in str(result.exception)


def test_given_a_good_config_when_checked_then_what_it_resolves_to(config: Path) -> None:
    result = run("check", str(config), "--set", "initial_parameters.fixed_parameters.phi0=0.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert f"file         {config.parent / 'data' / 'experiment_results.hdf'}   (not there)" in lines
    assert "q            0.0054 1/Å   (nearest bin within 10 %)" in lines
    assert "frames       1 ... last   (dt from the file)" in lines
    table = lines[lines.index("") + 1 :][:8]
    assert table[0].split() == ["parameter", "start", "bounds", "prior", "unit"]
    assert [line.split()[0] for line in table[1:]] == (
        ["D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0"]
    )
    assert table[7].split() == ["phi0", "0.5", "fixed", "-", "degree"]
    column = table[0].index("bounds")
    assert all(line[column - 1] == " " and line[column] != " " for line in table)


def test_given_a_present_data_file_when_checked_then_not_called_absent(config: Path) -> None:
    data = config.parent / "data" / "experiment_results.hdf"
    data.parent.mkdir()
    data.touch()
    assert "not there" not in run("check", str(config)).stdout


def test_given_frames_and_dt_when_checked_then_shown(config: Path) -> None:
    result = run(
        "check",
        str(config),
        "--set",
        "analyzer_parameters.dt=1e-3",
        "--set",
        "analyzer_parameters.end_frame=9",
    )
    assert "frames       1 ... 9   (dt 0.001 s)" in result.stdout


def test_given_mistakes_when_checked_then_all_are_on_stderr_and_the_exit_code_is_2(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text(encoding="utf-8").replace("mode: auto", "mode: atuo").replace("seed:", "sede:")
    config.write_text(text, encoding="utf-8")
    assert main(["config", "check", str(config)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("hpcxpcs: error: 4 problems in ")
    assert "did you mean 'auto'?" in printed.err
    assert "did you mean 'seed'?" in printed.err


def test_schema_prints_the_json_schema() -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()


@pytest.mark.parametrize("arguments", [["--help"], ["new", "--help"], ["check", "--help"], ["schema", "--help"]])
def test_every_help_shows_an_example(arguments: list[str]) -> None:
    assert "hpcxpcs config" in run(*arguments).stdout.split("Example")[1]
