#!/usr/bin/env bash
# Builds the documentation as a site, with two tutorials as notebooks, which are run. A broken link or anchor, or a docstring that cannot be read, is an error.
#
#   scripts/docs.sh          makes .venv, and builds to out/site: open out/site/index.html
#   scripts/docs.sh DIR      builds to DIR
#   PYTHON=… scripts/docs.sh   with an environment that is there: nothing is installed
set -euo pipefail
OUT="${1:-$(dirname "${BASH_SOURCE[0]}")/../out/site}"
mkdir -p "$OUT"
OUT="$(cd "$OUT" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
  source scripts/environment.sh
  PYTHON="$VENV/bin/python"
fi
"$PYTHON" -m scripts.docs
"$PYTHON" -m scripts.notebooks
export NO_MKDOCS_2_WARNING=1
"$PYTHON" -m mkdocs build --strict --site-dir "$OUT"
