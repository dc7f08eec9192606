"""What `doctor --site` proves on a node: each check in health and in sickness, and two real MPI ranks."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcxpcs.batch.launcher import Launched, without_launcher
from hpcxpcs.config.site import ChosenSite, Site, load_site, shipped_folder
from hpcxpcs.errors import OutputError
from hpcxpcs.workers import site_checks
from hpcxpcs.workers.preemption import Deadline
from hpcxpcs.workers.site_checks import NodeLook, RankReport, Ranks


def shipped(name: str) -> Site:
    """A shipped site, whatever sites the user of this machine has."""
    return load_site(shipped_folder() / f"{name}.yaml")


POLARIS = shipped("alcf-polaris")
POLARIS_NODE = NodeLook(cores=32, granted=32, threads=2, numa_nodes=4)
IN_JOB = {"PBS_JOBID": "12.server"}
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


def rank(number: int, cpus: tuple[int, ...], host: str = "n1", **changes) -> RankReport:
    report = RankReport(number, host, cpus, bound=True, node=POLARIS_NODE, sees=True)
    return dataclasses.replace(report, **changes)


def found_everywhere(name: str) -> str:
    return f"/usr/bin/{name}"


def found_nowhere(name: str) -> None:
    return None


# --- the site, its scheduler and its launcher -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "programs"),
    [("alcf-polaris", "qsub, qstat, qdel"), ("generic-slurm", "sbatch, squeue, scancel")],
)
def test_given_a_scheduler_then_its_programs_are_looked_for(name, programs):
    finding = site_checks.check_programs(shipped(name), False, found_everywhere)
    assert finding.status == "ok"
    assert programs in finding.found


def test_given_missing_programs_then_it_fails_outside_a_job_and_warns_inside():
    outside = site_checks.check_programs(POLARIS, False, found_nowhere)
    inside = site_checks.check_programs(POLARIS, True, found_nowhere)
    assert (outside.status, inside.status) == ("fail", "warn")
    assert "qsub" in outside.found
    assert "login node" in outside.remedy


def test_given_no_scheduler_then_nothing_is_missing():
    assert site_checks.check_programs(shipped("laptop"), False, found_nowhere).status == "ok"


def test_given_a_missing_launcher_then_the_modules_of_the_site_are_the_remedy():
    finding = site_checks.check_launcher(shipped("lcrc-improv"), found_nowhere)
    assert (finding.status, finding.remedy) == ("warn", "module load gcc openmpi")


def test_given_a_job_whose_end_is_not_known_then_it_warns():
    assert site_checks.check_deadline(None, True).status == "warn"
    assert site_checks.check_deadline(None, False).status == "ok"
    finding = site_checks.check_deadline(Deadline(time.monotonic() + 3600, "squeue"), True)
    assert (finding.status, finding.found) == ("ok", "60 min left, says squeue")


# --- the node ---------------------------------------------------------------------------------------------------------


def test_given_the_node_of_the_file_then_it_is_named():
    finding = site_checks.check_node(POLARIS, POLARIS_NODE, True)
    assert finding.status == "ok"
    assert finding.found == "32 cores with 2 threads each, 4 NUMA nodes, as cpu of alcf-polaris"


def test_given_another_node_then_it_warns_with_both_numbers():
    finding = site_checks.check_node(POLARIS, NodeLook(128, 128, 2, 2), False)
    assert finding.status == "warn"
    assert "128 cores" in finding.found
    assert "cpu 32" in finding.found


def test_given_cores_that_are_kept_from_jobs_then_the_node_is_known_all_the_same():
    aurora = shipped("alcf-aurora")
    assert site_checks.check_node(aurora, NodeLook(104, 102, 2, 2), True).status == "ok"


def test_given_a_part_of_a_node_that_is_paid_for_as_a_whole_then_it_warns():
    finding = site_checks.check_node(POLARIS, dataclasses.replace(POLARIS_NODE, granted=1), True)
    assert finding.status == "warn"
    assert "this job has 1 cores of it" in finding.found
    assert "ask for all of its cores" in finding.remedy


def test_given_a_part_of_a_shared_node_then_it_is_ok():
    perlmutter = shipped("nersc-perlmutter")
    assert site_checks.check_node(perlmutter, NodeLook(128, 4, 2, 8), True).status == "ok"


def test_given_a_site_without_nodes_then_any_node_is_ok():
    assert site_checks.check_node(shipped("generic-slurm"), NodeLook(3, 1, 1, 1), True).status == "ok"


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_given_no_launcher_then_the_command_that_proves_it():
    finding = site_checks.check_ranks(POLARIS, Ranks(None, (rank(0, (0,)),)))
    assert (finding.status, finding.remedy) == ("warn", "in a job: mpiexec ... hpcxpcs doctor --site")
    assert site_checks.check_ranks(shipped("laptop"), Ranks(None, (rank(0, (0,)),))).status == "ok"


def test_given_as_many_ranks_as_were_started_then_ok_with_the_number_of_nodes():
    ranks = Ranks(Launched(2, "PMI_SIZE"), (rank(0, (0,)), rank(1, (0,), host="n2")))
    finding = site_checks.check_ranks(POLARIS, ranks)
    assert (finding.status, finding.found) == ("ok", "2 on 2 nodes, as many as were started")


def test_given_each_rank_in_a_world_of_its_own_then_it_fails_in_words():
    finding = site_checks.check_ranks(POLARIS, Ranks(Launched(4, "PMI_SIZE"), (rank(0, (0,)),), "Open MPI v5"))
    assert finding.status == "fail"
    assert "started 4 processes" in finding.found
    assert finding.remedy


def test_given_fewer_ranks_than_were_started_then_it_fails():
    ranks = Ranks(Launched(4, "PMI_SIZE"), (rank(0, (0,)), rank(1, (1,))))
    finding = site_checks.check_ranks(POLARIS, ranks)
    assert finding.status == "fail"
    assert "but 4 were started" in finding.found


def test_given_ranks_with_cores_of_their_own_then_the_map_is_shown():
    finding = site_checks.check_binding([rank(0, (0, 1)), rank(1, (2, 3)), rank(2, (0, 1), host="n2")])
    assert finding.status == "ok"
    assert finding.found == "CPUs by rank, chosen by the launcher: n1/0: 0-1, n1/1: 2-3, n2/2: 0-1"


def test_given_ranks_on_the_same_cores_then_they_are_named():
    finding = site_checks.check_binding([rank(0, (0,)), rank(1, (0,)), rank(2, (1,))])
    assert finding.status == "warn"
    assert finding.found.startswith("ranks 0, 1 share their CPUs with others")


def test_given_many_ranks_then_the_line_stays_short():
    finding = site_checks.check_binding([rank(number, (number,)) for number in range(128)])
    assert len(finding.found) < 120


def test_given_a_node_that_does_not_see_the_folder_then_it_fails_and_names_it(tmp_path):
    finding = site_checks.check_shared(tmp_path, [rank(0, (0,)), rank(1, (0,), host="n2", sees=False)])
    assert finding.status == "fail"
    assert finding.found.endswith("is not seen on n2")


class Threads:
    """A fake MPI world whose ranks are threads of this process; it has the three calls that are needed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.meet = threading.Barrier(size, timeout=20)
        self.sent: dict[int, object] = {}
        self.local = threading.local()

    @property
    def rank(self) -> int:
        return self.local.rank

    def bcast(self, obj):
        self.sent[self.rank] = obj
        self.meet.wait()
        return self.sent[0]

    def barrier(self) -> None:
        self.meet.wait()

    def gather(self, sendobj):
        self.meet.wait()
        self.sent[self.rank] = sendobj
        self.meet.wait()
        return [self.sent[number] for number in range(self.size)] if self.rank == 0 else None


def in_threads(size: int, folder: Path):
    world = Threads(size)

    def one(number: int):
        world.local.rank = number
        return site_checks.together(world, folder, {})

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def test_given_ranks_in_one_folder_then_all_see_it_and_nothing_stays_behind(tmp_path):
    reports, *others = in_threads(3, tmp_path)
    assert others == [None, None]
    assert [report.rank for report in reports] == [0, 1, 2]
    assert all(report.sees for report in reports)
    assert list(tmp_path.iterdir()) == []


def test_given_a_folder_that_cannot_be_written_then_no_rank_waits_for_ever(tmp_path):
    reports, *_ = in_threads(2, tmp_path / "absent")
    assert [report.sees for report in reports] == [False, False]


PROGRAM = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from hpcxpcs.config.site import find_site
from hpcxpcs.workers.site_checks import examine_site, look_around
folder = Path(sys.argv[1])
ranks = look_around(folder)
if ranks is not None:
    print(json.dumps([asdict(finding) for finding in examine_site(find_site("laptop"), ranks, folder)]))
"""


def test_given_two_real_ranks_then_they_count_each_other_and_have_their_cores(tmp_path):
    child = subprocess.run(
        [
            MPIEXEC,
            "-launcher",
            "fork",
            "-iface",
            "lo",
            "-n",
            "2",
            sys.executable,
            "-c",
            PROGRAM,
            str(tmp_path),
        ],
        env={**without_launcher(os.environ), "XDG_CONFIG_HOME": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    findings = {finding["name"]: finding for finding in json.loads(child.stdout)}
    assert findings["ranks"]["found"] == "2 on 1 node, as many as were started"
    assert findings["binding"]["found"].count("/0: ") == 1
    assert findings["shared folder"]["status"] == "ok"
    assert {findings[name]["status"] for name in ("site", "save", "take-over", "launcher")} <= {"ok", "warn"}
    assert list(tmp_path.iterdir()) == []


# --- saving and taking over -------------------------------------------------------------------------------------------


def test_given_a_good_folder_then_a_save_and_a_take_over_work_and_nothing_stays_behind(tmp_path):
    assert site_checks.check_save(tmp_path).status == "ok"
    assert site_checks.check_take_over(tmp_path, lease=0.1).status == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", [site_checks.check_save, site_checks.check_take_over])
def test_given_a_read_only_folder_then_it_fails_with_the_reason(tmp_path, monkeypatch, check):
    def refuse(*arguments, **settings):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    finding = check(tmp_path)
    assert finding.status == "fail"
    assert "Read-only" in finding.found


def test_given_a_full_disk_then_saving_fails_with_the_reason(tmp_path, monkeypatch):
    def refuse(*arguments, **settings):
        raise OutputError("the disk is full")

    monkeypatch.setattr(site_checks, "write_sealed", refuse)
    finding = site_checks.check_save(tmp_path)
    assert (finding.status, finding.found) == ("fail", f"{tmp_path}: the disk is full")


def test_given_a_disk_that_forgets_the_file_before_then_saving_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(site_checks, "newest_good", lambda *arguments, **settings: None)
    finding = site_checks.check_save(tmp_path)
    assert finding.status == "fail"
    assert "the file before a damaged one is not found" in finding.found


def test_given_a_file_system_that_lets_two_claim_then_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(site_checks, "take", lambda folder, name, lease: object())
    finding = site_checks.check_take_over(tmp_path, lease=0.01)
    assert finding.status == "fail"
    assert "two processes can claim one task" in finding.found


def test_given_a_clock_that_stands_still_then_no_claim_is_ever_void(tmp_path, monkeypatch):
    taken = iter([object()])
    monkeypatch.setattr(site_checks, "take", lambda folder, name, lease: next(taken, None))
    monkeypatch.setattr(site_checks, "TAKE_OVER_SECONDS", 0.05)
    finding = site_checks.check_take_over(tmp_path, lease=0.01)
    assert finding.status == "fail"
    assert "stands still" in finding.found


# --- all together -----------------------------------------------------------------------------------------------------


def test_given_this_machine_then_every_check_is_there_once(tmp_path):
    chosen = ChosenSite(shipped("generic-pbs"), "asked for by --site")
    ranks = site_checks.look_around(tmp_path, {})
    assert ranks is not None
    findings = list(site_checks.examine_site(chosen, ranks, tmp_path, IN_JOB, found_everywhere))
    assert [finding.name for finding in findings] == [
        "site",
        "scheduler",
        "launcher",
        "time limit",
        "node",
        "ranks",
        "binding",
        "save",
        "take-over",
    ]
    assert all(finding.remedy for finding in findings if finding.status != "ok")
