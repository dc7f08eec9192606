#!/bin/bash
# The call of a Python function, written by submitit's PBS executor and handed in with
#   qsub -N submitit -r y -l 'select=1:ncpus=4:mpiprocs=4' -l 'walltime=00:05:00' -- /bin/bash -l /shared/log/%j/script.sh

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
export SUBMITIT_PBS_TASKS=4
export SUBMITIT_PBS_TASKS_PER_NODE=4
export SUBMITIT_PBS_WARNING=90
export SUBMITIT_PBS_AGAIN='-N submitit -r y -l select=1:ncpus=4:mpiprocs=4 -l walltime=00:05:00 -- /bin/bash -l /shared/log/%j/script.sh'
# PBS sends TERM to all processes before it kills them: this shell has to outlive the function
trap : TERM USR1 USR2

# command
task() {
    export SUBMITIT_PBS_RANK="${SUBMITIT_PBS_RANK:-${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PALS_RANKID:-0}}}}}"
    mkdir -p -- /shared/log/"$SUBMITIT_PBS_JOB_ID"
    exec python -m submitit.core._submit FOLDER >>/shared/log/"$SUBMITIT_PBS_JOB_ID"/"$SUBMITIT_PBS_JOB_ID"_"$SUBMITIT_PBS_RANK"_log.out 2>&1
}
ranks=()
for ((rank = 0; rank < 4; rank++)); do
    SUBMITIT_PBS_RANK=$rank task &
    ranks+=($!)
done
code=0
for rank in "${ranks[@]}"; do
    # a signal ends wait, not the process
    until wait "$rank"; ended=$?; ! kill -0 "$rank" 2>/dev/null; do :; done
    if ((ended > code)); then code=$ended; fi
    # the first one has saved its state, to go on later: so the others have to end too
    if ((rank == ranks[0] && ended == 255)); then kill -KILL "${ranks[@]}" 2>/dev/null; fi
done
exit $code
