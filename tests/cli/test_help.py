"""Help is quick to load, complete, and shows examples; errors are one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from hpcxpcs import __version__, cli
from hpcxpcs.errors import ConfigError, DataError

HEAVY = {
    "jax",
    "numpy",
    "h5py",
    "pydantic",
    "matplotlib",
    "yaml",
    "rich",
    "numpyro",
    "arviz",
    "scipy",
    "mpi4py",
}
NAMES = list(cli.COMMANDS)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def imported_top_levels(importtime: str) -> set[str]:
    lines = [line.rsplit("|", 1)[1].strip() for line in importtime.splitlines() if "|" in line]
    return {line.split(".")[0] for line in lines}


def program_that(action) -> cli.LazyGroup:
    """A group with one command, `go`, that does what the test wants."""
    group = cli.LazyGroup(name="hpcxpcs", entries={})
    command = click.Command("go", callback=action)
    group.get_command = lambda context, name: command  # type: ignore[method-assign]
    return group


@pytest.fixture
def act(monkeypatch):
    def run_main(action) -> int:
        monkeypatch.setattr(cli, "program", program_that(action))
        return cli.main(["go"])

    return run_main


def test_given_help_when_imports_are_traced_then_none_is_heavy():
    child = run("-X", "importtime", "-m", "hpcxpcs", "--help")
    assert child.returncode == 0
    imported = imported_top_levels(child.stderr)
    assert {"click", "hpcxpcs"} <= imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("name", NAMES)
def test_given_a_command_when_its_help_is_shown_then_no_heavy_import_happens(name):
    child = run("-X", "importtime", "-m", "hpcxpcs", name, "--help")
    assert child.returncode == 0, child.stderr.splitlines()[-1]
    assert imported_top_levels(child.stderr) & HEAVY == set()


@pytest.mark.parametrize("name", NAMES)
def test_given_a_command_then_its_help_has_examples_on_lines_of_their_own(name):
    command = cli.COMMANDS[name].load()
    shown = CliRunner().invoke(command, ["--help"], prog_name=f"hpcxpcs {name}").output
    examples = shown.partition("Examples:")[2]
    assert any(line.strip().startswith(f"hpcxpcs {name}") for line in examples.splitlines()), shown


@pytest.mark.parametrize("name", NAMES)
def test_given_a_command_then_each_of_its_options_is_explained(name):
    command = cli.COMMANDS[name].load()
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    options = [p for c in commands for p in c.params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_when_help_is_asked_then_every_command_is_listed_with_its_summary():
    shown = CliRunner().invoke(cli.program, ["--help"]).output
    for name, entry in cli.COMMANDS.items():
        assert f"  {name}" in shown
        assert entry.summary in shown


def test_when_version_is_asked_then_it_is_that_of_the_package():
    assert CliRunner().invoke(cli.program, ["--version"]).output == f"hpcxpcs {__version__}\n"


def test_given_a_misspelt_command_then_the_nearest_is_suggested_and_the_exit_code_is_2(capsys):
    assert cli.main(["fti"]) == 2
    assert "did you mean 'fit'?" in capsys.readouterr().err


def test_given_an_unknown_command_then_all_are_listed(capsys):
    assert cli.main(["zzz"]) == 2
    assert "fit, simulate" in capsys.readouterr().err


def test_given_an_unknown_option_then_the_exit_code_is_2(capsys):
    assert cli.main(["--frobnicate"]) == 2
    assert "--frobnicate" in capsys.readouterr().err


def test_given_no_command_then_help_is_shown(capsys):
    cli.main([])
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


@pytest.mark.parametrize(("error", "code"), [(ConfigError, 2), (DataError, 1)])
def test_given_an_error_for_the_user_then_it_is_printed_on_stderr_with_its_exit_code(error, code, act, capsys):
    def fail():
        raise error("data.hdf: no such file")

    assert act(fail) == code
    assert capsys.readouterr().err == "hpcxpcs: error: data.hdf: no such file\n"


def test_given_an_interrupt_then_the_exit_code_is_130(act, capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert act(interrupt) == 130
    assert "interrupted" in capsys.readouterr().err


def test_given_a_command_that_returns_a_number_then_it_is_the_exit_code(act):
    assert act(lambda: 3) == 3


def test_given_a_command_that_exits_with_a_code_then_it_is_the_exit_code(act):
    assert act(lambda: click.get_current_context().exit(75)) == 75


def test_given_a_programming_mistake_then_it_is_not_hidden(act):
    def mistake():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act(mistake)


def test_given_a_reader_that_leaves_then_no_traceback_is_printed():
    reading, writing = os.pipe()
    os.close(reading)
    child = subprocess.run(
        [sys.executable, "-m", "hpcxpcs", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (child.returncode, child.stderr) == (1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_given_a_shell_then_its_completion_script_is_printed(shell):
    child = run("-m", "hpcxpcs", _HPCXPCS_COMPLETE=f"{shell}_source")
    assert child.returncode == 0, child.stderr
    assert "_HPCXPCS_COMPLETE" in child.stdout


def test_given_the_start_of_a_command_then_it_is_completed_without_importing_it():
    child = run(
        "-X", "importtime", "-m", "hpcxpcs",
        _HPCXPCS_COMPLETE="zsh_complete", COMP_WORDS="hpcxpcs do", COMP_CWORD="1",
    )  # fmt: skip
    assert child.stdout.split() == ["plain", "doctor", *cli.COMMANDS["doctor"].summary.split()]
    assert "hpcxpcs.cli.doctor" not in child.stderr


def test_given_any_command_then_linear_algebra_that_is_loaded_later_has_one_thread():
    program = "import os\nfrom hpcxpcs.cli import main\nmain(['--version'])\nprint(os.environ['OPENBLAS_NUM_THREADS'])"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "4"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split()[-1] == "1"
