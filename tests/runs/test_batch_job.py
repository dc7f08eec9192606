"""Which batch job a process belongs to, from what schedulers put into its environment."""

from __future__ import annotations

import pytest

from hpcxpcs.runs.job import batch_job
from hpcxpcs.workers.preemption import with_scheduler_programs


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, {}),
        ({"SLURM_JOB_ID": "12"}, {"job": "12", "restarts": 0}),
        ({"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2"}, {"job": "12", "restarts": 2}),
        (
            {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"},
            {"job": "12_3", "restarts": 0},
        ),
        ({"PBS_JOBID": "12[3].server"}, {"job": "12[3].server"}),
    ],
)
def test_given_an_environment_then_events_say_so_much_of_the_job(environ, said):
    assert batch_job(environ) == said


def test_given_a_node_without_the_programs_of_pbs_on_path_then_they_are_looked_for_where_they_are(tmp_path):
    configuration = tmp_path / "pbs.conf"
    configuration.write_text("PBS_SERVER=vm\nPBS_EXEC=/opt/there\nPBS_START_MOM=1\n")
    found = with_scheduler_programs(
        {"PATH": "/usr/bin", "PBS_O_PATH": "/home/me/bin:/opt/pbs/bin", "PBS_CONF_FILE": str(configuration)}
    )
    assert found["PATH"] == "/usr/bin:/home/me/bin:/opt/pbs/bin:/opt/there/bin"
    told = with_scheduler_programs({"PATH": "/usr/bin", "PBS_EXEC": "/opt/told", "PBS_CONF_FILE": "/none"})
    assert told["PATH"] == "/usr/bin:/opt/told/bin"
    assert with_scheduler_programs({"PATH": "/bin", "PBS_CONF_FILE": "/none"})["PATH"] == "/bin"
