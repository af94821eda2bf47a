#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.sh
source "$(dirname "${BASH_SOURCE[0]}")/commands.sh"

usage() {
  cat <<'END'
usage: bash launch/gpu.sh [--extras=LIST] [--dry-run] -- COMMAND...

Runs a command of aft-jax on this machine's GPUs, all of them: makes .venv hold the package with JAX for CUDA, and
runs the command again whenever it ends with 75, which means: saved, the same command resumes. Ctrl-C and SIGTERM
are passed on, so the run saves; the same command goes on later.

  --extras=LIST   of the package; default train,data,cuda. `extract` needs teachers too
  --dry-run       show the commands; run none

Several boxes: start it on each, with --coordinator=HOST:PORT --processes=N --process=I after the verb.
END
}

extras=train,data,cuda
while (($#)); do
  case "$1" in
    --extras=?*) extras="${1#*=}" ;;
    --dry-run) DRY_RUN=1 ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) unknown_option "--extras, --dry-run and --help" "$1" ;;
  esac
  shift
done
(($#)) || fail "the command follows after --, such as: -- aft-jax train --config=... --workdir=..."

if ((DRY_RUN)); then
  run source launch/environment.sh "$extras"
  run nvidia-smi --list-gpus
  run "$@"
  note "exit status $EXIT_PREEMPTED: the same again; any other: the end"
  exit
fi

# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "$extras"
run nvidia-smi --list-gpus || fail "nvidia-smi sees no GPU here; install the driver, or leave launch/gpu.sh out."

signals=0
pass_on() {
  signals=$((signals + 1))
  kill -TERM "$child" 2>/dev/null || true
}

while :; do
  echo "\$ $(quoted "$@")"
  # In the background: bash answers a signal while it waits, but not while a command is in front.
  "$@" &
  child=$!
  trap pass_on INT TERM
  status=0 answered=0
  wait "$child" || status=$?
  # A trap ends the wait early, with the signal's status, while the run is still saving.
  while ((signals > answered)); do
    answered=$signals status=0
    wait "$child" || status=$?
  done
  if ((status != EXIT_PREEMPTED || signals)); then
    exit "$status"
  fi
  note "preempted and saved; the same command again"
done
