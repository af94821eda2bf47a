# Sourced by the scripts that start a run elsewhere: commands that are shown, shell-quoted, before they
# run, and that --dry-run (or DRY_RUN=1 around them) only shows.
# shellcheck shell=bash

export EXIT_PREEMPTED=75 # of aft-jax: saved; the same command resumes
[[ ${DRY_RUN:-0} == 0 ]] && DRY_RUN=0 || DRY_RUN=1

fail() {
  echo "launch/${0##*/}: $1" >&2
  exit 2
}

# The words as a shell reads them back: 'a b' rather than a\ b, which is hard on the eyes.
quoted() {
  local word separator=""
  for word in "$@"; do
    if [[ ! $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      if [[ $word == *[\'[:cntrl:]]* ]]; then
        word="$(printf '%q' "$word")"
      else
        word="'$word'"
      fi
    fi
    printf '%s%s' "$separator" "$word"
    separator=" "
  done
}

run() {
  echo "\$ $(quoted "$@")"
  ((DRY_RUN)) || "$@"
}

note() {
  echo "# $*"
}

need() {
  local command
  ((DRY_RUN)) && return
  for command in "$@"; do
    command -v "$command" >/dev/null || fail "it needs the command $command, which is not on PATH."
  done
}

# required NAME VALUE EXAMPLE
required() {
  [[ -n $2 ]] || fail "--$1=$3 is missing; --help shows all options."
}

unknown_option() {
  fail "options are $1, each written --name=value, and the command follows after --; got $2."
}

# bucket_name VALUE: prints it without gs:// and the last slash
bucket_name() {
  local name="${1#gs://}"
  name="${name%/}"
  [[ $name != */* ]] || fail "--bucket is the name of a bucket, without a path; got '$name'."
  echo "$name"
}

whole_number() {
  [[ $2 =~ ^[0-9]+$ ]] || fail "--$1 is a whole number; got '$2'."
}
