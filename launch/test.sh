#!/usr/bin/env bash
# Every check of the project: format, lint, types, tests. Arguments go on to pytest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" train,data,teachers,tpu-aot,test

stage() {
  local name="$1" status=0
  shift
  echo "== $name"
  "$@" || status=$?
  if ((status)); then
    echo "launch/test.sh: stage '$name' failed with exit status $status" >&2
    exit "$status"
  fi
}

# pyright otherwise asks the package index on every run whether it is the newest.
export PYRIGHT_PYTHON_IGNORE_WARNINGS=1

stage "format" ruff format --check
stage "lint" ruff check
stage "types" pyright
# worksteal gives each worker neighbouring tests, which share compiled functions.
stage "tests" pytest -n 2 --dist worksteal "$@"
