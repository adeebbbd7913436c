#!/usr/bin/env bash
# Builds two real data sets under out/demo, trains a small model from the shards of each, and prints test accuracy.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"
# TensorFlow logs the absence of a GPU as an error; what really fails is an exception in Python.
export TF_CPP_MIN_LOG_LEVEL=3
exec "$VENV/bin/python" scripts/demo.py
