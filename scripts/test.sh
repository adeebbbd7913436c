#!/usr/bin/env bash
# Runs the tests, slow ones last, a file of them at a time on each core; --quick or --slow runs one half. Other arguments
# go to pytest, which then runs in one process: scripts/test.sh -m "not slow" -k manifest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

# A process for each core, up to four, and so many more as $2 says.
on_each_core() {
  local cores
  cores="$("$VENV/bin/python" -c 'import os; print(min(4, os.cpu_count() or 1))')"
  "$VENV/bin/python" -m pytest -rs --numprocesses "$((cores + $2))" --dist loadfile -m "$1"
}
quick() { on_each_core "not slow" 0; }
slow() { on_each_core slow 1; }  # of which one or the other waits: for a cluster, or for what it has killed

case "$*" in
  "") quick && slow ;;
  --quick) quick ;;
  --slow) slow ;;
  *) exec "$VENV/bin/python" -m pytest "$@" ;;
esac
