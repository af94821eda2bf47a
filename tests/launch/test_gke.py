"""launch/gke.sh and the JobSet that it applies."""

import json

import pytest
import yaml

from tests.launch.stage import ROOT, WORDS, commands

POD = (
    *("--name=vit", "--image=pkg.dev/p/r/aft-jax", "--node-pool=slice", "--bucket=b"),
    *("--accelerator=tpu-v6e-slice", "--topology=4x4", "--hosts=4", "--service-account=runner"),
)
KUBECTL = """
case "$*" in
  *apply*) cat >applied.yaml ;;
  *'get jobset'*)
    state="$(answer states)"
    [[ $state != REFUSED ]] || { echo "no connection" >&2; exit 1; }
    echo "${state#RUNNING}"
    ;;
esac
"""


@pytest.fixture
def cluster(stage):
    stage.stand_in("kubectl", KUBECTL)
    return stage


def test_dry_run_shows_every_command_and_runs_none(cluster):
    result = cluster.script("gke.sh", *POD, "--namespace=n", "--dry-run", "--", *WORDS)
    assert result.returncode == 0, result.stderr
    assert not (cluster.directory / "calls").exists()
    assert commands(result) == [
        "kubectl --namespace=n apply -f -",
        "kubectl --namespace=n get jobset vit '--output=jsonpath={.status.terminalState}'",
        "kubectl --namespace=n logs --follow --prefix --tail=-1 --ignore-errors "
        "--max-log-requests=4 --selector=jobset.sigs.k8s.io/jobset-name=vit --container=aft-jax",
    ]


@pytest.mark.parametrize(("end", "status"), [("Completed", 0), ("Failed", 1)])
def test_applies_the_manifest_and_waits_for_the_end(cluster, end, status):
    cluster.answers("states", "RUNNING", "RUNNING", end)
    result = cluster.script("gke.sh", *POD, "--poll=0", "--", *WORDS)
    assert result.returncode == status, result.stderr
    assert [call[1] for call in cluster.calls()] == ["apply", *["get", "logs"] * 2, "get"]
    assert f"vit: {end}" in result.stdout
    manifest = yaml.safe_load((cluster.directory / "applied.yaml").read_text())
    assert manifest["kind"] == "JobSet"
    assert manifest["metadata"]["name"] == "vit"
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completionMode"], job["parallelism"], job["completions"]) == ("Indexed", 4, 4)
    pod = job["template"]["spec"]
    assert pod["serviceAccountName"] == "runner"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-nodepool": "slice",
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    (container,) = pod["containers"]
    assert container["command"] == WORDS
    assert container["image"] == "pkg.dev/p/r/aft-jax"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["volumeMounts"][0]["mountPath"] == "/aft_jax/runs"
    volume = pod["volumes"][0]["csi"]
    assert volume["driver"] == "gcsfuse.csi.storage.gke.io"
    assert volume["volumeAttributes"]["bucketName"] == "b"
    assert "metadata-cache:ttl-secs:0" in volume["volumeAttributes"]["mountOptions"].split(",")
    assert "${" not in json.dumps(manifest)


def test_a_state_that_cannot_be_read_is_asked_for_again(cluster):
    cluster.answers("states", "REFUSED", "RUNNING", *["REFUSED"] * 4, "Completed")
    result = cluster.script("gke.sh", *POD, "--poll=0", "--", *WORDS)
    assert result.returncode == 0, result.stderr
    assert [call[1] for call in cluster.calls()] == ["apply", *["get"] * 2, "logs", *["get"] * 5]


def test_a_state_that_stays_unreadable_ends_the_script_not_the_run(cluster):
    cluster.answers("states", "REFUSED")
    result = cluster.script("gke.sh", *POD, "--poll=0", "--", *WORDS)
    assert result.returncode == 2
    assert "no connection" in result.stderr
    assert "the state of vit cannot be read; the reason stands above. The run goes on." in (
        result.stderr
    )
    assert [call[1] for call in cluster.calls()] == ["apply", *["get"] * 5]


def test_restarts_what_was_preempted_without_counting_and_fails_what_is_hopeless():
    manifest = yaml.safe_load((ROOT / "launch/gke_jobset.yaml").read_text())  # valid as it stands
    policy = manifest["spec"]["failurePolicy"]
    hopeless, preempted = policy["rules"]
    assert policy["maxRestarts"] == 3
    assert hopeless["action"] == "FailJobSet"
    assert preempted["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert (
        preempted["onJobFailureReasons"] == hopeless["onJobFailureReasons"] == ["PodFailurePolicy"]
    )
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    disruption, codes = job["podFailurePolicy"]["rules"]
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert (disruption["action"], codes["action"]) == ("FailJob", "FailJob")
    assert codes["onExitCodes"]["values"] == [2, 3, 74, 75]
    assert hopeless["onJobFailureMessagePatterns"] == ["exit code (2|3|74) "]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy demands it
    (container,) = job["template"]["spec"]["containers"]
    assert codes["onExitCodes"]["containerName"] == container["name"]
