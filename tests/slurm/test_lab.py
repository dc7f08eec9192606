"""The lab itself: nobody else reaches it, and nothing of it outlives the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.patience import until
from tests.slurm import lab
from tests.slurm.lab import LabError, own_address

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.slurm.lab import Lab
with Lab(Path(sys.argv[1]), nodes=1) as lab:
    lab.ask("sbatch", "--output=/dev/null", "--wrap", "sleep 600")
    lab.until(lambda: lab.processes())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_given_a_lab_then_it_listens_at_the_address_of_the_host_name_alone(slurm_lab):
    _, address = own_address()
    ports = range(slurm_lab.port, slurm_lab.port + len(slurm_lab.nodes) + 1)
    found = [place.laddr for place in psutil.net_connections("tcp") if place.status == psutil.CONN_LISTEN]
    places = {place.port: place.ip for place in found if place.port in ports}
    everywhere = address.startswith("127.") and address != "127.0.0.1"  # see Lab._configure
    nodes = dict.fromkeys(ports[1:], "0.0.0.0" if everywhere else address)
    assert places == {slurm_lab.port: address, **nodes}


def test_given_tests_that_are_killed_then_daemons_and_jobs_are_ended(slurm_lab, tmp_path):
    folder = tmp_path / "killed"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    until(lambda: not with_configuration(folder / "slurm.conf"), pause=0.1)


def with_configuration(path: Path) -> list[str]:
    """Processes that were started with a configuration of Slurm."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURM_CONF") == str(path):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_given_a_host_name_without_an_address_then_the_remedy_is_a_line_in_the_hosts_file(monkeypatch):
    def unknown(name: str) -> str:
        raise socket.gaierror

    monkeypatch.setattr(lab.socket, "gethostbyname", unknown)
    with pytest.raises(LabError, match=r"has none: add '127\.0\.0\.1 .*' to /etc/hosts"):
        own_address()


def test_given_a_host_name_with_the_address_of_another_machine_then_it_is_refused(monkeypatch):
    monkeypatch.setattr(lab.socket, "gethostbyname", lambda name: "192.0.2.77")
    with pytest.raises(LabError, match=r"resolves to 192\.0\.2\.77, which is not of this machine"):
        own_address()
