"""The doctor: each check in health and in sickness, and the command as a user sees it."""

from __future__ import annotations

import errno
import fcntl
import json
import tempfile

import pytest
from click.testing import CliRunner

from hpcxpcs.cli.doctor import command
from hpcxpcs.workers import checks
from hpcxpcs.workers.checks import Check, Probe
from hpcxpcs.workers.machine import Memory

GIB = 1024**3


def judge(findings) -> dict[str, str]:
    return {finding.found: finding.status for finding in findings}


def test_given_an_old_python_then_it_fails_and_names_the_one_needed():
    finding = checks.check_python((3, 11, 9))
    assert finding.status == "fail"
    assert "3.12" in finding.remedy


def test_given_a_newer_python_then_it_is_ok():
    assert checks.check_python((3, 14, 0)).status == "ok"


def test_given_packages_inside_their_ranges_then_one_line_says_so():
    findings = list(
        checks.check_packages(["jax<0.13,>=0.12", "numpy>=2.2"], lambda name: "0.12.5" if name == "jax" else "2.5.0")
    )
    assert judge(findings) == {"2 packages within their ranges": "ok"}


def test_given_a_package_outside_its_range_then_it_fails_with_the_pip_command():
    (finding,) = checks.check_packages(["arviz<1.4,>=1.3"], lambda name: "0.23.4")
    assert (finding.status, finding.found) == ("fail", "arviz 0.23.4")
    assert finding.remedy == "pip install 'arviz<1.4,>=1.3'"


def test_given_a_missing_package_then_it_fails():
    (finding,) = checks.check_packages(["arviz<1.4"], lambda name: None)
    assert (finding.status, finding.found) == ("fail", "arviz is missing")


def test_given_a_package_of_an_extra_then_it_may_be_missing():
    (finding,) = checks.check_packages(['mpich>=5; extra == "mpi"'], lambda name: None)
    assert finding.status == "ok"


def test_given_a_bare_source_folder_then_the_ranges_are_unknown():
    (finding,) = checks.check_packages(None, lambda name: "1.0")
    assert finding.status == "warn"


def test_given_little_free_memory_then_it_warns_with_numbers():
    finding = checks.check_memory(Memory(2 * GIB, GIB // 2, "cgroup limit"))
    assert finding.status == "warn"
    assert "0.5 GiB free of 2.0 GiB" in finding.found


def test_given_a_gibibyte_free_then_memory_is_ok():
    assert checks.check_memory(Memory(2 * GIB, GIB, "installed memory")).status == "ok"


@pytest.mark.parametrize(("quota", "status"), [(None, "ok"), (8.0, "ok"), (1.5, "warn")])
def test_given_eight_cores_then_a_tighter_quota_warns(quota, status):
    assert checks.check_cores(8, quota).status == status


def test_given_a_writable_folder_then_locking_is_ok_and_nothing_stays_behind(tmp_path):
    assert checks.check_locking(tmp_path).status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_given_a_file_system_without_locks_then_the_variable_is_named(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    finding = checks.check_locking(tmp_path)
    assert finding.status == "warn"
    assert "HDF5_USE_FILE_LOCKING=FALSE" in finding.remedy


def test_given_locks_that_keep_nobody_out_then_it_warns(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    assert checks.check_locking(tmp_path).status == "warn"


def refuse_writing(monkeypatch):
    def refuse(*arguments, **settings):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)


def test_given_a_read_only_folder_then_locking_fails(tmp_path, monkeypatch):
    refuse_writing(monkeypatch)
    finding = checks.check_locking(tmp_path)
    assert finding.status == "fail"
    assert "Read-only" in finding.found


def test_given_a_read_only_cache_then_it_warns_and_names_the_variable(tmp_path, monkeypatch):
    refuse_writing(monkeypatch)
    finding = checks.check_cache(tmp_path / "cache")
    assert finding.status == "warn"
    assert "HPCXPCS_CACHE_DIR" in finding.remedy


def test_given_a_cache_folder_that_is_not_there_yet_then_it_is_ok_and_not_made(tmp_path):
    assert checks.check_cache(tmp_path / "deep" / "cache").status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_given_a_cache_that_others_may_write_then_it_warns(tmp_path):
    tmp_path.chmod(0o777)
    assert "chmod 700" in checks.check_cache(tmp_path).remedy


def test_given_jax_in_64_bit_then_it_is_ok():
    answer = {"version": "0.12.0", "dtype": "float64", "devices": ["cpu"]}
    assert checks.check_jax(Probe(answer)).status == "ok"


@pytest.mark.parametrize(
    "probed",
    [
        Probe(None, "no answer within 60 s"),
        Probe({"version": "0.12.0", "dtype": "float32", "devices": ["cpu"]}),
    ],
)
def test_given_jax_that_hangs_or_computes_in_32_bit_then_it_fails(probed):
    assert checks.check_jax(probed).status == "fail"


def test_given_mpi_that_does_not_start_then_it_is_a_warning_with_the_reason():
    finding = checks.check_mpi(Probe(None, "exit code 1: cannot load MPI library"))
    assert (finding.status, finding.found) == ("warn", "exit code 1: cannot load MPI library")


def test_given_a_probe_that_dies_then_the_doctor_lives():
    assert checks.probe("import os; os.abort()").problem.startswith("exit code -6")


def test_given_a_probe_that_hangs_then_it_is_ended():
    assert checks.probe("import time; time.sleep(60)", seconds=0.2).problem == "no answer within 0.2 s"


def test_given_a_probe_that_complains_then_its_last_words_are_kept():
    assert "ZeroDivisionError" in checks.probe("1 / 0").problem


def test_given_a_rank_then_its_launcher_is_not_inherited():
    environ = {"PMI_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "HOME": "/home/me", "PATH": "/bin"}
    assert checks.without_launcher(environ) == {"HOME": "/home/me", "PATH": "/bin"}


def test_given_this_machine_when_the_doctor_looks_then_jax_and_mpi_start(tmp_path):
    result = CliRunner().invoke(command, ["--json", "--dir", str(tmp_path)])
    report = json.loads(result.output)
    found = {check["name"]: check for check in report["checks"]}
    assert {"python", "packages", "memory", "cores", "file locking", "compile cache"} <= found.keys()
    assert found["jax"]["status"] == "ok"
    assert "float64" in found["jax"]["found"]
    assert found["mpi"]["status"] == "ok", found["mpi"]
    assert report["ok"] is (result.exit_code == 0)


@pytest.fixture
def sick(monkeypatch):
    findings = [Check("python", "ok", "3.12"), Check("jax", "fail", "broken", "reinstall")]
    monkeypatch.setattr(checks, "examine", lambda folder: iter(findings))


@pytest.mark.usefixtures("sick")
def test_given_one_failure_then_the_exit_code_is_1_and_the_remedy_is_shown():
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 1
    assert "-> reinstall" in result.output


@pytest.mark.usefixtures("sick")
def test_given_json_then_it_holds_every_finding():
    report = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert report["ok"] is False
    assert report["checks"][1] == {"name": "jax", "status": "fail", "found": "broken", "remedy": "reinstall"}


def test_given_a_folder_that_does_not_exist_then_it_is_a_usage_error():
    assert CliRunner().invoke(command, ["--dir", "/nowhere/at/all"]).exit_code == 2
