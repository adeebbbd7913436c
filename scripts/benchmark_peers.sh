#!/usr/bin/env bash
# Makes the environments of the other tools that scripts/benchmark.py measures, one for tools that go together, under $1
# (out/peers where it is not given), with python3 or $PYTHON. Arguments after it name the environments to make; all
# where there are none. One that is there already is left as it is. One that cannot be made is no error here: NAME.failed
# says why, and the benchmark's tables repeat it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONHOME PYTHONPATH

declare -A PACKAGES=(
  [grain]='grain array-record'
  [ray]='ray[data] tensorflow==2.21.0 crc32c'
  [tfds]='tensorflow-datasets tensorflow==2.21.0 importlib_resources'
  # PyPI has PyTorch for Linux with CUDA only; the benchmark hides the GPUs, so that it runs on the CPU.
  [torch]='torch mosaicml-streaming webdataset datasets'
)

directory="${1:-out/peers}"
if [ $# -gt 1 ]; then names=("${@:2}"); else names=(grain ray tfds torch); fi
mkdir -p "$directory"
for name in "${names[@]}"; do
  if [ -z "${PACKAGES[$name]:-}" ]; then
    printf 'benchmark_peers: expected one of %s; found %s\n' "${!PACKAGES[*]}" "$name" >&2
    exit 2
  fi
  target="$directory/$name"
  if [ -e "$target.made" ]; then continue; fi
  printf 'benchmark_peers: %s (%s)\n' "$name" "${PACKAGES[$name]}" >&2
  rm -rf "$target" "$target.failed"
  # shellcheck disable=SC2086  # several packages
  if "${PYTHON:-python3}" -m venv "$target" && "$target/bin/python" -m pip install --quiet \
    --disable-pip-version-check ${PACKAGES[$name]} >"$target.log" 2>&1; then
    touch "$target.made"
  else
    grep -v '^\s*$' "$target.log" | tail -n 1 >"$target.failed" || echo 'no environment could be made' >"$target.failed"
    printf 'benchmark_peers: %s cannot be made: %s\n' "$name" "$(cat "$target.failed")" >&2
    rm -rf "$target"
  fi
done
