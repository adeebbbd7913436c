#!/usr/bin/env bash
# A Flink cluster on this machine, from package registries, listening on 127.0.0.1 only; docs/how-to/flink.md says more.
#
#   scripts/flink.sh setup           gets everything (some minutes the first time; start does it too)
#   scripts/flink.sh start           starts one JobManager and two TaskManagers, or those that are missing
#   scripts/flink.sh submit SRC OUT [OPTION…]    npyflow build on it, or on that of --flink_master=HOST:PORT
#   scripts/flink.sh status          what runs
#   scripts/flink.sh stop            stops it and removes what it has left
#
# From the environment:
#   PYTHON                  a Python that has npyflow and Beam; .venv, made as needed, if not given
#   FLINK_HOME_CACHE        where everything is kept (~/.cache/npyflow/flink)
#   NPYFLOW_FLINK_DIR       where a cluster has its settings, logs and temporary files ($FLINK_HOME_CACHE/cluster)
#   NPYFLOW_FLINK_PORT      the port of the address that jobs are sent to, and of the web page (8081)
#   NPYFLOW_FLINK_RPC_PORT  the port that TaskManagers register at (6123)
#   NPYFLOW_FLINK_MANAGERS  how many TaskManagers (2)
#   NPYFLOW_FLINK_SLOTS     the slots of each (2)

set -euo pipefail

FLINK_VERSION=1.19.3
BEAM_VERSION=2.77.0

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
CACHE="${FLINK_HOME_CACHE:-$HOME/.cache/npyflow/flink}"
DIR="${NPYFLOW_FLINK_DIR:-$CACHE/cluster}"
PORT="${NPYFLOW_FLINK_PORT:-8081}"
RPC_PORT="${NPYFLOW_FLINK_RPC_PORT:-6123}"
MANAGERS="${NPYFLOW_FLINK_MANAGERS:-2}"
SLOTS="${NPYFLOW_FLINK_SLOTS:-2}"

DISTRIBUTION="$CACHE/flink-$FLINK_VERSION"
CLASSES="$CACHE/beam-$BEAM_VERSION-flink-$FLINK_VERSION.jar"
SUBMITTED="$CACHE/submitted-$BEAM_VERSION.jar"
BOOT="$CACHE/boot-$BEAM_VERSION"
REST="http://127.0.0.1:$PORT"

say() { printf 'flink: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

# Sets PYTHON to an interpreter that has npyflow.
find_python() {
  if [ -z "${PYTHON:-}" ]; then
    # shellcheck source=scripts/environment.sh
    . "$HERE/environment.sh"
    PYTHON="$VENV/bin/python"
  fi
  PYTHON="$(command -v "$PYTHON")" || fail "PYTHON: expected a program; found none of this name"
}

need() {
  local missing=() each
  for each in "$@"; do command -v "$each" >/dev/null || missing+=("$each"); done
  if [ "${#missing[@]}" -gt 0 ]; then
    fail "expected ${missing[*]}; found none on PATH (on Debian and Ubuntu: openjdk-17-jre-headless, maven, golang, curl)"
  fi
}

check_java() {
  need java
  local version
  version="$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)"
  case "$version" in
    11 | 17) ;;
    *) fail "expected Java 11 or 17, which Flink $FLINK_VERSION runs on; found ${version:-none} ($(command -v java))" ;;
  esac
}

# Each part gets its name when it is whole, so that a set-up that was interrupted can be begun again.
setup() {
  check_java
  find_python
  mkdir -p "$CACHE"
  if [ ! -d "$DISTRIBUTION" ]; then get_flink; fi
  if [ ! -f "$CLASSES" ]; then get_beam; fi
  if [ ! -x "$BOOT" ]; then get_boot; fi
  ln -sf "../../${CLASSES##*/}" "$DISTRIBUTION/lib/beam.jar"
}

# Flink's own archive is no package; its jars and its scripts are, the ones of Flink's Python interface.
get_flink() {
  say "getting Flink $FLINK_VERSION (230 MB)"
  local work="$CACHE/work-flink"
  rm -rf "$work"
  mkdir -p "$work/home/lib" "$work/home/log"
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$work" \
    "apache-flink-libraries==$FLINK_VERSION"
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" \
    "apache-flink==$FLINK_VERSION"
  tar xzf "$work/apache-flink-libraries-$FLINK_VERSION.tar.gz" -C "$work" --strip-components=2 --wildcards \
    '*/deps/bin/*' '*/deps/lib/flink-dist-*' '*/deps/lib/log4j-*'
  "$PYTHON" -m zipfile -e "$work"/apache_flink-"$FLINK_VERSION"-*.whl "$work/wheel"
  cp -r "$work/wheel/pyflink/bin" "$work/wheel/pyflink/conf" "$work/home/"
  cp "$work"/bin/* "$work/home/bin/"
  cp "$work"/lib/* "$work/home/lib/"
  chmod +x "$work"/home/bin/*.sh
  mv "$work/home" "$DISTRIBUTION"
  rm -rf "$work"
}

# Beam's classes for Flink go to the cluster's own class path: workers then outlive the stages of a job, and what is
# sent with a job is a jar of some kilobytes.
get_beam() {
  say "getting Beam's runner for Flink (160 MB)"
  need mvn
  local work="$CACHE/work-beam"
  rm -rf "$work"
  mkdir -p "$work"
  cp "$HERE/flink/pom.xml" "$work/"
  mvn --quiet --batch-mode --file "$work/pom.xml" package
  "$PYTHON" "$HERE/flink/jars.py" "$work/target/beam-flink.jar" "$work/classes.jar" "$work/submitted.jar"
  mv "$work/submitted.jar" "$SUBMITTED"
  mv "$work/classes.jar" "$CLASSES"
  rm -rf "$work"
}

# Go's own caches would keep a gigabyte.
get_boot() {
  say "building the program that starts Python workers"
  need go
  local work="$CACHE/work-boot"
  mkdir -p "$work"
  GOBIN="$work/bin" GOPATH="$work/path" GOCACHE="$work/cache" GOFLAGS=-modcacherw \
    go install "github.com/apache/beam/sdks/v2/python/container@v$BEAM_VERSION" 2>"$work/log" ||
    { cat "$work/log" >&2; fail "go install failed"; }
  mv "$work/bin/container" "$BOOT"
  rm -rf "$work"
}

# The settings of this cluster. What a job holds here is small, so the JVMs are: rows stay in the Python workers.
configure() {
  mkdir -p "$DIR/conf" "$DIR/log" "$DIR/tmp"
  cp "$DISTRIBUTION"/conf/log4j*.properties "$DIR/conf/"
  local opens
  opens="$(sed -n 's/^ *all: //p' "$DISTRIBUTION/conf/config.yaml")"
  cat >"$DIR/conf/config.yaml" <<YAML
env.java.opts.all: $opens
env.java.opts.taskmanager: -XX:+ExitOnOutOfMemoryError
env.log.dir: $DIR/log
env.pid.dir: $DIR
io.tmp.dirs: $DIR/tmp
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: $PORT
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $RPC_PORT
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 1200m
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: $SLOTS
taskmanager.memory.task.heap.size: 768m
taskmanager.memory.task.off-heap.size: 384m
taskmanager.memory.managed.size: 256m
taskmanager.memory.network.min: 192m
taskmanager.memory.network.max: 192m
taskmanager.network.sort-shuffle.min-buffers: 64
cluster.uncaught-exception-handling: FAIL
# What makes a worker outlive a stage: Beam's classes in lib/, found there first.
classloader.resolve-order: parent-first
heartbeat.interval: 2000
heartbeat.timeout: 20000
slot.request.timeout: 60000
restart-strategy.type: fixed-delay
# For longer than a worker that was killed is kept in mind (--environment_expiration_millis).
restart-strategy.fixed-delay.attempts: 16
restart-strategy.fixed-delay.delay: 4 s
cluster.evenly-spread-out-slots: true
YAML
  cat >"$DIR/boot.sh" <<SH
#!/usr/bin/env bash
# Starts a Python worker for a TaskManager, in a directory of its own.
set -eu
for left in "$DIR"/tmp/worker.*; do
  if [ -d "\$left" ] && ! kill -0 "\${left##*.}" 2>/dev/null; then rm -rf "\$left"; fi
done
mkdir -p "$DIR/tmp/worker.\$\$"
cd "$DIR/tmp/worker.\$\$"
# TensorFlow would import Keras 3, with all that it finds installed; npyflow's own processes leave that out, too.
export TF_USE_LEGACY_KERAS="\${TF_USE_LEGACY_KERAS:-1}"
export PATH="$(dirname "$PYTHON"):\$PATH" RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
exec "$BOOT" --semi_persist_dir="\$PWD" "\$@" >>"$DIR/log/workers.log" 2>&1
SH
  chmod +x "$DIR/boot.sh"
}

# Calls one of Flink's scripts for this cluster.
flink() {
  local script="$1"
  shift
  env FLINK_CONF_DIR="$DIR/conf" FLINK_IDENT_STRING=npyflow "$DISTRIBUTION/bin/$script" "$@" >/dev/null
}

# Prints the processes of this cluster of one kind: standalonesession, the JobManager, or taskexecutor.
processes() {
  local file="$DIR/flink-npyflow-$1.pid" process
  if [ ! -f "$file" ]; then return; fi
  while read -r process; do
    # Not from ps, which cuts a command off at $COLUMNS.
    if grep --quiet --null-data --line-regexp --fixed-strings -e "$DIR/conf" "/proc/$process/cmdline" 2>/dev/null; then
      echo "$process"
    fi
  done <"$file"
}

# Prints the processes that work in this cluster's directories: Python workers and the program that started them.
workers() {
  local each
  for each in /proc/[0-9]*; do
    case "$(readlink "$each/cwd" 2>/dev/null)" in "$DIR/tmp/worker."*) echo "${each#/proc/}" ;; esac
  done
}

overview() { curl --silent --fail --max-time 5 "$REST/overview"; }

start() {
  setup
  need curl
  local managers
  if [ -z "$(processes standalonesession)" ]; then
    if overview >/dev/null; then fail "port $PORT: expected a free one; found another Flink cluster (NPYFLOW_FLINK_PORT)"; fi
    rm -f "$DIR/flink-npyflow-standalonesession.pid"
    configure
    flink jobmanager.sh start
  fi
  managers="$(processes taskexecutor)"
  printf '%s' "${managers:+$managers$'\n'}" >"$DIR/flink-npyflow-taskexecutor.pid"
  for _ in $(seq "$(printf '%s' "${managers:+$managers$'\n'}" | wc -l)" $((MANAGERS - 1))); do
    flink taskmanager.sh start
  done
  for _ in $(seq 120); do
    if [[ "$(overview)" == *"\"taskmanagers\":$MANAGERS,"* ]]; then
      say "running; its address is 127.0.0.1:$PORT"
      return
    fi
    if [ -z "$(processes standalonesession)" ]; then break; fi
    sleep 0.5
  done
  tail -n 5 "$DIR"/log/*.log "$DIR"/log/*.out >&2 || true
  fail "expected $MANAGERS TaskManagers at 127.0.0.1:$PORT; found $(overview || echo no cluster). $DIR/log has the reason"
}

submit() {
  find_python
  local given=" $* " options=(--runner=FlinkRunner)
  if [[ "$given" != *" --flink_master="* ]]; then
    if ! overview >/dev/null; then fail "127.0.0.1:$PORT: expected a cluster; found none (scripts/flink.sh start)"; fi
    options+=("--flink_master=127.0.0.1:$PORT")
    if [[ "$given" != *" --environment_type="* ]]; then
      options+=(--environment_type=PROCESS "--environment_config={\"command\": \"$DIR/boot.sh\"}")
    fi
  fi
  export NPYFLOW_FLINK_JAR="${NPYFLOW_FLINK_JAR:-$SUBMITTED}"
  exec "$PYTHON" -m pipelines.cli build "$@" "${options[@]}"
}

status() {
  if ! overview; then fail "127.0.0.1:$PORT: no cluster"; fi
  echo
  echo "JobManager: $(processes standalonesession)"
  echo "TaskManagers: $(processes taskexecutor | paste -sd ' ')"
  echo "Python workers: $(workers | paste -sd ' ')"
  curl --silent --fail --max-time 5 "$REST/jobs/overview"
  echo
}

# Ends processes, and waits until they have.
end() {
  local process
  for process in "$@"; do kill "$process" 2>/dev/null || true; done
  for process in "$@"; do
    for _ in $(seq 100); do
      if ! kill -0 "$process" 2>/dev/null; then continue 2; fi
      sleep 0.1
    done
    kill -KILL "$process" 2>/dev/null || true
  done
}

stop() {
  # shellcheck disable=SC2046
  end $(processes taskexecutor) $(processes standalonesession)
  # shellcheck disable=SC2046
  end $(workers)
  rm -rf "$DIR"/{conf,tmp,boot.sh} "$DIR"/flink-npyflow-*.pid
  say "stopped; its logs are in $DIR/log"
}

case "${1:-}" in
  setup | start | submit | status | stop) "$@" ;;
  *)
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
