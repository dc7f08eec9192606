"""Which queue runs a job, what it costs at most, and what a refusal says; a made-up site, then the shipped ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.batch.jobs import Job, JobKind, Order, Resources
from hpcxpcs.batch.queues import core_hours, fit_to_queue
from hpcxpcs.config.site import Site, load_site, shipped_folder
from hpcxpcs.errors import ConfigError

HOUR = 3600
GIB = 1024**3
SHIPPED = sorted(path.stem for path in shipped_folder().glob("*.yaml"))
CLUSTER: dict[str, Any] = {
    "description": "a made-up cluster",
    "scheduler": "slurm",
    "nodes": {
        "thin": {"cores": 16, "smt": 2, "memory": "64 GiB"},
        "fat": {"cores": 32, "memory": "1024 GiB"},
    },
    "queues": {
        "test": {
            "node": "thin",
            "max_nodes": 1,
            "max_walltime": "0:30:00",
            "automatic": False,
            "notes": "tests",
        },
        "short": {
            "node": "thin",
            "max_nodes": 4,
            "max_walltime": "4:00:00",
            "max_running": 5,
            "max_queued": 20,
        },
        "long": {
            "node": "thin",
            "max_nodes": 16,
            "max_walltime": "96:00:00",
            "array": False,
            "exclusive": True,
        },
        "big": {"node": "fat", "max_nodes": 8, "max_walltime": "24:00:00", "default_walltime": "12:00:00"},
    },
    "default_queue": "short",
    "launcher": [
        "srun",
        "-n",
        "{ranks}",
        "-N",
        "{nodes}",
        "-c",
        "{cpus_per_rank}",
        "--depth={cores_per_rank}",
    ],
    "directives": ["--constraint=cpu"],
    "modules": ["mpich"],
}


def shipped(name: str) -> Site:
    """A shipped site, whatever sites the user of this machine has."""
    return load_site(shipped_folder() / f"{name}.yaml")


def cluster(**changes: Any) -> Site:
    """The made-up cluster with some keys changed."""
    return Site.model_validate({**CLUSTER, **changes}).located("cluster", None)


def fitted(kind: JobKind, site: Site | None = None, *, tasks: int = 1, **asked: Any) -> Job:
    """A job as a site runs it, by default the made-up cluster."""
    site = site or cluster()
    return fit_to_queue(site, Order(**asked), Job(site.scheduler, kind, Path("/runs/a"), tasks=tasks))


def refusal(kind: JobKind, site: Site | None = None, **asked: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        fitted(kind, site, **asked)
    return str(caught.value)


# --- choosing and filling in ------------------------------------------------------------------------------------------


def test_given_nothing_but_an_array_then_the_usual_queue_one_core_and_one_hour():
    fit = fitted("array", tasks=4)
    assert fit.queue == "short"
    assert fit.resources == Resources(walltime=HOUR, nodes=1, processes=1, cores=1)
    assert fit.core_hours == 4.0
    assert fit.workers == 1
    assert fit.launcher == ()


def test_given_a_job_too_long_for_the_usual_queue_then_the_smallest_that_runs_it():
    fit = fitted("mpi", ranks=8, walltime=10 * HOUR)
    assert fit.queue == "big"
    assert "smallest" in fit.why


def test_given_a_queue_of_arrays_then_arrays_go_there_and_mpi_jobs_do_not():
    site = cluster(array_queue="big")
    assert fitted("array", site, tasks=4).queue == "big"
    assert fitted("gather", site).queue == "big"
    assert fitted("mpi", site).queue == "short"


def test_given_a_named_queue_then_it_is_used_even_if_it_is_never_chosen():
    assert fitted("gather", queue="test", walltime=600).queue == "test"


def test_given_a_queue_with_a_short_limit_then_no_more_than_that_is_asked_for():
    assert fitted("gather", queue="test").resources.walltime == HOUR // 2


def test_given_a_usual_time_of_the_queue_then_it_is_asked_for():
    assert fitted("gather", queue="big").resources.walltime == 12 * HOUR


def test_given_whole_nodes_then_a_task_has_room_for_many_workers():
    fit = fitted("gather", queue="long", cores=2)
    assert (fit.resources.cores, fit.workers) == (16, 8)


def test_given_ranks_then_as_many_nodes_as_they_need():
    fit = fitted("mpi", ranks=40)
    assert (fit.resources.nodes, fit.resources.processes) == (3, 14)
    assert fit.launcher == ("srun", "-n", "42", "-N", "3", "-c", "2", "--depth=1")


def test_given_nodes_alone_then_ranks_fill_them():
    fit = fitted("mpi", nodes=2, cores=4)
    assert fit.resources == Resources(walltime=HOUR, nodes=2, processes=4, cores=4)
    assert fit.launcher == ("srun", "-n", "8", "-N", "2", "-c", "8", "--depth=4")


@pytest.mark.parametrize(
    ("tasks", "at_once", "throttle", "expected"),
    [(4, None, None, None), (10, None, None, 5), (10, 3, None, 3), (10, None, 2, 2), (3, 3, None, None)],
)
def test_given_limits_on_running_jobs_then_the_tightest_throttles_the_array(tasks, at_once, throttle, expected):
    site = cluster(array_throttle=throttle)
    assert fitted("array", site, tasks=tasks, at_once=at_once).at_once == expected


def test_given_a_fitting_queue_then_the_job_is_complete_and_keeps_its_own():
    job = Job("slurm", "array", Path("/runs/a"), "run", ("hpcxpcs", "work", "RUN"), tasks=4)
    complete = fit_to_queue(cluster(), Order(account="xpcs"), job)
    assert complete.queue == "short"
    assert complete.account == "xpcs"
    assert complete.resources.walltime == HOUR
    assert complete.setup[-1] == "module load mpich"
    assert complete.directives == ("--constraint=cpu",)
    assert (complete.name, complete.command, complete.tasks) == (job.name, job.command, job.tasks)


def test_given_a_site_where_a_queue_is_a_qos_then_a_directive_names_it():
    fit = fitted("array", cluster(queue_directive="--qos={queue}"), tasks=2)
    assert fit.queue is None
    assert fit.queue_name == "short"
    assert fit.directives == ("--qos=short", "--constraint=cpu")


# --- refusing ---------------------------------------------------------------------------------------------------------


def test_given_a_job_that_is_too_long_then_why_and_which_queues_would():
    assert refusal("mpi", queue="short", walltime=10 * HOUR) == (
        "queue short of cluster does not run this job: 10:00:00 is asked for, its longest is 4:00:00. "
        "These would: long (1-16 nodes, up to 96:00:00, no arrays), big (1-8 nodes, up to 24:00:00)"
    )


def test_given_too_many_nodes_then_the_one_that_has_them():
    text = refusal("mpi", queue="short", nodes=12)
    assert "12 nodes are asked for, its most are 4" in text
    assert text.endswith("These would: long (1-16 nodes, up to 96:00:00, no arrays)")


def test_given_an_array_where_none_is_allowed_then_why_and_which_queues_would():
    text = refusal("array", queue="long", tasks=3)
    assert "it takes no job arrays" in text
    assert "short" in text.split("These would:")[1]


def test_given_an_array_of_one_task_then_it_is_a_job_like_any_other():
    assert fitted("array", queue="long", tasks=1).queue == "long"


def test_given_too_much_memory_then_the_node_that_has_it():
    text = refusal("gather", queue="short", memory=100 * GIB)
    assert "100 GiB per node are asked for, its nodes have 64 GiB" in text
    assert "These would: big" in text


def test_given_more_cores_than_a_node_has_then_the_numbers():
    assert "24 cores per node are asked for, its nodes have 16" in refusal("gather", queue="short", cores=24)
    assert "20 x 2 cores per node are asked for" in refusal("mpi", queue="short", nodes=1, ranks=20, cores=2)


def test_given_more_tasks_than_the_queue_holds_then_the_job_that_gathers_counts_too():
    assert fitted("array", queue="short", tasks=19).queue == "short"
    assert "20 tasks and the job that gathers are 21, its most jobs at once are 20" in refusal(
        "array", queue="short", tasks=20
    )


def test_given_a_job_that_no_queue_runs_then_each_says_why():
    text = refusal("mpi", nodes=99, walltime=200 * HOUR)
    assert text.startswith("no queue of cluster is chosen for this job")
    assert [line.strip().split(":")[0] for line in text.splitlines()[1:]] == ["test", "short", "long", "big"]
    assert "99 nodes are asked for, its most are 16; 200:00:00 is asked for" in text


def test_given_a_named_queue_and_none_that_would_then_the_others_say_why_too():
    text = refusal("mpi", queue="short", nodes=99)
    assert "No other queue of the site does" in text
    assert text.count("short") == 1


def test_given_a_job_that_only_a_queue_never_chosen_runs_then_it_is_named():
    site = cluster(queues={"test": {"automatic": False, "notes": "by request"}, "tiny": {"max_nodes": 1}})
    site = Site.model_validate({**CLUSTER, "queues": site.queues, "default_queue": None}).located("cluster", None)
    assert "when named, these would run it: test (by request)" in refusal("mpi", site, nodes=4)


def test_given_a_misspelt_queue_then_the_nearest_and_how_to_add_one():
    text = refusal("gather", queue="shrot")
    assert "cluster has no queue 'shrot'; did you mean 'short'?" in text
    assert "extends: cluster" in text


def test_given_no_account_where_one_is_required_then_told_where_it_goes():
    site = cluster(account={"required": True})
    assert "without an account" in refusal("gather", site)
    assert fitted("gather", site, account="xpcs").account == "xpcs"
    paid = cluster(account={"required": True, "default": "group"})
    assert fitted("gather", paid).account == "group"


def test_given_a_site_without_queues_then_any_name_passes_unchecked():
    site = shipped("generic-slurm")
    fit = fitted("array", site, tasks=1000, queue="whatever", walltime=1000 * HOUR)
    assert fit.queue == "whatever"
    assert fitted("array", site, tasks=3).queue is None


# --- cost -------------------------------------------------------------------------------------------------------------


@given(
    tasks=st.integers(1, 1000),
    nodes=st.integers(1, 16),
    processes=st.integers(1, 16),
    walltime=st.integers(1, 96 * HOUR),
)
def test_given_any_job_then_whole_nodes_never_cost_less_than_what_is_used(tasks, nodes, processes, walltime):
    resources = Resources(walltime, nodes, processes)
    used = core_hours(resources, tasks, None)
    charged = core_hours(resources, tasks, cluster().nodes["thin"])
    assert used == pytest.approx(tasks * nodes * processes * walltime / HOUR)
    assert charged >= used
    assert charged == pytest.approx(tasks * nodes * 16 * walltime / HOUR)


@given(ranks=st.integers(1, 256), cores=st.integers(1, 16))
def test_given_any_number_of_ranks_then_all_have_their_cores_and_no_node_is_empty(ranks, cores):
    site = cluster(queues={"all": {"node": "thin"}}, default_queue="all")
    resources = fitted("mpi", site, ranks=ranks, cores=cores).resources
    assert resources.processes * cores <= 16
    assert ranks <= resources.nodes * resources.processes < ranks + resources.nodes
    assert resources.nodes == math.ceil(ranks / (16 // cores))


def test_given_an_array_on_whole_nodes_then_each_task_pays_for_a_node():
    site = cluster(queues={"long": {"node": "thin", "exclusive": True}}, default_queue="long")
    assert fitted("array", site, tasks=8, walltime=2 * HOUR).core_hours == 8 * 16 * 2


# --- the shipped sites ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(("kind", "asked"), [("array", {"tasks": 8}), ("gather", {}), ("mpi", {"ranks": 64})])
def test_given_a_shipped_site_then_an_ordinary_job_finds_a_queue(name, kind, asked):
    fit = fitted(kind, shipped(name), account="xpcs", **asked)
    assert fit.core_hours >= 1
    assert not any("{" in word for word in fit.launcher)


def test_given_polaris_then_prod_lasts_as_long_as_its_size_allows():
    polaris = shipped("alcf-polaris")
    asked = {"queue": "prod", "walltime": 4 * HOUR, "account": "xpcs"}
    text = refusal("mpi", polaris, nodes=12, **asked)
    assert "4:00:00 is asked for, its longest for 12 nodes is 3:00:00" in text
    assert fitted("mpi", polaris, nodes=30, **asked).core_hours == 30 * 32 * 4


def test_given_polaris_then_an_array_of_single_nodes_goes_where_it_may():
    polaris = shipped("alcf-polaris")
    assert fitted("array", polaris, tasks=8, account="xpcs").queue == "preemptable"
    text = refusal("array", polaris, tasks=8, queue="prod", account="xpcs")
    assert "1 node is asked for, its fewest are 10" in text
    assert "preemptable" in text.split("These would:")[1]


def test_given_perlmutter_then_arrays_share_nodes_and_mpi_jobs_get_whole_ones():
    perlmutter = shipped("nersc-perlmutter")
    array, mpi = fitted("array", perlmutter, tasks=8), fitted("mpi", perlmutter, ranks=256)
    assert (array.queue_name, array.core_hours) == ("shared", 8.0)
    assert (mpi.queue_name, mpi.core_hours) == ("regular", 256.0)
    assert mpi.directives[:2] == ("--qos=regular", "--constraint=cpu")
    assert mpi.launcher == ("srun", "-n", "256", "--ntasks-per-node=128", "-c", "2", "--cpu-bind=cores")
