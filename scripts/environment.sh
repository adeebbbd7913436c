# Sourced by demo.sh, docs.sh, test.sh and .ci/run: makes .venv in the repository root, with the project and the tested versions
# of everything that it needs, unless it is there already. Defines ROOT and VENV, and puts the environment on PATH.
#
# Python is $PYTHON where that is set, else that of the environment that is there, else the first on PATH that will do.
# From the environment, too: NPYFLOW_VENV, where the environment is to be (.venv). Run as a program, it sets up that alone.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${NPYFLOW_VENV:-$ROOT/.venv}"
PYTHONS=(3.11 3.12 3.13)  # as setup.py says

# The environment holds everything; what the caller's shell adds to Python's path would shadow it. Where no bytecode may be
# written, each process compiles the project anew.
unset PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE

npyflow_say() { printf 'npyflow: %s\n' "$*" >&2; }

# Prints three lines: where and for which Python the environment is, the digest of what it is made from, and the
# interpreter to make it with, which is never that of an activated environment. Fails where $1 will not do.
npyflow_describe() {
  "$1" -I - "$ROOT" "${PYTHONS[@]}" 2>/dev/null <<'PYTHON'
import ensurepip, hashlib, pathlib, platform, sys, venv

version = "{}.{}".format(*sys.version_info)
if version not in sys.argv[2:]:
    sys.exit(1)
root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256()
for name in ("setup.py", "constraints.txt", "scripts/environment.sh"):
    digest.update((root / name).read_bytes())
print("Python", version, platform.machine(), root)
print(digest.hexdigest())
print(sys._base_executable)
PYTHON
}

# Prints the interpreter of a Python such as 3.12: the one on PATH, or one that pyenv has.
npyflow_python() {
  local candidate candidates=("python$1")
  if command -v pyenv >/dev/null; then candidates+=("$(pyenv root)/versions/$1".*/bin/python); fi
  for candidate in "${candidates[@]}"; do
    if npyflow_describe "$candidate" | grep -q "^Python $1 "; then
      npyflow_describe "$candidate" | tail -n 1
      return
    fi
  done
  return 1
}

# Sets NPYFLOW_PYTHON and NPYFLOW_STAMP.
npyflow_find_python() {
  local candidate description candidates=("$VENV/bin/python" python3 "${PYTHONS[@]/#/python}" python)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    if description="$(npyflow_describe "$candidate")"; then
      NPYFLOW_STAMP="${description%$'\n'*}"
      NPYFLOW_PYTHON="${description##*$'\n'}"
      return
    fi
  done
  npyflow_say "expected Python ${PYTHONS[*]} with its venv module; found none as ${candidates[*]}"
  npyflow_say "install one (on Debian and Ubuntu: python3 and python3-venv), or name it: PYTHON=/path/to/python3.12"
  return 1
}

# Installs by uv, which takes a fifth of pip's time: pip install's arguments, but for its ways of showing things. uv knows
# nothing of pip's configuration, so where that names another index of packages pip does it.
# Not compiled, as that takes as long as all else, and most of what TensorFlow brings along is never imported.
npyflow_pip() {
  local python="$VENV/bin/python" pip=("$VENV/bin/python" -m pip --disable-pip-version-check)
  if "${pip[@]}" config list 2>/dev/null | grep -q "index" ||
    ! "${pip[@]}" install --quiet --constraint "$ROOT/constraints.txt" uv; then
    "${pip[@]}" install --progress-bar off --no-compile --constraint "$ROOT/constraints.txt" "$@"
  else
    "$python" -m uv pip install --python "$python" --constraint "$ROOT/constraints.txt" "$@"
  fi
}

# The output goes to a log; a person sees that it moves on.
npyflow_install() {
  local log="$VENV/install.log"
  npyflow_pip --editable "$ROOT[pipelines,hdf5,zarr,arrayrecord,s3,gcs,demo,docs,dev]" 2>&1 | tee "$log" |
    while IFS= read -r line; do
      case "$line" in
        "Resolved "*) npyflow_say "  packages found" ;;
        "Prepared "* | "Installing collected"*) npyflow_say "  installing" ;;
      esac
    done || {
    npyflow_say "the installation failed; the end of $log:"
    tail -n 20 "$log" >&2
    return 1
  }
}

# The stamp is written last and removed first, so an environment without one was interrupted and is made anew.
npyflow_set_up() {
  local stamp="$VENV/npyflow-stamp" found=""
  npyflow_find_python || return 1
  if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ]; then found="$(cat "$stamp")"; fi
  if [ "$found" = "$NPYFLOW_STAMP" ]; then return; fi
  if [ "${found%%$'\n'*}" = "${NPYFLOW_STAMP%%$'\n'*}" ]; then
    npyflow_say "updating .venv: the requirements have changed"
    rm -f "$stamp"
  else
    npyflow_say "setting up .venv (a few minutes the first time, and about 3 GB)"
    rm -rf "$VENV"
    "$NPYFLOW_PYTHON" -m venv "$VENV" || return 1
  fi
  npyflow_install || return 1
  printf '%s\n' "$NPYFLOW_STAMP" >"$stamp"
  npyflow_say ".venv is ready"
}

npyflow_set_up || exit 1
PATH="$VENV/bin:$PATH"
export PATH
