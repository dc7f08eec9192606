"""What an install contains, needs and offers."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hpcxpcs
from hpcxpcs.workers.checks import MINIMUM_PYTHON

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel as users get it, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_given_a_dependency_then_it_has_a_range_and_a_reason(line):
    operators = {specifier.operator for specifier in Requirement(line).specifier}
    assert operators == {">=", "<"}
    assert re.search(rf'"{re.escape(line)}",\s+# \w.{{9,}}', TEXT), "a comment behind it says why"


def test_given_nlsq_then_versions_that_install_a_desktop_are_out():
    (nlsq,) = [Requirement(line) for line in PROJECT["dependencies"] if line.startswith("nlsq")]
    assert nlsq.specifier.contains("0.6.9")
    assert not nlsq.specifier.contains("0.6.10")


def test_given_the_parts_of_arviz_then_their_ranges_agree():
    ranges = {str(Requirement(line).specifier) for line in PROJECT["dependencies"] if line.startswith("arviz")}
    assert len(ranges) == 1


def test_given_the_lowest_python_then_pyproject_and_doctor_agree():
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, MINIMUM_PYTHON))
    assert (ROOT / ".python-version").read_text().strip() == ".".join(map(str, MINIMUM_PYTHON))


def test_given_the_wheel_then_it_holds_every_file_of_the_package_and_nothing_else(wheel):
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hpcxpcs").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    sites = {f"hpcxpcs/site_configs/{path.name}" for path in (ROOT / "site_configs").iterdir()}
    assert packed == there | sites
    assert "hpcxpcs/py.typed" in packed
    assert "hpcxpcs/results/templates/report.html.j2" in packed


def test_given_the_wheel_unpacked_elsewhere_then_it_finds_the_sites_that_it_carries(wheel, tmp_path):
    wheel.extractall(tmp_path)
    program = "from hpcxpcs.config.site import find_site; site = find_site('laptop').site; print(site.source)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(found.strip()) == tmp_path / "hpcxpcs" / "site_configs" / "laptop.yaml"


def test_given_the_wheel_then_its_version_is_that_of_the_package(wheel):
    assert f"hpcxpcs-{hpcxpcs.__version__}-" in str(wheel.filename)


def test_given_the_wheel_then_its_command_is_hpcxpcs(wheel):
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "hpcxpcs = hpcxpcs.cli:main" in wheel.read(entry).decode()


def test_given_the_wheel_then_the_license_is_in_it(wheel):
    assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]


@pytest.mark.parametrize("verb", ["demo", "test", "lint", "types", "bench", "clean"])
def test_given_make_without_a_verb_then_it_lists_them(verb):
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.search(rf"^make {verb} +\w", listed, flags=re.MULTILINE)


def test_given_continuous_integration_then_it_runs_what_everyone_runs():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
