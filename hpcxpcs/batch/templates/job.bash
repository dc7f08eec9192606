#!/usr/bin/env bash
@{header}

# @{purpose}
# By hand: @{by_hand}
set -eo pipefail
@{variables}

# One log per task, written while it runs; what @{scheduler} itself has to say goes to @{own_output}.
@{identity}
task=$job${index:+_$index}
if [[ ! -d $RUN ]]; then echo "There is no run folder $RUN." >&2; exit 1; fi
@{umask}mkdir -p "$RUN/logs"
exec >> "$RUN/logs/@{kind}-$task.log" 2>&1
echo "=== @{kind} $task on $(uname -n), $(date '+%F %T')@{restart}"

trap '' USR1   # a warning that comes before the program listens must not end anything
@{setup}set -u

@{launcher}@{command} &
child=$!

# Signals often reach this shell alone: hand them on, and stay until the program has really ended. Not by `wait`:
# it returns for a signal, and one that comes as the program ends makes it forget the exit code (bash 5.2).
term=no
trap 'kill -s USR1 "$child" 2> /dev/null || true' USR1
trap 'term=yes; kill -s TERM "$child" 2> /dev/null || true' TERM
while kill -0 "$child" 2> /dev/null; do { sleep 1 || true; } 2> /dev/null; done
trap '' USR1 TERM
code=0
wait "$child" || code=$?

@{ending}
exit "$code"
