"""The map of a machine: a table and a drawing that agree, on known machines and on this one."""

from __future__ import annotations

import json
import os

from click.testing import CliRunner

from hpcxpcs.cli import program
from hpcxpcs.cli.topology import map_text
from hpcxpcs.workers.placement import LocalRank, placement
from tests.workers.machines import EIGHT_NODES, SMALL_VM

EIGHT_CORES = """\
machine   2 sockets, 8 NUMA nodes, 64 cores, 128 logical CPUs
usable    16 cores, logical CPUs 4-19,68-83
quota     none

process  cores  logical CPUs   NUMA node  socket
0        4      4-7,68-71      0          0
1        4      8-11,72-75     1          0
2        4      12-15,76-79    1          0
3        4      16-19,80-83    2          0

socket 0
  node 0   - - - - 0 0 0 0
  node 1   1 1 1 1 2 2 2 2
  node 2   3 3 3 3 - - - -
  node 3   - - - - - - - -
socket 1
  node 4   - - - - - - - -
  node 5   - - - - - - - -
  node 6   - - - - - - - -
  node 7   - - - - - - - -
(one symbol per core: the process that gets it, . nobody, - not this job's)"""


def run(*arguments: str):
    return CliRunner().invoke(program, ["topology", *arguments])


def test_given_a_job_on_a_part_of_a_large_node_then_table_and_drawing_show_who_gets_what(tmp_path):
    mask = frozenset([*range(4, 20), *range(68, 84)])
    found = EIGHT_NODES.seen(tmp_path, mask=mask)
    assert [line.split() for line in map_text(found, placement(4, found)).splitlines()] == [
        line.split() for line in EIGHT_CORES.splitlines()
    ]


def test_given_ranks_of_two_digits_then_the_columns_stay_aligned(tmp_path):
    found = EIGHT_NODES.seen(tmp_path)
    lines = [line for line in map_text(found, placement(16, found)).splitlines() if line.startswith("  node")]
    assert lines[-1].split()[2:] == ["14"] * 4 + ["15"] * 4
    assert len({len(line) for line in lines}) == 1


def test_given_too_many_processes_then_it_says_so_and_marks_shared_cores(tmp_path):
    found = SMALL_VM.seen(tmp_path)
    text = map_text(found, placement(5, found))
    assert "up to 3 processes share a core" in text
    assert "0+ 3+" in text


def test_given_a_rank_that_its_launcher_has_bound_then_it_says_so(tmp_path):
    found = SMALL_VM.seen(tmp_path, mask=frozenset({1}))
    text = map_text(found, placement(1, found), LocalRank(1, 2, "OMPI_COMM_WORLD_LOCAL_RANK"), bound=True)
    assert "process   1 of 2 on this node (OMPI_COMM_WORLD_LOCAL_RANK), bound by its launcher" in text


def test_when_the_command_runs_here_then_it_maps_this_machine():
    shown = run("-n", "1")
    assert shown.exit_code == 0, shown.output
    assert "one symbol per core" in shown.output


def test_when_json_is_asked_then_the_places_are_in_one_object():
    told = json.loads(run("-n", "2", "--json").output)
    assert [place["rank"] for place in told["places"]] == [0, 1]
    assert {cpu for place in told["places"] for cpu in place["cpus"]} <= os.sched_getaffinity(0)


def test_given_no_processes_then_the_exit_code_is_2():
    assert run("-n", "0").exit_code == 2
