"""Checks of this machine and installation, each with what was found and what to do about it."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.errors import HpcxpcsError
from hpcxpcs.workers import machine

MINIMUM_PYTHON = (3, 12)
COMFORTABLE_MEMORY = 1024**3  # bytes; a point fit of 23 matrices of 1001 x 1001 frames stays below
PROBE_SECONDS = 60.0
SCRATCH = ".hpcxpcs-doctor-"
JAX_PROBE = """
import json, jax, hpcxpcs.physics
import jax.numpy as jnp
print(json.dumps({"version": jax.__version__, "dtype": str(jnp.ones(1).dtype),
                  "devices": [device.platform for device in jax.devices()]}))
"""
MPI_PROBE = """
import json
from mpi4py import MPI
print(json.dumps({"library": " ".join(MPI.Get_library_version().splitlines()[0].split())}))
"""

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, what was found, what to do (empty when ok)."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Check]:
    """Yield all checks, quick ones first; `folder` is where file locking is tried."""
    yield check_python(sys.version_info[:3])
    yield from check_packages(declared_requirements(), installed_version)
    yield check_memory(machine.memory())
    yield check_cores(machine.affinity_cores(), machine.core_quota())
    yield check_locking(folder)
    yield check_cache(machine.cache_folder())
    yield check_jax(probe(JAX_PROBE))
    yield check_mpi(probe(MPI_PROBE))


def check_python(version: tuple[int, ...]) -> Check:
    """Compare a Python version (major, minor, micro) with the lowest that is supported."""
    found = ".".join(map(str, version))
    if version[:2] >= MINIMUM_PYTHON:
        return Check("python", "ok", f"{found} ({sys.executable})")
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    return Check("python", "fail", found, f"install into an environment with Python {wanted} or later")


def declared_requirements() -> list[str] | None:
    """Return the requirement lines of the installed package, None when it runs from a bare source folder."""
    try:
        return importlib.metadata.requires("hpcxpcs") or []
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, None when it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages(requirements: Sequence[str] | None, version_of: Callable[[str], str | None]) -> Iterator[Check]:
    """Yield one check per package outside its range, or a single one that says all is well."""
    if requirements is None:
        yield Check("packages", "warn", "hpcxpcs is not installed, so its ranges are unknown", "pip install -e .")
        return
    wanted = [r for r in map(Requirement, requirements) if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = 0
    for requirement in wanted:
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong += 1
            name = f"{requirement.name} {version or 'is missing'}"
            yield Check("packages", "fail", name, f"pip install '{requirement.name}{requirement.specifier}'")
    if not wrong:
        yield Check("packages", "ok", f"{len(wanted)} packages within their ranges")


def check_memory(memory: machine.Memory) -> Check:
    """Report memory in GiB and warn when less than a comfortable amount is free."""
    gibibyte = 1024**3
    found = f"{memory.available / gibibyte:.1f} GiB free of {memory.limit / gibibyte:.1f} GiB ({memory.source})"
    if memory.available >= COMFORTABLE_MEMORY:
        return Check("memory", "ok", found)
    return Check("memory", "warn", found, "ask the scheduler for more memory, or close other programs")


def check_cores(affinity: int, quota: float | None) -> Check:
    """Report usable cores; warn when the processor quota is below the affinity mask that JAX looks at."""
    if quota is None or quota >= affinity:
        return Check("cores", "ok", f"{affinity} in the affinity mask, no tighter quota")
    found = f"{affinity} in the affinity mask, but a quota of {quota:g}"
    return Check("cores", "warn", found, "JAX starts one thread per core of the mask: bind the process with taskset")


def check_locking(folder: Path) -> Check:
    """Create, lock, write and read back a scratch HDF5 file in `folder`; it is removed afterwards."""
    good, remedy = "an HDF5 file can be created, locked and read", "export HDF5_USE_FILE_LOCKING=FALSE"
    return try_in(folder, "file locking", _lock_trial, good, "warn", remedy)


def try_in(
    folder: Path,
    name: str,
    trial: Callable[[Path], str],
    good: str,
    status: Status = "fail",
    remedy: str = "keep runs on another file system: --dir DIR tries one",
) -> Check:
    """Try something in a scratch folder of `folder`, which is removed afterwards; `trial` says what goes wrong, or "".

    Then the check has this `status` and `remedy`; it fails where no scratch folder can be made and written to.
    """
    place = folder.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place) as scratch:
            problem = trial(Path(scratch))
    except (OSError, HpcxpcsError) as error:
        return Check(name, "fail", f"{place}: {error}", "choose a folder that you can write to: --dir DIR")
    return Check(name, status, f"{place}: {problem}", remedy) if problem else Check(name, "ok", f"{place}: {good}")


def check_cache(folder: Path) -> Check:
    """See whether compiled code can be kept in `folder`, and whether others could put theirs there."""
    name, remedy = "compile cache", f"export {machine.CACHE_VARIABLE}=FOLDER with a private folder of yours"
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place):
            pass
    except OSError as error:
        return Check(name, "warn", f"{folder} cannot be written ({error.strerror}): every run compiles", remedy)
    if place == folder and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Check(name, "warn", f"{folder} holds code, and others may write it", f"chmod 700 '{folder}'")
    return Check(name, "ok", str(folder))


@dataclass(frozen=True)
class Probe:
    """What a child Python printed as JSON, or why it printed nothing."""

    answer: Mapping[str, object] | None
    problem: str = ""


def probe(program: str, seconds: float = PROBE_SECONDS) -> Probe:
    """Run a Python program that prints one JSON object, in a child that may die or hang without harm."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", program],
            env=without_launcher(os.environ),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(None, f"no answer within {seconds:g} s")
    lines = child.stdout.strip().splitlines()
    if child.returncode == 0 and lines:
        return Probe(json.loads(lines[-1]))
    complaint = (child.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
    return Probe(None, f"exit code {child.returncode}: {complaint}")


def check_jax(probed: Probe) -> Check:
    """Judge whether JAX starts and computes in 64 bit."""
    if probed.answer is None:
        return Check("jax", "fail", probed.problem, "reinstall: pip install --force-reinstall jax jaxlib")
    devices = probed.answer["devices"]
    kinds = sorted(set(map(str, devices))) if isinstance(devices, list) else [str(devices)]
    found = f"{probed.answer['version']}, {probed.answer['dtype']}, devices: {', '.join(kinds)}"
    if probed.answer["dtype"] != "float64":
        return Check("jax", "fail", found, "reinstall hpcxpcs: importing it must switch JAX to 64 bit")
    return Check("jax", "ok", found)


def check_mpi(probed: Probe) -> Check:
    """Judge whether MPI starts; the point fit runs without it, so trouble is a warning."""
    if probed.answer is not None:
        return Check("mpi", "ok", f"{probed.answer['library']}, starts")
    remedy = "only needed for several ranks: load the site's MPI module, or pip install 'hpcxpcs[mpi]'"
    return Check("mpi", "warn", probed.problem, remedy)


def _lock_trial(scratch: Path) -> str:
    """What goes wrong; "" when nothing does."""
    import h5py

    with h5py.File(scratch / "scratch.h5", "w") as file:
        file["numbers"] = [1.0, 2.0]
    with h5py.File(scratch / "scratch.h5", "r") as file:
        if list(file["numbers"][:]) != [1.0, 2.0]:
            raise OSError("a scratch file did not read back as written")
    return "" if _locks_work(scratch / "scratch.lock") else "no file locks here"


def _locks_work(path: Path) -> bool:
    """See whether a second opening is kept out while the first one holds the lock."""
    with path.open("w") as holder, path.open("w") as rival:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
