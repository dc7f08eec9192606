#!/usr/bin/env bash
# install_debian.sh WHAT WHERE PACKAGE...: Debian packages for the tests in WHERE. Says so where it has no right to.
set -euo pipefail
what=$1 where=$2 packages=("${@:3}")

if [[ $EUID -ne 0 ]] || ! command -v apt-get > /dev/null; then
    echo "$where will be skipped: $what is not installed, and only root can, on Debian or Ubuntu"
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing $what from Debian packages for $where"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install --yes --quiet --no-install-recommends --option DPkg::Lock::Timeout=300 "${packages[@]}"; }
# the second attempt is for lists of packages that are missing or old
if ! { install || { apt-get update --quiet && install; }; } > "$log" 2>&1; then
    cat "$log" >&2
    echo "$what could not be installed: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi
