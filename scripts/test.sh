#!/usr/bin/env bash
# Runs the tests, slow ones last, a file of them at a time on each core; --quick or --slow runs one half. Other arguments
# go to pytest, which then runs in one process: scripts/test.sh -m "not slow" -k manifest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

on_each_core() { "$VENV/bin/python" -m pytest -rs --numprocesses auto --maxprocesses 4 --dist loadfile -m "$1"; }

case "$*" in
  "") on_each_core "not slow" && on_each_core slow ;;
  --quick) on_each_core "not slow" ;;
  --slow) on_each_core slow ;;
  *) exec "$VENV/bin/python" -m pytest "$@" ;;
esac
