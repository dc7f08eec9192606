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

from hpcxpcs.runtime import machine

MINIMUM_PYTHON = (3, 12)
COMFORTABLE_MEMORY = 1024**3  # bytes; a point fit of 23 matrices of 1001 x 1001 frames stays below
PROBE_SECONDS = 60.0
LAUNCHER_PREFIXES = ("PMI", "MPI_LOCAL", "HYD", "OMPI_", "PRTE")

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
class Finding:
    """One line of the doctor: what was looked at, how it is, what was found, what to do (empty when ok)."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Yield all findings, quick ones first; `folder` is where file locking is tried."""
    yield check_python(sys.version_info[:3])
    yield from check_packages(declared_requirements(), installed_version)
    yield check_memory(machine.memory())
    yield check_cores(machine.affinity_cores(), machine.core_quota())
    yield check_locking(folder)
    yield check_cache(machine.cache_folder())
    yield check_jax(probe(JAX_PROBE))
    yield check_mpi(probe(MPI_PROBE))


def check_python(version: tuple[int, ...]) -> Finding:
    """Compare a Python version (major, minor, micro) with the lowest that is supported."""
    found = ".".join(map(str, version))
    if version[:2] >= MINIMUM_PYTHON:
        return Finding("python", "ok", f"{found} ({sys.executable})")
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    return Finding("python", "fail", found, f"install into an environment with Python {wanted} or later")


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


def check_packages(
    requirements: Sequence[str] | None, version_of: Callable[[str], str | None]
) -> Iterator[Finding]:
    """Yield one finding per package outside its range, or a single one that says all is well."""
    if requirements is None:
        yield Finding(
            "packages", "warn", "hpcxpcs is not installed, so its ranges are unknown", "pip install -e ."
        )
        return
    wanted = [
        r for r in map(Requirement, requirements) if r.marker is None or r.marker.evaluate({"extra": ""})
    ]
    wrong = 0
    for requirement in wanted:
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong += 1
            name = f"{requirement.name} {version or 'is missing'}"
            yield Finding(
                "packages", "fail", name, f"pip install '{requirement.name}{requirement.specifier}'"
            )
    if not wrong:
        yield Finding("packages", "ok", f"{len(wanted)} packages within their ranges")


def check_memory(memory: machine.Memory) -> Finding:
    """Report memory in GiB and warn when less than a comfortable amount is free."""
    gibibyte = 1024**3
    found = (
        f"{memory.available / gibibyte:.1f} GiB free of {memory.limit / gibibyte:.1f} GiB ({memory.source})"
    )
    if memory.available >= COMFORTABLE_MEMORY:
        return Finding("memory", "ok", found)
    return Finding("memory", "warn", found, "ask the scheduler for more memory, or close other programs")


def check_cores(affinity: int, quota: float | None) -> Finding:
    """Report usable cores; warn when the processor quota is below the affinity mask that JAX looks at."""
    if quota is None or quota >= affinity:
        return Finding("cores", "ok", f"{affinity} in the affinity mask, no tighter quota")
    found = f"{affinity} in the affinity mask, but a quota of {quota:g}"
    return Finding(
        "cores", "warn", found, "JAX starts one thread per core of the mask: bind the process with taskset"
    )


def check_locking(folder: Path) -> Finding:
    """Create, lock, write and read back a scratch HDF5 file in `folder`; it is removed afterwards."""
    name, place = "file locking", folder.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=".hpcxpcs-doctor-", dir=place) as scratch:
            _round_trip(Path(scratch) / "scratch.h5")
            locks = _locks_work(Path(scratch) / "scratch.lock")
    except OSError as error:
        return Finding(name, "fail", f"{place}: {error}", "choose a folder that you can write to: --dir DIR")
    if locks:
        return Finding(name, "ok", f"{place}: an HDF5 file can be created, locked and read")
    return Finding(name, "warn", f"{place}: no file locks here", "export HDF5_USE_FILE_LOCKING=FALSE")


def check_cache(folder: Path) -> Finding:
    """See whether compiled code can be kept in `folder`, and whether others could put theirs there."""
    name, remedy = "compile cache", f"export {machine.CACHE_VARIABLE}=FOLDER with a private folder of yours"
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".hpcxpcs-doctor-", dir=place):
            pass
    except OSError as error:
        return Finding(
            name, "warn", f"{folder} cannot be written ({error.strerror}): every run compiles", remedy
        )
    if place == folder and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(name, "warn", f"{folder} holds code, and others may write it", f"chmod 700 '{folder}'")
    return Finding(name, "ok", str(folder))


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


def without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what an MPI launcher put there; a child that inherits it would abort."""
    return {name: value for name, value in environ.items() if not name.startswith(LAUNCHER_PREFIXES)}


def check_jax(probed: Probe) -> Finding:
    """Judge whether JAX starts and computes in 64 bit."""
    if probed.answer is None:
        return Finding("jax", "fail", probed.problem, "reinstall: pip install --force-reinstall jax jaxlib")
    devices = probed.answer["devices"]
    kinds = sorted(set(map(str, devices))) if isinstance(devices, list) else [str(devices)]
    found = f"{probed.answer['version']}, {probed.answer['dtype']}, devices: {', '.join(kinds)}"
    if probed.answer["dtype"] != "float64":
        return Finding("jax", "fail", found, "reinstall hpcxpcs: importing it must switch JAX to 64 bit")
    return Finding("jax", "ok", found)


def check_mpi(probed: Probe) -> Finding:
    """Judge whether MPI starts; the point fit runs without it, so trouble is a warning."""
    if probed.answer is not None:
        return Finding("mpi", "ok", f"{probed.answer['library']}, starts")
    remedy = "only needed for several ranks: load the site's MPI module, or pip install 'hpcxpcs[mpi]'"
    return Finding("mpi", "warn", probed.problem, remedy)


def _round_trip(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["numbers"] = [1.0, 2.0]
    with h5py.File(path, "r") as file:
        if list(file["numbers"][:]) != [1.0, 2.0]:
            raise OSError("a scratch file did not read back as written")


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
