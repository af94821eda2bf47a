#!/usr/bin/env bash
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=commands.sh
source "$(dirname "${BASH_SOURCE[0]}")/commands.sh"

usage() {
  cat <<'END'
usage: bash launch/tpu_host.sh [--bucket=NAME] [--extras=LIST] [--dry-run] -- COMMAND...
       bash launch/tpu_host.sh --stop

What launch/tpu_vm.sh runs on every host of a slice: mounts the bucket at runs/, makes .venv hold the package with
JAX for TPUs, and runs the command, whose output it follows. The command outlives the connection: the same call
again follows the run that is under way, and another command first stops that run, which saves.

  --bucket=NAME   Cloud Storage bucket to mount at runs/
  --extras=LIST   of the package; default train,data,tpu
  --stop          stop the run that is under way, if any; it saves
  --dry-run       show the commands; run none
END
}

bucket="" extras=train,data,tpu stop=0
while (($#)); do
  case "$1" in
    --bucket=?*) bucket="${1#*=}" ;;
    --extras=?*) extras="${1#*=}" ;;
    --stop) stop=1 ;;
    --dry-run) DRY_RUN=1 ;;
    -h | --help) usage && exit ;;
    --) shift && break ;;
    *) unknown_option "--bucket, --extras, --stop, --dry-run and --help" "$1" ;;
  esac
  shift
done
((stop || $#)) || fail "the command follows after --, such as: -- aft-jax train --config=... --workdir=..."
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Of the run under way: command, supervisor, child, log, status. After a reboot the numbers of
# processes mean nothing.
state="$HOME/aft_jax_run/$(cat /proc/sys/kernel/random/boot_id)"

alive() {
  [[ -f $state/supervisor ]] && kill -0 "$(<"$state/supervisor")" 2>/dev/null
}

stop_run() {
  alive || return 0
  note "stopping the run under way; it saves"
  until [[ -s $state/child ]] || ! alive; do
    sleep 0.1 # it has just been started
  done
  kill -TERM "$(<"$state/child")" 2>/dev/null || true
  tail --pid="$(<"$state/supervisor")" -f /dev/null
}

mount_bucket() {
  ((DRY_RUN)) || ! mountpoint -q runs || return 0
  if ((DRY_RUN)) || ! command -v gcsfuse >/dev/null; then
    install_gcsfuse
  fi
  run mkdir -p runs
  # Every host must see at once what another has written; on the machine types of TPUs gcsfuse would
  # otherwise keep what it knows of files for ever.
  run gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
    "$bucket" runs
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc list=/etc/apt/sources.list.d/gcsfuse.list release
  release="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
  run sudo curl -fsSL -o "$key" https://packages.cloud.google.com/apt/doc/apt-key.gpg
  run sudo sh -c \
    "echo 'deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$release main' >$list"
  # A host that has just started is often still installing updates.
  run sudo apt-get -o DPkg::Lock::Timeout=600 update -qq
  run sudo apt-get -o DPkg::Lock::Timeout=600 install -y -qq gcsfuse
}

# The images of TPU VMs bring Python 3.10.
install_python() {
  local python
  if ((!DRY_RUN)) && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    return
  fi
  export PATH="$HOME/.local/bin:$PATH"
  run python3 -m pip install --user -q uv==0.13.9
  run uv python install -q 3.11
  ((!DRY_RUN)) || return 0
  # By its own place: an environment made through uv's link to it would not find its library.
  python="$(uv python find --system 3.11)"
  export PATH="${python%/*}:$PATH"
}

start() {
  mkdir -p "$state"
  # Another log than the one that is still followed elsewhere, and there before anyone follows it.
  rm -f "$state/child" "$state/log"
  : >"$state/log"
  quoted "$@" >"$state/command"
  # Its own session, with its output in a file: it survives the connection that started it. Its exit
  # status is a file of its own, too: who follows reads it while the next run starts.
  # shellcheck disable=SC2016  # expanded by the inner shell
  setsid bash -c 'state=$1; shift
    rm -f "$state/status-$$"
    "$@" & echo $! >"$state/child"
    status=0; wait $! || status=$?; echo "$status" >"$state/status-$$"' \
    supervisor "$state" "$@" >>"$state/log" 2>&1 </dev/null &
  echo $! >"$state/supervisor"
}

follow() {
  local supervisor
  supervisor="$(<"$state/supervisor")"
  tail -n +1 --pid="$supervisor" -f "$state/log"
  if [[ ! -f $state/status-$supervisor ]]; then
    echo "launch/tpu_host.sh: the run ended without an exit status; was it killed?" >&2
    exit 1
  fi
  exit "$(<"$state/status-$supervisor")"
}

if ((stop)); then
  stop_run
  exit
fi
if ((!DRY_RUN)) && alive; then
  if [[ "$(<"$state/command")" == "$(quoted "$@")" ]]; then
    note "following the run under way"
    follow
  fi
  stop_run
fi
if [[ -n $bucket ]]; then
  mount_bucket
fi
install_python
if ((DRY_RUN)); then
  run source launch/environment.sh "$extras"
  run "$@"
  exit
fi
# shellcheck source-path=SCRIPTDIR source=environment.sh
source launch/environment.sh "$extras"
start "$@"
follow
