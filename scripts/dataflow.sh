#!/usr/bin/env bash
# Builds a data set on Google Cloud Dataflow: prints the whole command, and runs it.
#
#   scripts/dataflow.sh gs://BUCKET/arrays gs://BUCKET/dataset --project=P --region=R --image=IMAGE [OPTION …]
#
# See docs/how-to/dataflow.md. Options of this script, all --NAME=VALUE:
#   --project, --region    of the job; it should be the region of the bucket
#   --image=IMAGE          what the workers run, made with the Dockerfile; without it each of them installs the tested
#                          versions and npyflow when it starts, which takes minutes
#   --work=DIRECTORY       for what the job keeps while it runs; beside the output, in _dataflow-NAME, if not given
#   --name=NAME            of the job; npyflow and the time if not given
#   --machine=TYPE         of a worker; if not given, the headers of the arrays are read and the plan says which
#   --disk=GB              of a worker; 30 if not given: it holds the image and nothing of the data
#   --max_workers=N        Dataflow begins with few workers and adds up to so many; if not given, what the plan can use
#   --print                prints the command and does not run it
# Every other option goes to npyflow build, and from there to Beam.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
# In an activated environment npyflow is there; a checkout without one gets it.
if ! command -v npyflow >/dev/null; then source "$here/scripts/environment.sh"; fi

fail() { printf 'dataflow.sh: %s\n' "$*" >&2; exit 2; }

project="" region="" image="" work="" name="npyflow-$(date -u +%Y%m%d-%H%M%S)"
machine="" disk=30 max_workers="" print=""
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
work="${work:-${out%/*}/_dataflow-$name}"
case "$work" in gs:/[!/]*|gs://_dataflow-*) fail "expected --work=gs://… for a data set that fills a bucket; found none" ;; esac

machines=()
if [ -n "$machine" ]; then machines=("--machine_type=$machine" "--max_num_workers=${max_workers:-20}"); fi
if [ -z "$machine" ]; then
  suggested="$(python "$here/scripts/dataflow_machine.py" "${places[0]}" ${others[@]+"${others[@]}"})"
  read -ra machines <<<"$suggested"
  if [ -n "$max_workers" ]; then machines[1]="--max_num_workers=$max_workers"; fi
fi

command=(
  npyflow build "${places[@]}"
  --runner=DataflowRunner "--project=$project" "--region=$region" "--job_name=$name"
  "--temp_location=$work/temp" "--staging_location=$work/staging"
  "${machines[@]}" --autoscaling_algorithm=THROUGHPUT_BASED "--disk_size_gb=$disk"
  # One process a core; threads of one process would wait for each other in Python, and share its memory.
  --number_of_worker_harness_threads=1
)
if [ -n "$image" ]; then
  command+=("--sdk_container_image=$image" --sdk_location=container)
else
  requirements="$here/out/dataflow-requirements.txt"
  mkdir -p "$here/out"
  python "$here/scripts/requirements.py" >"$requirements"
  command+=("--setup_file=$here/setup.py" "--requirements_file=$requirements" --requirements_cache=skip)
fi
command+=(${others[@]+"${others[@]}"})

printf '%q ' "${command[@]}"
printf '\n'
if [ -z "$print" ]; then "${command[@]}"; fi
