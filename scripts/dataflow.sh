#!/usr/bin/env bash
# Builds a data set on Google Cloud Dataflow: prints the whole command, and runs it.
#
#   scripts/dataflow.sh gs://BUCKET/arrays gs://BUCKET/dataset --project=P --region=R --image=IMAGE [OPTION …]
#
# See docs/dataflow.md. Options of this script, all --NAME=VALUE:
#   --project, --region    of the job; it should be the region of the bucket
#   --image=IMAGE          what the workers run, made with the Dockerfile; without it they install the package and the
#                          tested versions when they start, for some minutes each time
#   --work=DIRECTORY       for what the job keeps while it runs; beside the output, in _dataflow-NAME, if not given
#   --name=NAME            of the job; npyflow and the time if not given
#   --machine=TYPE         of a worker; n1-highmem-4 if not given
#   --disk=GB              of a worker; 30 if not given
#   --max_workers=N        at most; Dataflow begins with few and adds more; 20 if not given
#   --print                prints the command and does not run it
# Every other option goes to npyflow build, and from there to Beam.
set -euo pipefail
# In an activated environment, npyflow is there; in a checkout without one, it is made.
if ! command -v npyflow >/dev/null; then source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"; fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"

fail() { printf 'dataflow.sh: %s\n' "$*" >&2; exit 2; }

project="" region="" image="" work="" name="npyflow-$(date -u +%Y%m%d-%H%M%S)"
machine=n1-highmem-4 disk=30 max_workers=20 print=""
places=() others=()
for argument in "$@"; do
  value="${argument#*=}"
  case "$argument" in
    --project=*) project="$value" ;;
    --region=*) region="$value" ;;
    --image=*) image="$value" ;;
    --work=*) work="${value%/}" ;;
    --name=*) name="$value" ;;
    --machine=*) machine="$value" ;;
    --disk=*) disk="$value" ;;
    --max_workers=*) max_workers="$value" ;;
    --print) print=yes ;;
    -*) others+=("$argument") ;;
    *) places+=("$argument") ;;
  esac
done
if [ ${#places[@]} != 2 ]; then fail "expected two places, of the arrays and of the data set; found ${#places[@]}"; fi
if [ -z "$project" ]; then fail "expected --project=PROJECT; found none"; fi
if [ -z "$region" ]; then fail "expected --region=REGION; found none"; fi
out="${places[1]%/}"
work="${work:-$(dirname "$out")/_dataflow-$name}"
case "$out" in *://*) work="${work/:\/\//:\/\/}" ;; esac

command=(
  npyflow build "${places[@]}"
  --runner=DataflowRunner "--project=$project" "--region=$region" "--job_name=$name"
  "--temp_location=$work/temp" "--staging_location=$work/staging"
  # A task holds one shard of each split and works in one process; see docs/dataflow.md for other machines.
  "--machine_type=$machine" "--disk_size_gb=$disk"
  --autoscaling_algorithm=THROUGHPUT_BASED "--max_num_workers=$max_workers"
  # Threads of one process would wait for each other in Python.
  --number_of_worker_harness_threads=1
)
if [ -n "$image" ]; then
  command+=("--sdk_container_image=$image" --sdk_location=container)
else
  requirements="$(mktemp)"
  trap 'rm -f "$requirements"' EXIT
  python "$here/scripts/requirements.py" >"$requirements"
  command+=("--setup_file=$here/setup.py" "--requirements_file=$requirements" --requirements_cache=skip)
fi
command+=(${others[@]+"${others[@]}"})

printf '%q ' "${command[@]}"
printf '\n'
if [ -z "$print" ]; then "${command[@]}"; fi
