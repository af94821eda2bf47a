#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.sh
source "$(dirname "${BASH_SOURCE[0]}")/commands.sh"

usage() {
  cat <<'END'
usage: bash launch/gke.sh --name=NAME --image=IMAGE --node-pool=POOL --accelerator=TYPE --topology=AxB --hosts=N
                          --bucket=BUCKET [OPTIONS] -- COMMAND...

Runs a command of aft-jax on a TPU slice of the cluster that kubectl is connected to: fills in
launch/gke_jobset.yaml, applies it, and shows what the pods print until the run ends. The JobSet restarts a run
that is preempted, which resumes. The run goes on without this script; the same call again shows it.

  --name=NAME              of the JobSet
  --image=IMAGE            container with the package, built from launch/Dockerfile
  --node-pool=POOL         the slice's node pool
  --accelerator=TYPE       tpu-v5-lite-podslice, tpu-v5p-slice, tpu-v6e-slice, ...
  --topology=AxB           of the slice, such as 4x4
  --hosts=N                machines of the slice
  --bucket=BUCKET          Cloud Storage bucket, mounted at runs/
  --chips-per-host=N       default 4
  --service-account=NAME   of Kubernetes, with access to the bucket; default default
  --namespace=NAME         default: that of kubectl
  --poll=SECONDS           between looks at the JobSet; default 15
  --detach                 do not wait
  --dry-run                show the commands and what is applied; run none
END
}

name="" image="" node_pool="" accelerator="" topology="" hosts="" bucket="" chips=4
service_account=default poll=15 detach=0 kubectl=(kubectl)
while (($#)); do
  case "$1" in
    --name=?*) name="${1#*=}" ;;
    --image=?*) image="${1#*=}" ;;
    --node-pool=?*) node_pool="${1#*=}" ;;
    --accelerator=?*) accelerator="${1#*=}" ;;
    --topology=?*) topology="${1#*=}" ;;
    --hosts=?*) hosts="${1#*=}" ;;
    --bucket=?*) bucket="$(bucket_name "${1#*=}")" ;;
    --chips-per-host=?*) chips="${1#*=}" ;;
    --service-account=?*) service_account="${1#*=}" ;;
    --namespace=?*) kubectl+=("--namespace=${1#*=}") ;;
    --poll=*) poll="${1#*=}" ;;
    --detach) detach=1 ;;
    --dry-run) DRY_RUN=1 ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) unknown_option "those that --help shows" "$1" ;;
  esac
  shift
done
required name "$name" NAME
required image "$image" REGION-docker.pkg.dev/PROJECT/REPOSITORY/aft-jax
required node-pool "$node_pool" POOL
required accelerator "$accelerator" tpu-v6e-slice
required topology "$topology" 4x4
required hosts "$hosts" 4
required bucket "$bucket" BUCKET
whole_number hosts "$hosts"
whole_number chips-per-host "$chips"
whole_number poll "$poll"
[[ $topology =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || fail "--topology is AxB or AxBxC; got '$topology'."
wanted=$((${topology//x/*}))
((hosts * chips == wanted)) || fail \
  "a slice of topology $topology has $wanted chips; got --hosts=$hosts with --chips-per-host=$chips."
(($#)) || fail "the command follows after --, such as: -- aft-jax train --config=... --workdir=runs/..."
need kubectl envsubst
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# As a JSON list, which is YAML too.
listed() {
  local word separator="["
  for word in "$@"; do
    [[ $word != *[[:cntrl:]]* ]] || fail "a word of the command has a line break or a tab: $(quoted "$word")."
    word="${word//\\/\\\\}"
    printf '%s"%s"' "$separator" "${word//\"/\\\"}"
    separator=", "
  done
  echo "]"
}

manifest() {
  # shellcheck disable=SC2016  # the names, for envsubst
  NAME="$name" IMAGE="$image" NODE_POOL="$node_pool" ACCELERATOR="$accelerator" \
    TOPOLOGY="$topology" HOSTS="$hosts" CHIPS_PER_HOST="$chips" BUCKET="$bucket" \
    SERVICE_ACCOUNT="$service_account" COMMAND="$command" \
    envsubst '$NAME $IMAGE $NODE_POOL $ACCELERATOR $TOPOLOGY $HOSTS $CHIPS_PER_HOST $BUCKET
      $SERVICE_ACCOUNT $COMMAND' <launch/gke_jobset.yaml
}

command="$(listed "$@")"
apply=("${kubectl[@]}" apply -f -)
ended=("${kubectl[@]}" get jobset "$name" "--output=jsonpath={.status.terminalState}")
logs=("${kubectl[@]}" logs --follow --prefix --tail=-1 --ignore-errors "--max-log-requests=$hosts"
  "--selector=jobset.sigs.k8s.io/jobset-name=$name" --container=aft-jax)

if ((DRY_RUN)); then
  run "${apply[@]}"
  manifest
  ((detach)) || note "until it has ended:"
  ((detach)) || run "${ended[@]}"
  ((detach)) || run "${logs[@]}"
  exit
fi

echo "\$ $(quoted "${apply[@]}") # launch/gke_jobset.yaml, filled in"
manifest | "${apply[@]}"
((!detach)) || exit 0
since=() unseen=0
while :; do
  if ! state="$("${ended[@]}")"; then
    ((++unseen < 5)) || fail "the state of $name cannot be read; the reason stands above. The run goes on."
    sleep "$poll"
    continue
  fi
  unseen=0
  [[ -z $state ]] || break
  # It ends with the pods, and at once while there are none yet.
  if "${logs[@]}" ${since[@]+"${since[@]}"}; then
    since=("--since=$((poll + 5))s")
  fi
  sleep "$poll"
done
note "$name: $state. To run it anew or free the name: $(quoted "${kubectl[@]}" delete jobset "$name")"
[[ $state == Completed ]]
