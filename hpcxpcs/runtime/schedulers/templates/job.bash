#!/usr/bin/env bash
@{header}

# @{purpose}
# By hand: @{by_hand}
set -eo pipefail
@{run}

# One log per task, written while it runs; what @{scheduler} itself has to say goes to @{own_output}.
@{identity}
task=$job${index:+_$index}
if [[ ! -d $RUN ]]; then echo "There is no run folder $RUN." >&2; exit 1; fi
mkdir -p "$RUN/logs"
exec >> "$RUN/logs/@{kind}-$task.log" 2>&1
echo "=== @{kind} $task on $(uname -n), $(date '+%F %T')@{restart}"
trap '' USR1   # a warning that comes before the program listens must not end anything
@{setup}
set -u

@{command} &
child=$!

# Signals often reach this shell alone: hand them on, and wait until the program has really ended.
caught=no term=no code=
trap 'caught=yes; kill -s USR1 "$child" 2> /dev/null || true' USR1
trap 'caught=yes term=yes; kill -s TERM "$child" 2> /dev/null || true' TERM
while :; do   # `wait` also returns for a signal: then again
    caught=no status=0
    wait "$child" || status=$?
    if [[ -z $code || $status -ne 127 ]]; then code=$status; fi   # 127: it was waited for already
    if [[ $caught == no ]]; then break; fi
done

@{ending}
exit "$code"
