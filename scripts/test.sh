#!/usr/bin/env bash
# Runs the tests, slow ones last; arguments go to pytest: scripts/test.sh -m "not slow" -k manifest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"
exec "$VENV/bin/python" -m pytest "$@"
