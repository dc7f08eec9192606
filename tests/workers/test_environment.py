"""A process is on its cores, with its threads counted, before JAX is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import json, os, sys
from hpcxpcs.workers.placement import apply
from hpcxpcs.workers.placement import my_place, placement
from hpcxpcs.workers.machine import topology
place = placement({n_local}, topology())[0]
before = sorted({{name.split(".")[0] for name in sys.modules}} & {{"jax", "jaxlib", "numpy", "numpyro", "nlsq"}})
warned = []
apply(place, warn=warned.append)
import jax
threads = [os.sched_getaffinity(int(task)) == set(place.cpus) for task in os.listdir("/proc/self/task")]
print(json.dumps({{
    "before": before, "cpus": place.cpus, "mask": sorted(os.sched_getaffinity(0)), "threads": all(threads),
    "omp": os.environ["OMP_NUM_THREADS"], "mkl": os.environ["MKL_NUM_THREADS"],
    "openblas": os.environ["OPENBLAS_NUM_THREADS"], "x64": str(jax.numpy.ones(1).dtype),
    "devices": len(jax.devices()), "warned": warned,
}}))
"""


def settled(n_local: int = 1, **environment: str) -> dict:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(n_local=n_local)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_when_a_process_is_pinned_then_no_jax_was_there_before_and_its_mask_is_its_place():
    told = settled(n_local=len(os.sched_getaffinity(0)))
    assert told["before"] == []
    assert told["mask"] == told["cpus"]
    assert len(told["mask"]) < max(2, len(os.sched_getaffinity(0)))
    assert told["threads"]
    assert told["warned"] == []


def test_when_a_process_is_settled_then_linear_algebra_has_one_thread_and_jax_double_precision():
    told = settled(n_local=1, OMP_NUM_THREADS="4", MKL_NUM_THREADS="1000,2")
    assert told["omp"] == told["mkl"] == told["openblas"] == "1"
    assert told["x64"] == "float64"
    assert told["devices"] == 1


def test_given_a_limit_then_xla_computes_with_as_many_threads():
    program = (
        "import os\n"
        "from hpcxpcs.workers.placement import limited_threads\n"
        "import jax\n"
        "with limited_threads(3):\n"
        "    jax.devices()\n"
        "assert 'NPROC' not in os.environ\n"
        "names = [open(f'/proc/self/task/{task}/comm').read() for task in os.listdir('/proc/self/task')]\n"
        "print(sum('XLAEigen' in name for name in names))\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert child.stdout.split() == ["3"]


def test_given_jax_was_imported_then_settling_is_refused():
    program = (
        "import jax\n"
        "from hpcxpcs.workers import machine, placement\n"
        "placement.apply(placement.my_place(machine.topology()))\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert "before JAX is imported" in child.stderr


def test_given_cpus_that_do_not_exist_then_the_process_goes_on_and_says_so():
    program = (
        "from dataclasses import replace\n"
        "from hpcxpcs.workers import machine, placement\n"
        "place = placement.my_place(machine.topology())\n"
        "placement.apply(replace(place, cpus=(1000,)), warn=print)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert "could not be pinned to CPUs 1000" in child.stdout
