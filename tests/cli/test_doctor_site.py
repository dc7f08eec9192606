"""`hpcxpcs doctor --site`: the findings of the site come after the others, which are left out here to be quick."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hpcxpcs.cli import main
from hpcxpcs.cli.doctor import command
from hpcxpcs.workers import checks, site_checks
from hpcxpcs.workers.checks import Check

LAUNCHED = ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "PALS_SIZE", "SLURM_STEP_NUM_TASKS", "PBS_JOBID")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without schedulers, a user without sites, no job, and an installation that is well."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for variable in ("HPCXPCS_SITE", "NERSC_HOST", "SLURM_JOB_ID", *LAUNCHED):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(site_checks, "check_take_over", partial(site_checks.check_take_over, lease=0.1))
    monkeypatch.setattr(checks, "examine", lambda folder: iter([Check("python", "ok", "3.12")]))


def doctor(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--dir", str(folder), *arguments])


def test_given_site_without_a_name_then_the_recognised_one_is_examined(tmp_path):
    result = doctor(tmp_path, "--site")
    assert result.exit_code == 0, result.output
    names = [line.split()[1] for line in result.output.splitlines() if not line.startswith(" ")]
    assert names[:2] == ["python", "site"]
    assert "laptop (no program of a scheduler is on PATH)" in result.output
    assert {"ranks", "binding", "save", "take-over"} <= set(names)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_given_site_before_another_option_then_it_has_no_name(tmp_path):
    result = CliRunner().invoke(command, ["--site", "--dir", str(tmp_path)])
    assert "laptop (no program" in result.output


def test_given_a_name_then_that_site_is_examined_and_a_missing_scheduler_fails(tmp_path):
    result = doctor(tmp_path, "--site", "alcf-polaris")
    assert result.exit_code == 1
    assert "alcf-polaris (asked for by --site)" in result.output
    assert "fail  scheduler      not on PATH: qsub, qstat, qdel" in result.output


def test_given_json_then_the_findings_of_the_site_are_in_the_same_list(tmp_path):
    report = json.loads(doctor(tmp_path, "--site", "laptop", "--json").output)
    assert report["checks"][0]["name"] == "python"
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert found["save"] == found["take-over"] == "ok"


def test_given_no_site_then_nothing_of_it_is_looked_at(tmp_path):
    assert doctor(tmp_path).output.splitlines() == ["ok    python         3.12"]


def test_given_a_misspelt_site_then_exit_code_2_and_the_nearest(tmp_path, capsys):
    assert main(["doctor", "--site", "nersc-permutter", "--dir", str(tmp_path)]) == 2
    assert "did you mean 'nersc-perlmutter'?" in capsys.readouterr().err
