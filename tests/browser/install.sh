#!/usr/bin/env bash
# Debian's headless Chromium for the tests of pages. Does nothing where a Chromium is installed, or cannot be.
set -euo pipefail

for program in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$program" > /dev/null; then exit 0; fi
done
here=$(dirname "${BASH_SOURCE[0]}")
exec "$here/../install_debian.sh" Chromium "tests of pages" chromium-headless-shell
