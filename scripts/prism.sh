#!/usr/bin/env bash
# Prism, the local runner that Beam is written for next, by Go's module proxy: some minutes, the first time only.
#
#   scripts/prism.sh setup    makes it, and prints where it is: npyflow build … --runner=PrismRunner --prism_location=FILE
#
# It listens on all network interfaces, so run it behind a firewall, or as tests/support/prism.py does. From the environment:
#   NPYFLOW_PRISM_CACHE   where the program is kept (~/.cache/npyflow/prism)

set -euo pipefail

CACHE="${NPYFLOW_PRISM_CACHE:-$HOME/.cache/npyflow/prism}"
VERSION="$(sed -n 's/^apache-beam==//p' "$(dirname "${BASH_SOURCE[0]}")/../constraints.txt")"
PROGRAM="$CACHE/prism-$VERSION"

say() { printf 'prism: %s\n' "$*" >&2; }

setup() {
  if [ ! -x "$PROGRAM" ]; then
    command -v go >/dev/null || { say "expected go; found none on PATH (on Debian and Ubuntu: golang)"; exit 1; }
    mkdir -p "$CACHE"
    local work
    work="$(mktemp -d "$CACHE/build.XXXXXX")"
    say "compiling $(basename "$PROGRAM"), some minutes ..."
    if ! GOPATH="$work/go" GOCACHE="$work/cache" GOBIN="$work/bin" GOFLAGS=-modcacherw \
      go install -ldflags '-s -w' "github.com/apache/beam/sdks/v2/go/cmd/prism@v$VERSION" 2>"$work/log"; then
      tail -n 5 "$work/log" >&2
      rm -rf "$work"
      exit 1
    fi
    mv "$work/bin/prism" "$PROGRAM"
    rm -rf "$work"
  fi
  printf '%s\n' "$PROGRAM"
}

case "${1:-}" in
  setup) setup ;;
  *) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
