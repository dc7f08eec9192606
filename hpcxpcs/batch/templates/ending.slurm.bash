# 75: stopped before the time limit, everything saved. After a TERM, Slurm decides alone whether the job runs again.
if [[ $code == 75 && $term == no ]]; then
    if ((${SLURM_RESTART_COUNT:-0} < @{restarts})); then
        echo "=== stopped in time with everything saved: back into the queue"
        scontrol requeue "$task" || echo "=== scontrol requeue failed: submit this script again"
    else
        echo "=== stopped in time, but restarted ${SLURM_RESTART_COUNT} times already: not put back into the queue"
    fi
fi
