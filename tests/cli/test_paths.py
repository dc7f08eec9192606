"""Paths that are not what they seem: pipes, devices, links and odd names never hang a command or cost a file."""

import os
from pathlib import Path

import pytest

from hpcxpcs.cli import main
from hpcxpcs.config import load_config
from hpcxpcs.errors import OutputError, StoreError
from hpcxpcs.pipeline.settings import run_folder
from hpcxpcs.runs.run import PLAN_FILE, Run, discard
from tests.cli.fitting import QUICK, fit, simulated
from tests.cli.spoiled import refused
from tests.runs.store import sample_plan


def test_data_that_are_a_pipe_are_refused_without_waiting_for_a_writer(copy, tmp_path, capfd):
    data = copy.with_suffix(".hdf")
    data.unlink()
    os.mkfifo(data)
    refused(fit(capfd, copy, tmp_path / "run", *QUICK), 1, f"{data}: is a named pipe")
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_is_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path, capfd):
    os.mkfifo(tmp_path / "c.yaml")
    refused(fit(capfd, tmp_path / "c.yaml", tmp_path / "run"), 2, "c.yaml: is a named pipe")


def test_a_configuration_that_never_ends_is_refused(tmp_path, capfd):
    refused(fit(capfd, Path("/dev/zero"), tmp_path / "run"), 2, "/dev/zero", "more than 10,000,000 bytes")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('output.directory="a\\nb"', r"output.directory"),
        ('output.directory="\\0"', "does not belong in a path"),
        (f"output.directory={'x' * 300}", "too long"),
        ("output.directory=~nobody-of-this-name/runs", "does not know"),
        (f"experimental_data.file_path={'y' * 300}.h5", "too long"),
        ('runtime.compilation_cache_dir="\\e[1m"', "compilation_cache_dir"),
    ],
)
def test_a_setting_that_is_no_path_is_named_before_any_work(setting, words, config, tmp_path, capfd):
    refused(fit(capfd, config, tmp_path / "run", setting), 2, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["...yaml", "..yaml", "-rf.yaml", "a\nb.yaml"])
def test_the_run_of_an_oddly_named_configuration_stays_inside_of_the_output_folder(name, config, tmp_path):
    odd = tmp_path / name
    odd.write_text(config.read_text())
    folder = run_folder(load_config(odd, [f"output.directory={tmp_path}/runs"]))
    assert folder.resolve().parent == tmp_path / "runs"
    assert folder.name.isprintable() and not folder.name.startswith(("-", "."))


def test_results_are_not_written_through_a_link(config, tmp_path, capfd):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results").symlink_to(tmp_path / "precious")
    outcome = fit(capfd, config, tmp_path / "run", *QUICK)
    refused(outcome, 1, f"{tmp_path}/run/results: is a link to", "run folder")
    assert (tmp_path / "precious" / "thesis").exists() and "reading" not in outcome.err


def test_a_run_folder_on_scratch_is_used_through_its_link(config, tmp_path, capfd):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    assert (tmp_path / "scratch" / "results" / "summary.json").is_file()


def test_a_fresh_start_removes_nothing_where_there_is_no_run(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "measured.hdf").touch()
    discard(tmp_path)
    with pytest.raises(StoreError, match=r"data: holds files \(measured\.hdf\)"):
        Run.create(tmp_path, sample_plan())
    assert (tmp_path / "data" / "measured.hdf").exists() and not (tmp_path / PLAN_FILE).exists()


def test_a_fresh_start_removes_nothing_through_a_link(tmp_path):
    Run.create(tmp_path / "run", sample_plan())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "measured.hdf").touch()
    (tmp_path / "run" / "data").rmdir()
    (tmp_path / "run" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"data: is a link to .*elsewhere"):
        discard(tmp_path / "run")
    assert (tmp_path / "elsewhere" / "measured.hdf").exists()
    assert (tmp_path / "run" / PLAN_FILE).exists()


def test_a_plan_that_is_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / PLAN_FILE)
    assert main(["status", str(tmp_path / "run")]) == 1
    assert "is a named pipe" in capsys.readouterr().err


def test_simulated_data_go_where_a_link_leads_and_never_replace_a_device(tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.hdf").symlink_to(tmp_path / "disk" / "a.hdf")
    simulated(tmp_path, "static", frames=20, name="a")
    assert (tmp_path / "a.hdf").is_symlink() and (tmp_path / "disk" / "a.hdf").is_file()
    small = ["--angles", "1", "--frames", "16", "--force"]
    assert main(["simulate", "static", "-o", "/dev/null", *small]) == 1
    assert "/dev/null: is a device" in capsys.readouterr().err
    assert Path("/dev/null").is_char_device()
