"""What this process may use of the machine: memory, cores and a folder for compiled code."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from hpcxpcs.runtime.job_memory import pbs_memory, slurm_memory

ROOT = Path("/")
CACHE_VARIABLE = "HPCXPCS_CACHE_DIR"


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: `limit` for the whole job, `available` of it now, `source` of the limit in words."""

    limit: int
    available: int
    source: str


def memory(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Memory:
    """Return the tightest of installed RAM, cgroup limits above `root` and what Slurm or PBS was asked for, in bytes.

    PBS is asked only where no cgroup tells.
    """
    installed = psutil.virtual_memory()
    groups = [_group_memory(folder, limit) for folder, limit in _memory_limits(root)]
    candidates = [Memory(installed.total, installed.available, "installed memory"), *groups]
    if (granted := slurm_memory(environ)) is not None:
        candidates.append(Memory(granted, granted, "Slurm request"))
    if not groups and (granted := pbs_memory(environ)) is not None:
        candidates.append(Memory(granted, granted, "PBS request"))
    tightest = min(candidates, key=lambda candidate: candidate.limit)
    available = min(candidate.available for candidate in candidates)
    return Memory(tightest.limit, min(available, tightest.limit), tightest.source)


def memory_limit(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Return how many bytes this job may use in all."""
    return memory(root, environ).limit


def affinity_cores() -> int:
    """Return the number of logical cores in the affinity mask of this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_quota(root: Path = ROOT) -> float | None:
    """Return the tightest cgroup limit on processor time in cores, None when there is none."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(quotas, default=None)


def usable_cores(root: Path = ROOT) -> int:
    """Return how many logical cores this process may keep busy (affinity mask, cgroup quota), at least 1."""
    quota = core_quota(root)
    cores = affinity_cores()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where compiled code is kept: $HPCXPCS_CACHE_DIR, else hpcxpcs in the user's cache folder."""
    if chosen := environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hpcxpcs"


def control_group_folders(root: Path, controller: str) -> list[Path]:
    """Return the folders of our control group and of its parents; `controller` "" means cgroup version 2.

    Inside a container the path that the kernel names may not be visible; its visible parents then count.
    """
    mounts = root / "sys/fs/cgroup"
    for line in control_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            break
    else:
        return []
    top = _mount_point(mounts, controllers, controller)
    inner = top / path.lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder == top or top in folder.parents]


def control_text(path: Path) -> str:
    """Return the text of a control file; "" when this kernel or container does not show it."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _group_memory(folder: Path, limit: int) -> Memory:
    """Return the memory of a control group; file pages that the kernel can drop count as available."""
    usage = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    rows = (row.split() for row in control_text(folder / "memory.stat").splitlines())
    statistics = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    droppable = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    available = limit - max(0, usage - droppable)
    return Memory(limit, max(0, available), f"cgroup limit in {folder}")


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield (folder, bytes) of every limit between our control group and the top, in both versions."""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in control_group_folders(root, controller):
            limit = _number(folder / name)
            if limit is not None:
                yield folder, limit


def _quotas_v2(root: Path) -> Iterator[float]:
    for folder in control_group_folders(root, ""):
        words = control_text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])


def _quotas_v1(root: Path) -> Iterator[float]:
    for folder in control_group_folders(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            yield quota / period


def _mount_point(mounts: Path, controllers: str, controller: str) -> Path:
    if controller:
        joined = mounts / controllers
        return joined if joined.is_dir() else mounts / controller
    hybrid = mounts / "unified"
    return hybrid if hybrid.is_dir() else mounts


def _number(path: Path) -> int | None:
    """Return the whole number in a control file, None when the file is absent or says "max"."""
    text = control_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None
