#!/usr/bin/env bash
# Trains a small convolutional network on images with TensorFlow, PyTorch and JAX, on a GPU where there is one, and prints
# how much of a step is spent waiting for input: with the loaders, and with what is used in their place. Takes five minutes.
#
#   scripts/gpu_check.sh                       makes .venv, and installs PyTorch and JAX in it
#   PYTHON=… scripts/gpu_check.sh --data DIR   an environment and images that are there: nothing is installed or built
#
# What is not installed is left out, and said. Other options are those of scripts/gpu_check.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
  source scripts/environment.sh
  PYTHON="$VENV/bin/python"
  jax=jax
  if command -v nvidia-smi >/dev/null; then jax='jax[cuda12]'; fi
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch "$jax"
fi
exec "$PYTHON" -m scripts.gpu_check "$@"
