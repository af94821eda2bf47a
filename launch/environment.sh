# Sourced by the other scripts: makes .venv hold the package with the extras that its arguments name,
# at the pinned versions, and puts it first on PATH. Installs only when what it would install has
# changed.
# shellcheck shell=bash

environment_error() {
  echo "launch/environment.sh: $1" >&2
  exit 1
}

environment_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

environment_create() {
  local python version
  python="$(environment_python)" || environment_error \
    "Python 3.11 or newer is needed; none of python3.11, python3, python on PATH is. Install one."
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  # Debian ships venv without ensurepip, which is found missing only after half of .venv is made.
  "$python" -c 'import ensurepip, venv' 2>/dev/null || environment_error \
    "$python cannot create virtual environments; on Debian or Ubuntu: apt-get install python$version-venv"
  echo "launch/environment.sh: creating .venv with Python $version"
  "$python" -m venv "$@" .venv || environment_error "could not create .venv; see the message above"
}

environment_install() {
  local extras="$1" started=$SECONDS
  echo "launch/environment.sh: installing aft_jax[$extras] (a few minutes the first time)"
  .venv/bin/python -m pip install -qq --disable-pip-version-check \
    -c launch/constraints.txt -e ".[$extras]" || environment_error \
    "the install failed, see above; it needs a package index that pip can reach. Then run this again."
  echo "launch/environment.sh: installed in $((SECONDS - started)) s"
}

environment_ready() {
  local extras="$1" stamp=".venv/aft_jax.$1.stamp" wanted
  # The place is part of it: scripts in a copied .venv still run the interpreter it was copied from.
  wanted="$PWD $(cat setup.cfg launch/constraints.txt | cksum)"
  if [[ -f $stamp && "$(cat "$stamp")" == "$wanted" ]]; then
    return
  fi
  if [[ -f $stamp && "$(cat "$stamp")" != "$PWD "* ]]; then
    environment_create --clear
  elif ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    environment_create
  fi
  environment_install "$extras"
  echo "$wanted" >"$stamp"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
environment_ready "${1:-train}"
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
