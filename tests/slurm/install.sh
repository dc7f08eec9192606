#!/usr/bin/env bash
# Debian's Slurm for tests/slurm, which start it themselves. Does nothing where it is installed, or cannot be.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

for program in slurmctld slurmd sbatch munged; do
    command -v "$program" > /dev/null || missing=$program
done
if [[ -z ${missing:-} ]]; then exit 0; fi
here=$(dirname "${BASH_SOURCE[0]}")
exec "$here/../install_debian.sh" "Slurm ($missing)" tests/slurm slurmctld slurmd slurm-client munge
