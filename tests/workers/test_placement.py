"""Who works on which cores, on machines of all shapes and under all launchers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.errors import ConfigError
from hpcxpcs.workers.machine import Core, Topology
from hpcxpcs.workers.placement import (
    LocalRank,
    Place,
    child_environment,
    is_bound,
    local_rank,
    my_place,
    placement,
)
from tests.workers.machines import (
    EIGHT_NODES,
    EIGHT_NODES_NO_SMT,
    HIGH_BANDWIDTH,
    ODD_AND_EVEN,
    SMALL_VM,
    ancestors,
)


def cores_of(places: tuple[Place, ...]) -> list[int]:
    return [place.cores for place in places]


@st.composite
def topologies(draw) -> Topology:
    """Up to six NUMA nodes of unequal size in one or two sockets, with one or two CPUs per core."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    smt = draw(st.integers(1, 2))
    number = iter(range(1000))
    cores = tuple(
        Core(tuple(next(number) for _ in range(smt)), node, node * 2 // len(sizes))
        for node, size in enumerate(sizes)
        for _ in range(size)
    )
    quota = draw(st.none() | st.floats(0.1, 60.0))
    granted = tuple(cpu for core in cores for cpu in core.cpus)
    return Topology(cores, cores, granted, quota, False, draw(st.integers(0, 2**32)))


@given(topologies(), st.integers(1, 80))
def test_given_any_machine_then_places_are_inside_the_job_and_apart_unless_there_are_too_many(found, n_local):
    places = placement(n_local, found)
    cpus = [cpu for place in places for cpu in place.cpus]
    assert [place.rank for place in places] == list(range(n_local))
    assert all(place.cpus and place.cores for place in places)
    assert set(cpus) <= set(found.cpus)
    assert (places[0].sharing == 1) == (len(cpus) == len(set(cpus)))


@given(topologies(), st.integers(1, 80))
def test_given_any_quota_then_no_more_cpus_are_used_than_it_pays_for(found, n_local):
    used = {cpu for place in placement(n_local, found) for cpu in place.cpus}
    assert found.quota is None or len(used) < found.quota + 1


@given(topologies(), st.integers(1, 30))
def test_given_any_machine_then_more_processes_than_nodes_stay_inside_one_each(found, n_local):
    free = replace(found, quota=None)
    places = placement(n_local, free)
    if len(free.nodes) < n_local:
        assert all(len(place.nodes) == 1 for place in places)


@given(topologies(), st.integers(1, 80))
def test_given_any_machine_then_siblings_stay_with_their_core(found, n_local):
    free = replace(found, quota=None)
    for place in placement(n_local, free):
        assert sum(set(core.cpus) <= set(place.cpus) for core in free.cores) == place.cores


@pytest.mark.parametrize(
    ("machine", "n_local", "cores"),
    [
        (SMALL_VM, 1, [2]),
        (SMALL_VM, 2, [1, 1]),
        (SMALL_VM, 3, [1, 1, 1]),
        (EIGHT_NODES, 1, [64]),
        (EIGHT_NODES, 2, [32] * 2),
        (EIGHT_NODES, 8, [8] * 8),
        (EIGHT_NODES, 16, [4] * 16),
        (EIGHT_NODES, 64, [1] * 64),
        (HIGH_BANDWIDTH, 12, [8, 9, 9, 8, 9, 9] * 2),
    ],
)
def test_given_a_known_machine_then_the_cores_are_shared_out_evenly(machine, n_local, cores, tmp_path):
    assert cores_of(placement(n_local, machine.seen(tmp_path))) == cores


def test_given_two_processes_on_two_sockets_then_each_gets_one(tmp_path):
    first, second = placement(2, EIGHT_NODES.seen(tmp_path))
    assert (first.sockets, second.sockets) == ((0,), (1,))
    assert (first.nodes, second.nodes) == ((0, 1, 2, 3), (4, 5, 6, 7))


def test_given_as_many_processes_as_nodes_then_each_gets_one_with_its_siblings(tmp_path):
    places = placement(8, EIGHT_NODES.seen(tmp_path))
    assert [place.nodes for place in places] == [(node,) for node in range(8)]
    assert places[1].cpus == (*range(8, 16), *range(72, 80))


def test_given_no_smt_then_a_place_has_one_cpu_per_core(tmp_path):
    assert placement(8, EIGHT_NODES_NO_SMT.seen(tmp_path))[1].cpus == tuple(range(8, 16))


def test_given_alternating_sockets_then_a_place_stays_in_one(tmp_path):
    assert placement(2, ODD_AND_EVEN.seen(tmp_path))[1].cpus == (1, 3, 5, 7)


def test_given_a_mask_that_cuts_a_node_then_the_larger_part_gets_more_processes(tmp_path):
    found = EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(6, 16)))
    assert [place.cpus for place in placement(3, found)] == [(6, 7), (8, 9, 10, 11), (12, 13, 14, 15)]


def test_given_one_large_node_and_crumbs_then_processes_go_into_the_large_one(tmp_path):
    found = EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset({0, *range(8, 16), 16}))
    assert cores_of(placement(4, found)) == [2, 2, 2, 2]


def test_given_a_quota_below_the_cores_then_places_keep_to_it(tmp_path):
    found = replace(EIGHT_NODES.seen(tmp_path), quota=4.0, seat=0)
    assert [place.cpus for place in placement(2, found)] == [(0, 1), (2, 3)]


def test_given_containers_with_quotas_on_one_machine_then_they_use_different_cores(tmp_path):
    found = replace(EIGHT_NODES.seen(tmp_path), quota=4.0)
    used = {placement(1, replace(found, seat=seat))[0].cpus for seat in range(100)}
    assert len(used) == 16


def test_given_more_processes_than_cores_then_places_say_how_many_share_one(tmp_path):
    places = placement(5, SMALL_VM.seen(tmp_path))
    assert {place.sharing for place in places} == {3}


def test_given_no_process_then_that_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="0 processes"):
        placement(0, SMALL_VM.seen(tmp_path))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (1, 4)),
        ({"MPI_LOCALRANKID": "3", "MPI_LOCALNRANKS": "4", "PMI_RANK": "11"}, (3, 4)),
        ({"PALS_LOCAL_RANKID": "2", "PALS_LOCAL_SIZE": "8"}, (2, 8)),
        ({"PMI_LOCAL_RANK": "0", "PMI_LOCAL_SIZE": "2"}, (0, 2)),
        ({"MV2_COMM_WORLD_LOCAL_RANK": "0", "MV2_COMM_WORLD_LOCAL_SIZE": "2"}, (0, 2)),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"}, (1, 3)),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}, (1, 2)),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
         (1, 2)),
    ],
)  # fmt: skip
def test_given_a_launcher_then_local_rank_and_size_are_its_own(environ, expected):
    found = local_rank(environ)
    assert found is not None
    assert found[:2] == expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "4", "SLURM_NODEID": "0"},  # a batch script is no rank
        {"PMI_RANK": "3", "PMI_SIZE": "8"},  # of the whole job, not of this node
        {"MPI_LOCALRANKID": "4", "MPI_LOCALNRANKS": "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK": "one", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
        {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "7"},
    ],
)
def test_given_no_launcher_that_tells_then_there_is_no_local_rank(environ):
    assert local_rank(environ) is None


def test_given_no_launcher_then_a_process_gets_all_usable_cores(tmp_path):
    assert my_place(EIGHT_NODES.seen(tmp_path), environ={}).cores == 64


def test_given_an_mpi_launcher_that_binds_nothing_then_a_process_gets_its_share(tmp_path):
    ancestors(tmp_path, ("hydra_pmi_proxy", "0-127"))
    environ = {"MPI_LOCALRANKID": "3", "MPI_LOCALNRANKS": "8"}
    found = EIGHT_NODES.seen(tmp_path)
    assert my_place(found, environ=environ) == placement(8, found)[3]


def test_given_a_process_that_slurm_has_bound_then_it_stays_there(tmp_path):
    ancestors(tmp_path, ("slurmstepd", "0-127"))
    found = EIGHT_NODES.seen(tmp_path, mask=frozenset({20, 21, 84, 85}))
    environ = {"SLURM_LOCALID": "5", "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPU_BIND_TYPE": "mask_cpu:"}
    place = my_place(found, environ=environ)
    assert (place.rank, place.cpus, place.cores, place.sharing) == (5, (20, 21, 84, 85), 2, 1)


def test_given_a_slurm_job_whose_tasks_are_not_bound_then_each_gets_its_share_of_the_job(tmp_path):
    ancestors(tmp_path, ("slurmstepd", "0-127"))
    found = EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(8)))
    environ = {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_CPU_BIND_TYPE": "none"}
    assert my_place(found, environ=environ).cpus == (4, 5, 6, 7)


def test_given_several_processes_bound_to_one_node_then_the_sharing_is_told(tmp_path):
    ancestors(tmp_path, ("prted", "0-63"))
    found = EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(8)))
    environ = {"OMPI_COMM_WORLD_LOCAL_RANK": "9", "OMPI_COMM_WORLD_LOCAL_SIZE": "32"}
    assert my_place(found, environ=environ).sharing == 4


def test_given_a_bound_process_and_a_quota_then_its_part_of_the_quota_limits_it(tmp_path):
    ancestors(tmp_path, ("prted", "0-63"))
    found = EIGHT_NODES_NO_SMT.seen(tmp_path, mask=frozenset(range(8)))
    environ = {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
    assert len(my_place(replace(found, quota=8.0), environ=environ).cpus) == 2


def test_given_a_rank_from_a_shared_memory_communicator_then_it_goes_before_the_variables(tmp_path):
    found = EIGHT_NODES.seen(tmp_path)
    place = my_place(found, LocalRank(1, 2, "MPI"), {"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"})
    assert place == placement(2, found)[1]


def test_given_a_place_chosen_by_the_parent_then_a_child_finds_it(tmp_path):
    found = EIGHT_NODES.seen(tmp_path)
    place = placement(16, found)[3]
    assert my_place(found, environ=child_environment(place)).cpus == place.cpus


def test_given_a_parents_choice_outside_the_mask_then_it_is_ignored(tmp_path):
    assert my_place(SMALL_VM.seen(tmp_path), environ={"HPCXPCS_CPUS": "40-47"}).cpus == (0, 1)


def test_given_a_parents_choice_that_is_no_list_then_the_variable_and_the_remedy_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"HPCXPCS_CPUS='all' is no list.*unset"):
        my_place(SMALL_VM.seen(tmp_path), environ={"HPCXPCS_CPUS": "all"})


def test_given_fewer_cpus_than_slurm_gave_the_job_here_then_the_process_is_bound(tmp_path):
    found = EIGHT_NODES_NO_SMT.seen(tmp_path)
    assert is_bound(found, {"SLURM_CPUS_ON_NODE": "128"})
    assert not is_bound(found, {"SLURM_CPUS_ON_NODE": "64"})


@pytest.mark.parametrize("binding", [[], ["-bind-to", "core"]])
def test_given_real_mpi_ranks_then_they_share_out_the_cores_of_this_machine(binding, tmp_path):
    program = (
        "import json, os, sys\n"
        "from hpcxpcs.workers.placement import local_rank, my_place\n"
        "from hpcxpcs.workers.machine import topology\n"
        "place = my_place(topology())\n"
        "from pathlib import Path\n"
        "Path(sys.argv[1], str(place.rank)).write_text(json.dumps([place.size, place.cpus]))\n"
    )
    mpiexec = Path(sys.prefix) / "bin" / "mpiexec"
    subprocess.run(
        [mpiexec, *binding, "-n", "2", sys.executable, "-c", program, tmp_path],
        env=without_launcher(os.environ), check=True, capture_output=True,
    )  # fmt: skip
    told = [json.loads((tmp_path / name).read_text()) for name in ("0", "1")]
    here = os.sched_getaffinity(0)
    assert [size for size, _ in told] == [2, 2]
    if len(here) > 1:
        assert not set(told[0][1]) & set(told[1][1])
    assert set(told[0][1]) | set(told[1][1]) <= here
