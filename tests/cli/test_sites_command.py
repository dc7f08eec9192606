"""`hpcxpcs config sites`: what there is, which one is meant here and why, and one of them in full."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcxpcs.cli import main
from hpcxpcs.cli.config import command
from hpcxpcs.config.site import shipped_folder

SHIPPED = sorted(path.stem for path in shipped_folder().glob("*.yaml"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without sites, on a machine without schedulers; the folder for sites."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for variable in ("HPCXPCS_SITE", "NERSC_HOST"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "hpcxpcs" / "sites"
    folder.mkdir(parents=True)
    return folder


def shown(*arguments: str) -> list[str]:
    result = CliRunner().invoke(command, ["sites", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_given_no_name_then_all_sites_and_the_one_meant_here():
    lines = shown()
    assert [line.split()[0] for line in lines[1 : 1 + len(SHIPPED)]] == SHIPPED
    assert lines[-1] == "here: laptop (no program of a scheduler is on PATH)"


def test_given_a_site_of_ones_own_then_it_is_listed_as_such_and_meant_when_recognised(home, monkeypatch):
    (home / "ours.yaml").write_text(
        "description: our cluster\nscheduler: torque\nenvironment: {CLUSTER: ours}\n", encoding="utf-8"
    )
    monkeypatch.setenv("CLUSTER", "ours")
    lines = shown()
    assert any(line.split() == ["ours", "torque", "-", "yours", "our", "cluster"] for line in lines)
    assert lines[-1] == "here: ours (recognised by CLUSTER=ours)"


def test_given_the_variable_then_it_is_why(monkeypatch):
    monkeypatch.setenv("HPCXPCS_SITE", "lcrc-bebop")
    assert shown()[-1] == "here: lcrc-bebop (asked for by HPCXPCS_SITE=lcrc-bebop)"


def test_given_a_name_then_queues_limits_launcher_and_sources():
    lines = shown("alcf-polaris")
    assert "account    required" in lines
    assert "node       cpu: 32 cores, 2 threads each, 4 NUMA nodes, 512 GiB" in lines
    assert any(line.startswith("launcher") and "{ranks_per_node}" in line for line in lines)
    assert any(line.startswith("source") and "https://docs.alcf.anl.gov" in line for line in lines)
    (prod,) = [line for line in lines if line.startswith("prod ")]
    assert prod.split()[1:4] == ["cpu", "10-496", "24:00:00"]
    assert "3:00:00 up to 24 nodes" in prod
    (usual,) = [line for line in lines if "usual" in line]
    assert usual.startswith("preemptable ")


@pytest.mark.parametrize("name", SHIPPED)
def test_given_any_shipped_site_then_it_can_be_shown(name):
    assert shown(name)[0].startswith(f"site       {name}: ")


def test_given_a_file_then_it_is_shown_too(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(
        "extends: lcrc-improv\ndescription: ours\naccount: {default: xpcs}\nqueues: {debug: {array: false}}\n",
        encoding="utf-8",
    )
    lines = shown(str(path))
    assert f"file       {path}" in lines
    assert "account    xpcs unless another is named" in lines
    assert any(line.startswith("debug ") and "no arrays" in line for line in lines)


def test_given_a_misspelt_name_then_the_nearest_on_stderr_and_exit_code_2(capsys):
    assert main(["config", "sites", "nersc-permutter"]) == 2
    assert "did you mean 'nersc-perlmutter'?" in capsys.readouterr().err


def test_help_shows_an_example():
    assert "hpcxpcs config sites" in "\n".join(shown("--help")).split("Examples:")[1]
