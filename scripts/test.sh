#!/usr/bin/env bash
# Runs the tests, slow ones last, a file of them at a time on each core. Arguments go to pytest, which then runs alone:
# scripts/test.sh -m "not slow" -k manifest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"
if [ $# -gt 0 ]; then exec "$VENV/bin/python" -m pytest "$@"; fi
for tests in "not slow" slow; do
  "$VENV/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "$tests"
done
