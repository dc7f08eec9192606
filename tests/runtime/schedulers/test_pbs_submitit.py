"""submitit's own tests, run over the PBS executor on a transport that is not a PBS (fake_pbs).

They are the functions of the installed submitit, unchanged; submitit_suite.py puts PbsExecutor, PbsJob and
PbsJobEnvironment where they name their own. Those that cannot run over another executor, and what stands for them in
test_pbs_executor.py:

* local/test_local.py: test_local_job (ends by looking at `_process` of a child), test_killed and test_cancel (send
  signals to that child, and want the state INTERRUPTED), test_make_subprocess (starts the local controller),
  test_setup (asks AutoExecutor for the cluster "local"), test_long_running_job (sleeps for two minutes). Ranks,
  pickled jobs, kills, cancelling and setup are tested by ours.
* local/test_debug.py: test_debug_triggered, test_cancel and test_job_environment (a function that runs in the same
  process when its result is asked for).
* slurm/test_slurm.py: what reads or writes Slurm's own words: ids (`12`, `12_3`, `12_[2-4]`), the output of sacct and
  sbatch, lines of #SBATCH, node lists, slurm_ parameters. Ours do the same with those of PBS.
* auto/test_auto.py: all that ask for "slurm" or "local" by name. Ours ask for "pbs".
* core/test_core.py: test_fake_job (wants a job that no scheduler knows to be running), test_fake_job_cancel_at_deletion
  (counts calls of subprocess.call) and test_fake_executor (wants the id 12).
* core/test_plugins.py: test_find_good_plugin and test_skip_bad_plugin want no other plugin to be installed at all.
* core/test_async.py needs a pytest plugin for coroutines, test_helpers.py::test_as_completed compares wall times, and
  the snapshot tests need the source repository of submitit.
* core/test_utils.py, test_helpers.py (the rest) and test_documentation.py use no executor of a cluster.
"""

from __future__ import annotations

import pytest
from submitit.auto.test_auto import test_redirect_stdout_stderr
from submitit.conftest import fast_forward_clock, weird_tmp_path
from submitit.core.test_core import (
    test_fake_executor_batch,
    test_max_pickle_size_gb,
    test_unpickling_watcher_registration,
)
from submitit.core.test_plugins import (
    test_env,
    test_executors,
    test_finds_default_environments,
    test_finds_default_executors,
    test_job_environment_raises_outside_of_job,
    test_job_environment_works,
)
from submitit.local.test_debug import (
    test_debug_error,
    test_debug_job,
    test_debug_map_array,
    test_debug_submit_array,
)
from submitit.local.test_local import (
    test_custom_checkpoint,
    test_get_first_task_error,
    test_load_submission,
    test_local_error,
    test_local_map_array,
    test_local_submit_array,
    test_pickle_output_from_main,
    test_requeuing,
    test_stdout,
    test_weird_dir,
)
from submitit.slurm.test_slurm import (
    test_checkpoint_and_exit,
    test_get_id_from_submission_command_raise,
    test_requeuing_checkpointable,
    test_requeuing_not_checkpointable,
    test_slurm_error_mocked,
    test_slurm_job_no_stderr,
    test_update_parameters_error,
)
from submitit.test_pickle import test_nested_pickling, test_submitit_respects_main, test_weakref_with_pickle

from tests.runtime.schedulers.submitit_suite import pbs_executor, pbs_in_their_place

pytestmark = pytest.mark.usefixtures("over_pbs")

__all__ = [
    "fast_forward_clock",
    "pbs_executor",
    "pbs_in_their_place",
    "test_checkpoint_and_exit",
    "test_custom_checkpoint",
    "test_debug_error",
    "test_debug_job",
    "test_debug_map_array",
    "test_debug_submit_array",
    "test_env",
    "test_executors",
    "test_fake_executor_batch",
    "test_finds_default_environments",
    "test_finds_default_executors",
    "test_get_first_task_error",
    "test_get_id_from_submission_command_raise",
    "test_job_environment_raises_outside_of_job",
    "test_job_environment_works",
    "test_load_submission",
    "test_local_error",
    "test_local_map_array",
    "test_local_submit_array",
    "test_max_pickle_size_gb",
    "test_nested_pickling",
    "test_pickle_output_from_main",
    "test_redirect_stdout_stderr",
    "test_requeuing",
    "test_requeuing_checkpointable",
    "test_requeuing_not_checkpointable",
    "test_slurm_error_mocked",
    "test_slurm_job_no_stderr",
    "test_stdout",
    "test_submitit_respects_main",
    "test_unpickling_watcher_registration",
    "test_update_parameters_error",
    "test_weakref_with_pickle",
    "test_weird_dir",
    "weird_tmp_path",
]
