#!/usr/bin/env bash
# Tries the shortest code of a user of each tool (scripts/interop/tools/) on fresh builds of every dtype, prints a table, and
# with --write puts it into docs/reference/interop.md. Makes an environment for each folder of tools under $1 (out/interop
# where it is not given), with python3.11 or $PYTHON; one that is there already, with a file NAME.made beside it, is left as
# it is. One that cannot be made is no error here: the table says why. Ends with 1 where a tool gave wrong values, or an error
# that its file does not expect.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
write=""
if [ "${1:-}" = --write ]; then
  write=--write
  shift
fi
directory="${1:-out/interop}"

declare -A PACKAGES=(
  [jax]='jax flax optax orbax-checkpoint grain keras'
  [ray]='ray[data] tensorflow'
  [tables]='polars duckdb dask[dataframe] pyarrow pandas tfrecord pyspark'
  [tfx]='tfx>=1.21 setuptools wheel'
  [torch]='torch torchdata array-api-compat lightning accelerate transformers datasets keras onnx onnxruntime onnxscript'
  [streaming]='mosaicml-streaming'
)
# What of this project an environment needs besides the loaders: TFX's Transform runs pipelines.analyzers.
declare -A EXTRAS=([tfx]='[pipelines]')

# By uv, where it is there: pip tries versions of TFX's hundred packages for more than ten minutes.
install() {
  if python -m uv --version >/dev/null 2>&1; then
    python -m uv pip install --quiet --python "$@"
  else
    "$1" -m pip install --quiet "${@:2}"
  fi
}

mkdir -p "$directory"
for name in "${!PACKAGES[@]}"; do
  target="$directory/$name"
  if [ -e "$target.made" ]; then continue; fi
  printf 'interop: %s (%s)\n' "$name" "${PACKAGES[$name]}" >&2
  rm -rf "$target" "$target.failed"
  # shellcheck disable=SC2086  # several packages
  if "${PYTHON:-python3.11}" -m venv "$target" &&
    install "$target/bin/python" --editable ".${EXTRAS[$name]:-}" ${PACKAGES[$name]} >"$target.log" 2>&1; then
    touch "$target.made"
  else
    grep -v '^\s*$' "$target.log" | tail -n 1 >"$target.failed" || echo 'no environment could be made' >"$target.failed"
    printf 'interop: %s cannot be made: %s\n' "$name" "$(cat "$target.failed")" >&2
  fi
done
rm -rf "$directory/work"
PYTHONPATH="$PWD:scripts" python -m interop.data "$directory/work"
PYTHONPATH="$PWD:scripts" python -m interop.table "$directory" $write
