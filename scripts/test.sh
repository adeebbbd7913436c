#!/usr/bin/env bash
# Runs the tests, on each core.
#
#   scripts/test.sh          the quick ones: some minutes
#   scripts/test.sh --all    then the slow ones: whole builds, kills, memory, the README, the demo
#   scripts/test.sh --slow   the slow ones alone
#   scripts/test.sh …        anything else goes to pytest, in one process: scripts/test.sh tests/pipelines/steps -k median
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

# A process for each core, up to four, and so many more as $2 says; the rest goes to pytest. TensorFlow is imported once by
# each. -rs prints why a test was skipped. At its end pytest would collect garbage five times, for errors that Python could
# raise nowhere: a minute and more, with all that such a process has come to hold.
on_each_core() {
  local cores marked="$1" more="$2"
  shift 2
  cores="$("$VENV/bin/python" -c 'import os; print(min(4, os.cpu_count() or 1))')"
  "$VENV/bin/python" -m pytest -q -rs -p no:unraisableexception --numprocesses "$((cores + more))" -m "$marked" "$@"
}
# Runs of neighbours go to a process, and who is done takes some of another's.
quick() { on_each_core "not slow" 0 --dist worksteal; }
# A file stays together, as it has a cluster or a build for all its tests; tests/conftest.py says which come first. Two
# processes more, as some wait: for a cluster, or for what they have killed.
slow() { on_each_core slow 2 --dist loadfile --no-loadscope-reorder; }

case "$*" in
  "" | --quick)
    quick
    npyflow_say "the quick tests pass; scripts/test.sh --all adds the slow ones: whole builds by the command line, kills and full"
    npyflow_say "disks, memory, programs that import TensorFlow, PyTorch and JAX, Flink and S3, the README and the demo"
    ;;
  --all) quick && slow ;;
  --slow) slow ;;
  *) exec "$VENV/bin/python" -m pytest "$@" ;;
esac
