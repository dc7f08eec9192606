"""Memory, cores and the cache folder, as seen through fake control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcxpcs.workers import machine

GIB = 1024**3


def control_group(root: Path, membership: str, files: dict[str, str]) -> Path:
    """Write /proc/self/cgroup and control files, given by their path in /sys/fs/cgroup, below a fake root."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_given_no_control_groups_then_the_installed_memory_is_the_limit(tmp_path):
    found = machine.memory(tmp_path, {})
    assert found.source == "installed memory"
    assert 0 < found.available <= found.limit


def test_given_a_version_2_limit_then_it_is_the_limit_and_its_usage_counts(tmp_path):
    root = control_group(tmp_path, "0::/job\n", {"job/memory.max": f"{GIB}\n", "job/memory.current": f"{GIB // 4}\n"})
    found = machine.memory(root, {})
    assert (found.limit, found.available) == (GIB, GIB - GIB // 4)
    assert "cgroup" in found.source


def test_given_file_pages_that_can_be_dropped_then_they_count_as_available(tmp_path):
    files = {
        "job/memory.max": f"{GIB}\n",
        "job/memory.current": f"{GIB}\n",
        "job/memory.stat": f"anon 12\ninactive_file {GIB // 2}\n",
    }
    assert machine.memory(control_group(tmp_path, "0::/job\n", files), {}).available == GIB // 2


def test_given_a_limit_on_a_parent_then_it_counts_too(tmp_path):
    root = control_group(tmp_path, "0::/job/step\n", {"job/memory.max": f"{GIB}\n", "job/step/memory.max": "max\n"})
    assert machine.memory(root, {}).limit == GIB


def test_given_a_hybrid_tree_then_the_version_2_part_is_read_from_unified(tmp_path):
    root = control_group(tmp_path, "0::/job\n", {"unified/job/memory.max": f"{GIB}\n"})
    assert machine.memory(root, {}).limit == GIB


def test_given_a_version_1_limit_then_it_is_the_limit(tmp_path):
    root = control_group(
        tmp_path,
        "4:memory:/job\n1:cpu,cpuacct:/job\n",
        {"memory/job/memory.limit_in_bytes": f"{2 * GIB}\n", "memory/job/memory.usage_in_bytes": f"{GIB}\n"},
    )
    found = machine.memory(root, {})
    assert (found.limit, found.available) == (2 * GIB, GIB)


def test_given_a_version_1_tree_without_limit_then_its_huge_number_changes_nothing(tmp_path):
    root = control_group(tmp_path, "4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert machine.memory(root, {}).source == "installed memory"


def test_given_a_group_path_that_the_container_hides_then_the_visible_top_counts(tmp_path):
    root = control_group(tmp_path, "4:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": f"{GIB}\n"})
    assert machine.memory(root, {}).limit == GIB


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({"SLURM_MEM_PER_NODE": "512"}, 512 * 1024**2),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "4"}, 400 * 1024**2),
    ],
)
def test_given_a_slurm_request_then_it_is_the_limit(environ, limit, tmp_path):
    assert machine.memory(tmp_path, environ).limit == limit


def test_given_slurm_gives_the_whole_node_then_its_zero_is_no_limit(tmp_path):
    assert machine.memory(tmp_path, {"SLURM_MEM_PER_NODE": "0"}).source == "installed memory"


def test_given_no_quota_then_the_affinity_mask_counts(tmp_path):
    assert machine.usable_cores(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", ["max 100000\n", ""])
def test_given_no_version_2_quota_then_there_is_none(text, tmp_path):
    root = control_group(tmp_path, "0::/job\n", {"job/cpu.max": text})
    assert machine.core_quota(root) is None


def test_given_a_version_2_quota_of_half_a_core_then_one_core_is_usable(tmp_path):
    root = control_group(tmp_path, "0::/job\n", {"job/cpu.max": "50000 100000\n"})
    assert machine.core_quota(root) == 0.5
    assert machine.usable_cores(root) == 1


def test_given_version_1_quotas_on_two_levels_then_the_tighter_counts(tmp_path):
    folder = "cpu,cpuacct"
    root = control_group(tmp_path, "1:cpu,cpuacct:/job/step\n", {
        f"{folder}/job/cpu.cfs_quota_us": "150000\n",
        f"{folder}/job/cpu.cfs_period_us": "100000\n",
        f"{folder}/job/step/cpu.cfs_quota_us": "-1\n",
        f"{folder}/job/step/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert machine.core_quota(root) == 1.5


def test_given_a_quota_above_the_mask_then_the_mask_counts(tmp_path):
    root = control_group(tmp_path, "0::/\n", {"cpu.max": "99900000 100000\n"})
    assert machine.usable_cores(root) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HPCXPCS_CACHE_DIR": "/fast/mine", "XDG_CACHE_HOME": "/x"}, "/fast/mine"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/hpcxpcs"),
    ],
)
def test_given_the_environment_then_the_cache_folder_follows_it(environ, folder):
    assert machine.cache_folder(environ) == Path(folder)


def test_given_nothing_then_the_cache_folder_is_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert machine.cache_folder({}) == Path("/home/me/.cache/hpcxpcs")
