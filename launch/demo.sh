#!/usr/bin/env bash
# The whole path on a CPU: teacher, pretrained student, stored features, comparison, report.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" train

run() {
  echo "\$ $*"
  "$@"
}

run aft-jax train --config=configs/digits.py:stage=teacher --workdir=runs/digits/teacher
run aft-jax train --config=configs/digits.py:stage=pretrain --workdir=runs/digits/pretrain
run aft-jax extract --config=configs/digits.py
run aft-jax compare --config=configs/digits.py --workdir=runs/digits/compare
run aft-jax report --workdir=runs/digits/compare
