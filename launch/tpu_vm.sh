#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.sh
source "$(dirname "${BASH_SOURCE[0]}")/commands.sh"

usage() {
  cat <<'END'
usage: bash launch/tpu_vm.sh --name=NAME --zone=ZONE --type=TYPE [OPTIONS] -- COMMAND...

Runs a command of aft-jax on all hosts of a Cloud TPU slice, to its end: asks for the slice and waits for it, copies
this checkout there, installs it, runs, and shows what the hosts print. A slice that is preempted is deleted and asked
for again, and the same command resumes. Ctrl-C stops the run, which saves; the slice stays.

  --name=NAME            of the TPU VM and of its queued resource; one that exists is used
  --zone=ZONE            such as us-central1-a
  --type=TYPE            accelerator type, such as v5litepod-16, v5p-32 or v6e-16
  --version=VERSION      software of the hosts; default by the type
  --project=PROJECT      default: that of gcloud
  --bucket=NAME          Cloud Storage bucket that every host mounts at runs/; needed with several hosts
  --spot                 cheaper, and preempted at any time
  --direct               create the TPU VM at once, or fail, instead of waiting in the queue
  --extras=LIST          of the package; default train,data,tpu
  --worker=HOSTS         run on these hosts alone, such as 0; default all
  --create-flag=FLAG     one more flag for gcloud when it creates, such as --reserved; repeat for several
  --connect-flag=FLAG    one more flag for gcloud ssh and scp, such as --internal-ip; repeat for several
  --retries=N            runs again after a failure that is no preemption; default 1
  --poll=SECONDS         between looks at the slice's state; default 30
  --delete-after         delete the slice at the end, whatever the outcome
  --dry-run              show the commands; run none

Ends with the exit status of the command.
END
}

name="" zone="" type="" version="" project="" bucket="" extras=train,data,tpu worker=all
direct=0 delete_after=0 retries=1 poll=30 create_flags=() connect_flags=()
while (($#)); do
  case "$1" in
    --name=?*) name="${1#*=}" ;;
    --zone=?*) zone="${1#*=}" ;;
    --type=?*) type="${1#*=}" ;;
    --version=?*) version="${1#*=}" ;;
    --project=?*) project="${1#*=}" ;;
    --bucket=?*) bucket="$(bucket_name "${1#*=}")" ;;
    --extras=?*) extras="${1#*=}" ;;
    --worker=?*) worker="${1#*=}" ;;
    --create-flag=?*) create_flags+=("${1#*=}") ;;
    --connect-flag=?*) connect_flags+=("${1#*=}") ;;
    --retries=*) retries="${1#*=}" ;;
    --poll=*) poll="${1#*=}" ;;
    --spot) create_flags+=(--spot) ;;
    --direct) direct=1 ;;
    --delete-after) delete_after=1 ;;
    --dry-run) DRY_RUN=1 ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) unknown_option "those that --help shows" "$1" ;;
  esac
  shift
done
required name "$name" NAME
required zone "$zone" us-central1-a
required type "$type" v5litepod-16
whole_number retries "$retries"
whole_number poll "$poll"
(($#)) || fail "the command follows after --, such as: -- aft-jax train --config=... --workdir=runs/..."
if [[ -z $version ]]; then
  case "$type" in
    v5lite*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) version=tpu-ubuntu2204-base ;;
    *) fail "no software is known for --type=$type; add --version=..., from cloud.google.com/tpu/docs/runtimes" ;;
  esac
fi
need gcloud git tar
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -e .git ]] || fail "the files to copy are those that git knows, and $PWD is no git checkout; git clone makes one."

# On several hosts only JAX itself can tell who they are.
command=("$@")
if [[ $worker == all && $1 == aft-jax && " $* " != *" --distributed "* ]]; then
  command+=(--distributed)
fi
place=("--zone=$zone")
[[ -z $project ]] || place+=("--project=$project")
archive="${TMPDIR:-/tmp}/aft_jax-$name.tar.gz"

# In bash before 4.4, which macOS has, an empty array counts as unset.
queued=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)
connect=("${place[@]}" "--worker=$worker" ${connect_flags[@]+"${connect_flags[@]}"})

create() {
  local flags=("--accelerator-type=$type" ${create_flags[@]+"${create_flags[@]}"})
  if ((direct)); then
    run "${vm[@]}" create "$name" "${place[@]}" "--version=$version" "${flags[@]}"
  else
    run "${queued[@]}" create "$name" "${place[@]}" "--node-id=$name" \
      "--runtime-version=$version" "${flags[@]}"
  fi
}

delete() {
  if [[ $request != ABSENT ]]; then
    run "${queued[@]}" delete "$name" "${place[@]}" --force --quiet
  else
    run "${vm[@]}" delete "$name" "${place[@]}" --quiet
  fi
}

# asked COMMAND...: prints a state, or ABSENT where there is no such thing
asked() {
  local errors answer
  errors="$(mktemp)"
  if answer="$("$@" 2>"$errors")"; then
    echo "${answer:-UNKNOWN}"
  elif grep -qi 'NOT_FOUND\|not found' "$errors"; then
    echo ABSENT
  else
    cat "$errors" >&2
    echo UNKNOWN
  fi
  rm -f "$errors"
}

# Sets request and node to the states that Cloud TPU tells, and state to what follows from both; known once it tells.
look() {
  request=ABSENT
  ((direct)) || request="$(asked "${queued[@]}" describe "$name" "${place[@]}" "--format=value(state.state)")"
  node="$(asked "${vm[@]}" describe "$name" "${place[@]}" "--format=value(state)")"
  case "$request/$node" in
    ACTIVE/READY | ABSENT/READY) state=READY ;;
    ABSENT/ABSENT) state=ABSENT ;;
    ABSENT/STOPPED) state=STOPPED ;;
    FAILED/* | SUSPENDED/* | ACTIVE/ABSENT | */PREEMPTED | */TERMINATED) state=LOST ;;
    UNKNOWN/* | */UNKNOWN) state=UNKNOWN ;;
    *) state=WAIT ;;
  esac
  [[ $state == UNKNOWN ]] || known=1
}

wait_until_ready() {
  local failed=0 unknown=0 shown=""
  while look && [[ $state != READY ]]; do
    if [[ "$state $request $node" != "$shown" ]]; then
      shown="$state $request $node"
      note "$name: request $request, TPU VM $node"
    fi
    [[ $state == UNKNOWN ]] || unknown=0
    case "$state" in
      UNKNOWN)
        ((known)) || fail "the state of $name cannot be read; the reason stands above."
        ((++unknown < 5)) || give_up "the state of $name cannot be read any more"
        ;;
      STOPPED) tried run "${vm[@]}" start "$name" "${place[@]}" ;;
      LOST)
        if [[ $request == FAILED ]] && ((++failed == 3)); then
          "${queued[@]}" describe "$name" "${place[@]}" || true
          give_up "the request for $name failed three times"
        fi
        copied=0
        tried delete
        continue
        ;;
      ABSENT)
        copied=0
        tried create
        continue
        ;;
    esac
    sleep "$poll"
  done
}

# tried COMMAND...: what is refused is asked for again, once a run has been under way here.
tried() {
  if "$@"; then
    refused=0
  elif ((!started || ++refused == 3)); then
    give_up "Cloud TPU refused"
  else
    sleep "$poll"
  fi
}

give_up() {
  echo "launch/tpu_vm.sh: $1; the reason stands above." >&2
  save_first
  finish 2
}

# A run that may still be under way saves before its hosts are deleted.
save_first() {
  ((!copied || !delete_after)) || run "${stop[@]}" || true
}

# What git does not ignore, so no .venv and no runs, and has not lost.
pack() {
  local file
  git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
      [[ ! -e $file ]] || printf '%s\0' "$file"
    done | tar --null -czf "$1" -T -
}

copy() {
  run pack "$archive" &&
    run "${vm[@]}" scp "$archive" "$name:aft_jax.tar.gz" "${connect[@]}" &&
    run "${vm[@]}" ssh "$name" "${connect[@]}" \
      "--command=mkdir -p aft_jax && tar -xzf aft_jax.tar.gz -C aft_jax" &&
    copied=1
}

host() {
  echo "bash aft_jax/launch/tpu_host.sh $(quoted "$@")"
}

options=("--extras=$extras")
[[ -z $bucket ]] || options+=("--bucket=$bucket")
start=("${vm[@]}" ssh "$name" "${connect[@]}" "--command=$(host "${options[@]}" -- "${command[@]}")")
stop=("${vm[@]}" ssh "$name" "${connect[@]}" "--command=$(host --stop)")

request=QUEUED
((!direct)) || request=ABSENT
if ((DRY_RUN)); then
  note "unless $name exists:"
  create
  note "until it is ready:"
  ((direct)) || run "${queued[@]}" describe "$name" "${place[@]}" "--format=value(state.state)"
  run "${vm[@]}" describe "$name" "${place[@]}" "--format=value(state)"
  copy
  run "${start[@]}"
  note "exit status $EXIT_PREEMPTED: the same again; after Ctrl-C:"
  run "${stop[@]}"
  note "preempted: this, and all from the top; $( ((delete_after)) && echo "at the end too" || echo "at the end it is for you")"
  delete
  exit
fi

interrupted() {
  trap - INT TERM
  if ((copied)); then
    note "interrupted; a run on the hosts is stopped and saves"
    [[ -z $child ]] || kill "$child" 2>/dev/null || true
    run "${stop[@]}" || true
  fi
  finish 130
}

finish() {
  look
  if [[ $state != ABSENT ]] && { ((!delete_after || $1 == 130)) || ! delete; }; then
    note "$name is still yours and costs. To delete it: the same command with --delete-after, or"
    note "  $(DRY_RUN=1 delete)"
  fi
  exit "$1"
}

# A host that was taken away looks like a failure at first.
still_ready() {
  local look_number
  for look_number in 1 2 3; do
    look
    [[ $state == READY || $state == UNKNOWN ]] || return 1
    ((look_number == 3)) || sleep "$poll"
  done
}

copied=0 failures=0 lost=0 refused=0 known=0 started=0 child=""
trap interrupted INT TERM
while :; do
  wait_until_ready
  if ((!copied)) && ! copy; then
    if ! still_ready; then
      note "$name is gone, while it was copied to"
    elif ((++failures > retries)); then
      finish 1
    fi
    continue
  fi
  echo "\$ $(quoted "${start[@]}")"
  # In the background: bash answers Ctrl-C while it waits, but not while a command is in front.
  "${start[@]}" </dev/null &
  child=$! started=1 status=0 began=$SECONDS
  wait "$child" || status=$?
  child=""
  ((SECONDS - began < 600)) || lost=0 # the host was there
  case "$status" in
    0 | 2 | 3 | 74 | 130) finish "$status" ;; # done; wrong input; not finite; storage; interrupted
    "$EXIT_PREEMPTED") failures=0 && note "preempted and saved; the same command again" && sleep "$poll" ;;
    *)
      if ! still_ready; then
        note "$name is gone (exit status $status)"
      elif ((status == 255 && ++lost <= 5)); then
        # Of ssh: the connection is lost, not the run, which the same command follows.
        note "the connection was lost; once more to the run"
      elif ((++failures > retries)); then
        ((status != 255)) || save_first
        finish "$status"
      else
        note "exit status $status; the same command again, $failures of $retries"
      fi
      ;;
  esac
done
