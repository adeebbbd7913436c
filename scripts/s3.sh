#!/usr/bin/env bash
# An object store that speaks Amazon's S3, on this machine, for tests and to try things: it listens on 127.0.0.1 only.
#
#   scripts/s3.sh setup     gets the server (Versity's gateway) by Go's module proxy: some minutes, the first time only
#   scripts/s3.sh start     starts it, with a bucket named `data`, and prints npyflow's options for it
#   scripts/s3.sh status    whether it runs
#   scripts/s3.sh stop      stops it and removes what it has stored
#
# From the environment:
#   NPYFLOW_S3_CACHE   where the program is kept (~/.cache/npyflow/s3)
#   NPYFLOW_S3_DIR     where a server has its objects and its log ($NPYFLOW_S3_CACHE/server)
#   NPYFLOW_S3_PORT    its port (7070)

set -euo pipefail

VERSION=v1.8.0
CACHE="${NPYFLOW_S3_CACHE:-$HOME/.cache/npyflow/s3}"
DIR="${NPYFLOW_S3_DIR:-$CACHE/server}"
PORT="${NPYFLOW_S3_PORT:-7070}"
PROGRAM="$CACHE/versitygw-$VERSION"
ENDPOINT="http://127.0.0.1:$PORT"
ACCESS=npyflow SECRET=npyflow-secret

say() { printf 's3: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

setup() {
  [ -x "$PROGRAM" ] && return
  command -v go >/dev/null || fail "expected go; found none on PATH (on Debian and Ubuntu: golang)"
  mkdir -p "$CACHE"
  local work
  work="$(mktemp -d "$CACHE/build.XXXXXX")"
  say "compiling $(basename "$PROGRAM"), some minutes ..."
  if ! GOPATH="$work/go" GOCACHE="$work/cache" GOBIN="$work/bin" GOFLAGS=-modcacherw \
    go install -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSION" 2>"$work/log"; then
    tail -n 5 "$work/log" >&2
    rm -rf "$work"
    fail "it could not be had"
  fi
  mv "$work/bin/versitygw" "$PROGRAM"
  rm -rf "$work"
}

running() { [ -f "$DIR/pid" ] && kill -0 "$(cat "$DIR/pid")" 2>/dev/null; }

answers() { curl --silent --output /dev/null --max-time 2 "$ENDPOINT"; }

start() {
  setup
  if ! running; then
    # Buckets are directories. What objects have beside their bytes lies apart: not every file system has room for it.
    mkdir -p "$DIR/objects/data" "$DIR/beside"
    ROOT_ACCESS_KEY="$ACCESS" ROOT_SECRET_KEY="$SECRET" nohup "$PROGRAM" --port "127.0.0.1:$PORT" --quiet --keep-alive \
      posix --sidecar "$DIR/beside" "$DIR/objects" >"$DIR/log" 2>&1 </dev/null &
    echo $! >"$DIR/pid"
    local tries=0
    until answers; do
      tries=$((tries + 1))
      if [ "$tries" -gt 100 ] || ! running; then
        tail -n 5 "$DIR/log" >&2
        fail "it did not start"
      fi
      sleep 0.1
    done
  fi
  printf -- '--storage_option=s3.%s\n' "endpoint_url=$ENDPOINT" "key=$ACCESS" "secret=$SECRET" \
    client_kwargs.region_name=us-east-1
}

stop() {
  if running; then
    local pid
    pid="$(cat "$DIR/pid")"
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  fi
  rm -rf "$DIR"
}

status() {
  if running; then say "process $(cat "$DIR/pid") at $ENDPOINT"; else say "not running"; fi
}

case "${1:-}" in
  setup | start | stop | status) "$1" ;;
  *) fail "expected setup, start, stop or status; found '${1:-}'" ;;
esac
