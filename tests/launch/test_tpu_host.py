"""launch/tpu_host.sh: a run outlives its connection."""

from tests.launch.stage import SHOWN, WORDS, commands, until


def test_mounts_installs_and_passes_on_output_and_status(host):
    result = host.script("tpu_host.sh", "--bucket=b", "--", "bash", "-c", "echo 'a  b'; exit 75")
    assert result.returncode == 75, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-2:] == ["installed train,data,tpu", "a  b"]
    assert host.calls()[-1] == [
        *("gcsfuse", "--implicit-dirs", "--metadata-cache-ttl-secs=0"),
        *("--metadata-cache-negative-ttl-secs=0", "b", "runs"),
    ]


def test_dry_run_shows_every_command_and_runs_none(host):
    result = host.script("tpu_host.sh", "--bucket=b", "--dry-run", "--", *WORDS)
    assert result.returncode == 0, result.stderr
    assert not (host.directory / "calls").exists()
    shown = commands(result)
    assert shown[-5:] == [
        "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "
        "--metadata-cache-negative-ttl-secs=0 b runs",
        "python3 -m pip install --user -q uv==0.13.9",
        "uv python install -q 3.11",
        "source launch/environment.sh train,data,tpu",
        SHOWN,
    ]


def test_outlives_its_connection_and_is_followed_again(host):
    started = host.checkout / "started"
    first = host.begin("tpu_host.sh", "--", "training", "one")
    until(started.exists)
    first.process.kill()  # the connection is lost; the run is not
    first.end()
    second = host.begin("tpu_host.sh", "--", "training", "one")
    until(lambda: "following the run under way" in second.output.read_text())
    assert host.script("tpu_host.sh", "--stop").returncode == 0
    status, output = second.end()
    assert status == 75, output
    assert output.splitlines()[-2:] == ["started with one", "saved"]
    assert started.read_text() == "started with one\n"


def test_stops_another_command_first(host):
    started = host.checkout / "started"
    first = host.begin("tpu_host.sh", "--", "training", "one")
    until(started.exists)
    result = host.script("tpu_host.sh", "--", "echo", "two")
    assert result.returncode == 0, result.stderr
    _, output = first.end()
    assert output.endswith("saved\n")
    assert result.stdout.endswith("two\n")


def test_has_nothing_to_stop(host):
    assert host.script("tpu_host.sh", "--stop").returncode == 0
