"""launch/tpu_vm.sh, against a gcloud that plays the states of a slice."""

import shlex
import signal
import subprocess
import tarfile

import pytest

from tests.launch.stage import SHOWN, WORDS, Stage, commands, until

SLICE = ("--name=vit", "--zone=us-east5-b", "--type=v6e-16")
GCLOUD = """
case "$*" in
  *'queued-resources describe'*) state="$(head -n 1 states)" && state="${state%/*}" ;;
  *'tpu-vm describe'*) state="$(answer states)" && state="${state#*/}" ;;
  *'tpu-vm scp'*) [[ ! -f broken ]] || { rm broken && exit 1; }; cp "$5" copied.tar.gz && exit ;;
  *--stop*) kill "$(cat running)"; exit ;;
  *--extras*) echo $$ >running; [[ ! -f slow ]] || exec sleep 30; exit "$(answer statuses)" ;;
  *' delete '*) [[ ! -f stuck ]] || { rm stuck && exit 1; }; exit ;;
  *) exit ;;
esac
case "$state" in
  ABSENT) echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1 ;;
  DENIED) echo "ERROR: no active account" >&2; exit 1 ;;
esac
echo "$state"
"""
CREATE = "queued-resources create"
COPY_AND_RUN = ["tpu-vm scp", "tpu-vm unpack", "tpu-vm extras"]


@pytest.fixture
def cloud(stage):
    """A stage on which the slice exists, its checkout is one of git, and any run succeeds."""
    stage.stand_in("gcloud", GCLOUD)
    stage.answers("states", "ACTIVE/READY")
    stage.answers("statuses", 0)
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=stage.checkout, check=True)
    return stage


def kinds(stage: Stage) -> list[str]:
    """The calls of gcloud that change something, in short."""
    names = []
    for call in stage.calls():
        resource, verb = call[3:5]
        if verb == "ssh":
            verb = next((name for name in ("extras", "stop") if f"--{name}" in call[-1]), "unpack")
        if verb != "describe":
            names.append(f"{resource} {verb}")
    return names


def tpu_vm(stage: Stage, *options: str) -> subprocess.CompletedProcess:
    return stage.script("tpu_vm.sh", *SLICE, "--poll=0", *options, "--", *WORDS)


def test_dry_run_shows_every_command_and_runs_none(cloud):
    options = (
        "--bucket=gs://b/",
        "--spot",
        "--create-flag=--network=n",
        "--connect-flag=--internal-ip",
    )
    result = tpu_vm(cloud, *options, "--project=p", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert not (cloud.directory / "calls").exists()
    place = "vit --zone=us-east5-b --project=p"
    hosts = "--zone=us-east5-b --project=p --worker=all --internal-ip"
    vm, queued = "gcloud compute tpus tpu-vm", "gcloud compute tpus queued-resources"
    shown = commands(result)
    start = shlex.split(shown.pop(6))
    archive = shown[3].removeprefix("pack ")
    assert shown == [
        f"{queued} create {place} --node-id=vit --runtime-version=v2-alpha-tpuv6e "
        "--accelerator-type=v6e-16 --spot --network=n",
        f"{queued} describe {place} '--format=value(state.state)'",
        f"{vm} describe {place} '--format=value(state)'",
        f"pack {archive}",
        f"{vm} scp {archive} vit:aft_jax.tar.gz {hosts}",
        f"{vm} ssh vit {hosts} '--command=mkdir -p aft_jax && tar -xzf aft_jax.tar.gz -C aft_jax'",
        f"{vm} ssh vit {hosts} '--command=bash aft_jax/launch/tpu_host.sh --stop'",
        f"{queued} delete {place} --force --quiet",
    ]
    assert start[:-1] == shlex.split(f"{vm} ssh vit {hosts}")
    assert start[-1] == (
        "--command=bash aft_jax/launch/tpu_host.sh --extras=train,data,tpu --bucket=b "
        f"-- {SHOWN} --distributed"
    )


def test_words_arrive_as_they_were_given(cloud):
    result = tpu_vm(cloud, "--dry-run", "--direct")
    start = next(line for line in commands(result) if "--extras" in line)
    remote = shlex.split(start)[-1].removeprefix("--command=")
    (cloud.checkout / "launch/tpu_host.sh").write_text("printf '%s\\n' \"$@\"")
    heard = subprocess.run(
        ["bash", "-c", remote], cwd=cloud.directory, capture_output=True, text=True
    )
    assert heard.stdout.splitlines() == ["--extras=train,data,tpu", "--", *WORDS, "--distributed"]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-32", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v4-32", "tpu-ubuntu2204-base"),
    ],
)
def test_knows_the_software_of_each_type(cloud, kind, version):
    result = tpu_vm(cloud, f"--type={kind}", "--direct", "--dry-run")
    assert commands(result)[0] == (
        "gcloud compute tpus tpu-vm create vit --zone=us-east5-b "
        f"--version={version} --accelerator-type={kind}"
    )


def test_queues_again_after_a_preemption_and_runs_again_after_75(cloud):
    cloud.answers(
        "states",
        *("ABSENT/ABSENT", "WAITING_FOR_RESOURCES/ABSENT", "PROVISIONING/CREATING", "ACTIVE/READY"),
        *("ACTIVE/READY", "ACTIVE/PREEMPTED", "DELETING/DELETING", "ABSENT/ABSENT", "ACTIVE/READY"),
    )
    cloud.answers("statuses", 75, 75, 0)
    result = tpu_vm(cloud)
    assert result.returncode == 0, result.stderr
    assert kinds(cloud) == [
        *(CREATE, *COPY_AND_RUN, "tpu-vm extras", "queued-resources delete"),
        *(CREATE, *COPY_AND_RUN),
    ]
    assert "vit is still yours and costs" in result.stdout


@pytest.mark.parametrize("lost", ["SUSPENDED/ABSENT", "FAILED/ABSENT", "ACTIVE/TERMINATED"])
def test_takes_a_failure_on_a_lost_slice_for_a_preemption(cloud, lost):
    cloud.answers(
        "states", "ACTIVE/READY", "ACTIVE/READY", lost, lost, "ABSENT/ABSENT", "ACTIVE/READY"
    )
    cloud.answers("statuses", 255, 0)
    result = tpu_vm(cloud, "--retries=0", "--delete-after")
    assert result.returncode == 0, result.stderr
    assert kinds(cloud) == [
        *(*COPY_AND_RUN, "queued-resources delete", CREATE),
        *(*COPY_AND_RUN, "queued-resources delete"),
    ]


@pytest.mark.parametrize(
    ("statuses", "runs"), [((2,), 1), ((3,), 1), ((74,), 1), ((1, 1, 0), 2), ((1, 75, 1, 0), 4)]
)
def test_ends_with_the_status_of_the_command(cloud, statuses, runs):
    cloud.answers("statuses", *statuses)
    result = tpu_vm(cloud, "--retries=1")
    assert result.returncode == statuses[runs - 1]
    assert kinds(cloud).count("tpu-vm extras") == runs


def test_gives_up_on_a_request_that_keeps_failing(cloud):
    cloud.answers("states", "FAILED/ABSENT")
    result = tpu_vm(cloud)
    assert result.returncode == 2
    assert "the request for vit failed three times" in result.stderr
    assert "vit is still yours and costs" in result.stdout
    assert kinds(cloud) == ["queued-resources delete"] * 2


def test_gives_up_on_a_state_that_it_can_read_no_more(cloud):
    cloud.answers("states", "ACTIVE/CREATING", *["DENIED/DENIED"] * 5, "ACTIVE/READY")
    result = tpu_vm(cloud, "--delete-after")
    assert result.returncode == 2
    assert "the state of vit cannot be read any more" in result.stderr
    assert kinds(cloud) == ["queued-resources delete"]


def test_one_look_that_fails_after_the_run_has_begun_is_no_end(cloud):
    cloud.answers("states", "ACTIVE/READY", "DENIED/DENIED", "ACTIVE/READY")
    cloud.answers("statuses", 75, 0)
    result = tpu_vm(cloud)
    assert result.returncode == 0, result.stderr
    assert kinds(cloud) == [*COPY_AND_RUN, "tpu-vm extras"]


def test_a_connection_that_is_lost_is_no_failure_of_the_run(cloud):
    cloud.answers("states", "ACTIVE/READY", *["DENIED/DENIED"] * 3, "ACTIVE/READY")
    cloud.answers("statuses", 255, 255, 255, 0)
    result = tpu_vm(cloud, "--retries=0", "--delete-after")
    assert result.returncode == 0, result.stderr
    assert kinds(cloud) == [*COPY_AND_RUN, *["tpu-vm extras"] * 3, "queued-resources delete"]
    assert result.stdout.count("the connection was lost") == 3


def test_a_connection_that_never_stands_is(cloud):
    cloud.answers("statuses", 255)
    result = tpu_vm(cloud, "--delete-after")
    assert result.returncode == 255
    assert result.stdout.count("the connection was lost") == 5
    ended = ["tpu-vm stop", "queued-resources delete"]  # what may still run there saves
    assert kinds(cloud) == [*COPY_AND_RUN, *["tpu-vm extras"] * 6, *ended]


def test_what_cannot_be_deleted_still_costs(cloud):
    (cloud.directory / "stuck").touch()
    cloud.answers("statuses", 3)
    result = tpu_vm(cloud, "--delete-after")
    assert result.returncode == 3
    assert "vit is still yours and costs" in result.stdout


def test_what_cannot_be_deleted_to_be_asked_for_anew_is_deleted_again(cloud):
    (cloud.directory / "stuck").touch()
    lost = "ACTIVE/PREEMPTED"
    cloud.answers("states", "ACTIVE/READY", lost, lost, lost, "ABSENT/ABSENT", "ACTIVE/READY")
    cloud.answers("statuses", 1, 0)
    result = tpu_vm(cloud)
    assert result.returncode == 0, result.stderr
    deleted = ["queued-resources delete"] * 2
    assert kinds(cloud) == [*COPY_AND_RUN, *deleted, CREATE, *COPY_AND_RUN]


def test_without_a_login_shows_what_gcloud_says(cloud):
    cloud.answers("states", "DENIED/DENIED")
    result = tpu_vm(cloud)
    assert result.returncode == 2
    assert "no active account" in result.stderr
    assert "the state of vit cannot be read" in result.stderr
    assert [call[4] for call in cloud.calls()] == ["describe"] * 2  # looked at once


def test_uses_and_deletes_a_slice_that_was_never_queued(cloud):
    cloud.answers("states", "ABSENT/STOPPED", "ABSENT/READY")
    assert tpu_vm(cloud, "--delete-after").returncode == 0
    assert kinds(cloud) == ["tpu-vm start", *COPY_AND_RUN, "tpu-vm delete"]


def test_copies_what_git_knows_and_is_there(cloud):
    (cloud.checkout / ".gitignore").write_text("/runs/\n")
    (cloud.checkout / "runs").mkdir()
    (cloud.checkout / "runs/big").write_text("")
    (cloud.checkout / "new file.py").write_text("")
    (cloud.checkout / "launch/demo.sh").unlink()
    assert tpu_vm(cloud).returncode == 0
    with tarfile.open(cloud.directory / "copied.tar.gz") as archive:
        names = set(archive.getnames())
    assert {"new file.py", ".gitignore", "launch/tpu_host.sh"} <= names
    assert not {"runs/big", "launch/demo.sh"} & names


def test_stops_the_run_on_the_hosts_when_it_is_interrupted(cloud):
    (cloud.directory / "slow").touch()
    started = cloud.begin("tpu_vm.sh", *SLICE, "--poll=0", "--delete-after", "--", *WORDS)
    until((cloud.directory / "running").exists)
    started.process.send_signal(signal.SIGTERM)
    status, output = started.end()
    assert status == 130, output
    assert kinds(cloud)[-1] == "tpu-vm stop"
    assert "is still yours and costs" in output


def test_between_two_looks_it_stops_the_run_too(cloud):
    cloud.answers("statuses", 1)
    started = cloud.begin("tpu_vm.sh", *SLICE, "--poll=1", "--", *WORDS)
    until((cloud.directory / "running").exists)
    until(lambda: cloud.calls()[-1][4] == "describe")
    started.process.send_signal(signal.SIGTERM)
    status, output = started.end()
    assert status == 130, output
    assert "tpu-vm stop" in kinds(cloud)


def test_a_copy_that_fails_is_made_again(cloud):
    (cloud.directory / "broken").touch()
    result = tpu_vm(cloud)
    assert result.returncode == 0, result.stderr
    assert kinds(cloud) == ["tpu-vm scp", *COPY_AND_RUN]


def test_a_slice_preempted_while_it_is_copied_to_is_asked_for_again(cloud):
    (cloud.directory / "broken").touch()
    lost = "SUSPENDED/PREEMPTED"
    cloud.answers("states", "ACTIVE/READY", lost, lost, "ABSENT/ABSENT", "ACTIVE/READY")
    result = tpu_vm(cloud)
    assert result.returncode == 0, result.stderr
    assert "while it was copied to" in result.stdout
    deleted = ["tpu-vm scp", "queued-resources delete"]
    assert kinds(cloud) == [*deleted, CREATE, *COPY_AND_RUN]
