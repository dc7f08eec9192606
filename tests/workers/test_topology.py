"""Machines, control groups and launchers as a process sees them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.workers.machine import cpu_list, cpu_set, topology
from tests.workers.machines import (
    EIGHT_NODES,
    EIGHT_NODES_NO_SMT,
    HIGH_BANDWIDTH,
    ODD_AND_EVEN,
    SMALL_VM,
    ancestors,
    control_groups,
    put,
)


def shape(found) -> tuple[int, int, int, int]:
    sockets = len({core.socket for core in found.cores})
    return sockets, len(found.nodes), len(found.cores), len(found.cpus)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (SMALL_VM, (1, 1, 2, 2)),
        (EIGHT_NODES, (2, 8, 64, 128)),
        (EIGHT_NODES_NO_SMT, (2, 8, 64, 64)),
        (HIGH_BANDWIDTH, (2, 2, 104, 208)),
        (ODD_AND_EVEN, (2, 2, 8, 8)),
    ],
)
def test_given_a_machine_then_sockets_nodes_cores_and_cpus_are_counted(machine, expected, tmp_path):
    assert shape(machine.seen(tmp_path)) == expected


def test_given_smt_then_siblings_are_one_core(tmp_path):
    found = EIGHT_NODES.seen(tmp_path)
    assert found.cores[9].cpus == (9, 73)
    assert (found.cores[9].node, found.cores[9].socket) == (1, 0)


def test_given_alternating_numbers_then_cores_of_one_node_stand_together(tmp_path):
    found = ODD_AND_EVEN.seen(tmp_path)
    assert [core.cpus[0] for core in found.cores] == [0, 2, 4, 6, 1, 3, 5, 7]


def test_given_an_affinity_mask_then_only_its_cpus_are_usable_but_all_are_known(tmp_path):
    found = EIGHT_NODES.seen(tmp_path, mask=frozenset({0, 1, 64, 70}))
    assert [core.cpus for core in found.cores] == [(0, 64), (1,), (70,)]
    assert len(found.online) == 64


def test_given_a_cpu_that_is_offline_then_it_is_nobodys_sibling(tmp_path):
    EIGHT_NODES.write(tmp_path)
    put(tmp_path / "sys/devices/system/cpu/online", "0-63")
    found = topology(tmp_path, frozenset(range(64)), {})
    assert all(len(core.cpus) == 1 for core in found.online)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/job/step", {"job/cpuset.cpus.effective": "4-11"}),
        ("3:cpuset:/job", {"cpuset/job/cpuset.cpus": "4-11"}),
        ("3:cpuset:/job", {"cpuset/job/cpuset.effective_cpus": "4-11", "cpuset/cpuset.cpus": "0-63"}),
    ],
)
def test_given_a_cpuset_that_cuts_a_node_then_only_its_part_is_usable(membership, files, tmp_path):
    control_groups(tmp_path, membership, files)
    found = EIGHT_NODES_NO_SMT.seen(tmp_path)
    assert found.cpus == tuple(range(4, 12))
    assert [len(node) for node in found.nodes] == [4, 4]


def test_given_a_cpuset_of_another_machine_then_the_mask_alone_counts(tmp_path):
    control_groups(tmp_path, "0::/job", {"job/cpuset.cpus.effective": "500-507"})
    assert SMALL_VM.seen(tmp_path).cpus == (0, 1)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/job", {"job/cpu.max": "400000 100000"}),
        ("1:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"}),
    ],
)
def test_given_a_quota_then_it_is_known(membership, files, tmp_path):
    control_groups(tmp_path, membership, files)
    assert EIGHT_NODES.seen(tmp_path).quota == 4.0


def test_given_nothing_in_sys_then_every_cpu_of_the_mask_is_a_core(tmp_path):
    found = topology(tmp_path, frozenset({3, 5}), {})
    assert [core.cpus for core in found.cores] == [(3,), (5,)]
    assert len(found.nodes) == 1


def test_given_a_kernel_without_numa_then_each_socket_is_a_node(tmp_path):
    EIGHT_NODES_NO_SMT.write(tmp_path)
    for path in (tmp_path / "sys/devices/system/node").glob("node*/cpulist"):
        path.unlink()
    assert [len(node) for node in topology(tmp_path, EIGHT_NODES_NO_SMT.cpus, {}).nodes] == [32, 32]


def test_given_a_whole_machine_then_the_process_is_not_bound(tmp_path):
    assert not EIGHT_NODES.seen(tmp_path).bound


def test_given_a_mask_narrower_than_the_cpuset_then_the_process_is_bound(tmp_path):
    control_groups(tmp_path, "0::/job", {"job/cpuset.cpus.effective": "0-15"})
    assert EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(8))).bound
    assert not EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(16))).bound


def test_given_a_launcher_with_a_wider_mask_then_the_process_is_bound(tmp_path):
    ancestors(tmp_path, ("bash", "0-3"), ("slurmstepd", "0-63"))
    assert EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(4))).bound


def test_given_a_launcher_inside_a_narrow_job_then_its_processes_are_not_bound(tmp_path):
    ancestors(
        tmp_path,
        ("hydra_pmi_proxy", "0-3"),
        ("mpiexec.hydra", "0-3"),
        ("bash", "0-3"),
        ("slurmstepd", "0-63"),
    )
    assert not EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(4))).bound


def test_given_a_launcher_confined_to_system_cores_then_its_own_mask_says_nothing(tmp_path):
    ancestors(tmp_path, ("slurmstepd", "63"))
    assert EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(4))).bound
    assert not EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(64))).bound


def test_given_processes_of_one_job_then_they_have_one_seat_and_those_of_another_host_another(tmp_path):
    put(tmp_path / "proc/sys/kernel/hostname", "pod-1")
    first, again = SMALL_VM.seen(tmp_path).seat, SMALL_VM.seen(tmp_path).seat
    job = SMALL_VM.seen(tmp_path, SLURM_JOB_ID="12").seat
    put(tmp_path / "proc/sys/kernel/hostname", "pod-2")
    assert first == again
    assert len({first, job, SMALL_VM.seen(tmp_path).seat}) == 3


def test_given_the_machine_of_this_test_then_its_cores_are_those_of_the_mask():
    assert set(topology().cpus) == os.sched_getaffinity(0)


@given(st.frozensets(st.integers(0, 300)))
def test_given_any_cpus_then_their_list_reads_back(cpus):
    assert cpu_set(cpu_list(cpus)) == cpus


def test_given_runs_and_single_cpus_then_the_list_is_that_of_the_kernel():
    assert cpu_list({0, 1, 2, 8, 10, 11}) == "0-2,8,10-11"
