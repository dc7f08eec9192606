"""Which batch job a process belongs to, from what schedulers put into its environment."""

from __future__ import annotations

import pytest

from hpcxpcs.runtime.batch_job import batch_job


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
