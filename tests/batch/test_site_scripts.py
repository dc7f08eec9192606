"""Scripts for every shipped site, as its file, the choice of a queue and the template make them together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.batch.jobs import Job, JobKind, Order
from hpcxpcs.batch.queues import fit_to_queue
from hpcxpcs.batch.scripts import script_text
from hpcxpcs.config.site import Site, load_site, shipped_folder

SITES = [load_site(path) for path in sorted(shipped_folder().glob("*.yaml"))]
CLUSTERS = [site for site in SITES if site.scheduler != "local"]
KINDS: tuple[JobKind, ...] = ("array", "gather", "mpi")
SHELLCHECK = Path(sys.prefix) / "bin" / "shellcheck"


def script(site: Site, kind: JobKind) -> str:
    run = Path("/runs/a b'c")
    command = ("/opt/venv/bin/hpcxpcs", "work", str(run))
    job = Job(site.scheduler, kind, run, "rheo", command, tasks=8 if kind == "array" else 1)
    return script_text(fit_to_queue(site, Order(ranks=40, account="xpcs"), job))


def test_given_any_shipped_site_then_shellcheck_accepts_its_scripts(tmp_path):
    files = []
    for site in CLUSTERS:
        for kind in KINDS:
            files.append(tmp_path / f"{site.name}-{kind}.bash")
            files[-1].write_text(script(site, kind), encoding="utf-8")
    checked = subprocess.run([SHELLCHECK, *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "alcf-polaris",
            [
                "#PBS -l select=2:ncpus=20:mpiprocs=20",
                "#PBS -q preemptable",
                "#PBS -A xpcs",
                "#PBS -l filesystems=home:eagle",
                "mpiexec -n 40 --ppn 20 --depth=1 --cpu-bind depth",
            ],
        ),
        (
            "lcrc-improv",
            [
                "#PBS -l select=1:ncpus=40:mpiprocs=40",
                "#PBS -q compute",
                "module load gcc openmpi",
                "mpirun -np 40 --map-by ppr:40:node:pe=1 --bind-to core",
            ],
        ),
        (
            "nersc-perlmutter",
            [
                "#SBATCH --qos=regular",
                "#SBATCH --constraint=cpu",
                "#SBATCH --ntasks-per-node=40",
                "srun -n 40 --ntasks-per-node=40 -c 2 --cpu-bind=cores",
            ],
        ),
    ],
)
def test_given_a_centre_then_its_mpi_script_says_what_that_centre_wants(name, lines):
    (site,) = [site for site in CLUSTERS if site.name == name]
    text = script(site, "mpi")
    for line in lines:
        assert any(found.startswith(line) for found in text.splitlines()), line
    assert "--partition" not in text
