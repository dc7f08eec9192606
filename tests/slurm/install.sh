#!/usr/bin/env bash
# Debian's Slurm for tests/slurm, which start it themselves. Does nothing where it is installed, or cannot be.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

for program in slurmctld slurmd sbatch munged; do
    command -v "$program" > /dev/null || missing=$program
done
if [[ -z ${missing:-} ]]; then exit 0; fi
if [[ $EUID -ne 0 ]] || ! command -v apt-get > /dev/null; then
    echo "tests/slurm will be skipped: Slurm ($missing) is not installed, and only root can, on Debian or Ubuntu"
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing Slurm from Debian packages for tests/slurm"
export DEBIAN_FRONTEND=noninteractive
packages=(slurmctld slurmd slurm-client munge)
install() { apt-get install --yes --quiet --no-install-recommends --option DPkg::Lock::Timeout=300 "${packages[@]}"; }
# the second attempt is for lists of packages that are missing or old
if ! { install || { apt-get update --quiet && install; }; } > "$log" 2>&1; then
    cat "$log" >&2
    echo "Slurm could not be installed: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi
