# PBS lets operators alone put a job back into the queue: the next job on the same run continues it.
if [[ $code == 75 ]]; then echo "=== stopped with everything saved (sent a TERM: $term): the next job continues"; fi
