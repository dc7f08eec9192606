#!/bin/bash
# The call of a Python function, written by submitit's PBS executor and handed in with
#   qsub -N submitit -r y -l 'select=1:ncpus=1:mpiprocs=1' -l 'walltime=00:05:00' -- /bin/bash -l /shared/log/script.sh

cd -- "${PBS_O_WORKDIR:-.}" || echo "the folder of the submission is gone, going on in $PWD" >&2
export SUBMITIT_EXECUTOR=pbs
# what is left of a task is handed in again as a new job, and goes on under the old id
export SUBMITIT_PBS_JOB_ID="${SUBMITIT_PBS_GOES_ON_WITH:-$PBS_JOBID}"
unset SUBMITIT_PBS_GOES_ON_WITH SUBMITIT_PBS_RANK  # jobs that this one submits must not inherit them
export SUBMITIT_PBS_ARRAY="${SUBMITIT_PBS_JOB_ID/\[*\]/[]}"
SUBMITIT_PBS_INDEX="${SUBMITIT_PBS_JOB_ID#*[}"
export SUBMITIT_PBS_INDEX="${SUBMITIT_PBS_INDEX%%]*}"
SUBMITIT_PBS_STARTED="$(date +%s.%N)"
export SUBMITIT_PBS_STARTED
export SUBMITIT_PBS_NODES=1
export SUBMITIT_PBS_TASKS=1
export SUBMITIT_PBS_TASKS_PER_NODE=1
export SUBMITIT_PBS_WARNING=90
export SUBMITIT_PBS_AGAIN='-N submitit -r y -l select=1:ncpus=1:mpiprocs=1 -l walltime=00:05:00 -- /bin/bash -l /shared/log/script.sh'
# PBS sends TERM to all processes before it kills them: this shell has to outlive the function
trap : TERM USR1 USR2

# setup
module load python

# command
task() {
    export SUBMITIT_PBS_RANK="${SUBMITIT_PBS_RANK:-${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PALS_RANKID:-0}}}}}"
    mkdir -p -- /shared/log
    exec python -m submitit.core._submit FOLDER >>/shared/log/"$SUBMITIT_PBS_JOB_ID"_"$SUBMITIT_PBS_RANK"_log.out 2>>/shared/log/"$SUBMITIT_PBS_JOB_ID"_"$SUBMITIT_PBS_RANK"_log.err
}
(SUBMITIT_PBS_RANK=0 task)
code=$?

# teardown
echo $code
exit $code
