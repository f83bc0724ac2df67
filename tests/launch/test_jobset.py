"""The Kubernetes manifests, filled in with the values of their own comments.

Kubeflow publishes the fields of JobSet v1alpha2, and of the jobs and pods in it, as Python classes:
what they do not know does not come back from them, and wrong types raise. What no schema says, that
the parts fit each other and that exit codes mean what they should, is asserted here.
"""

import copy
import math
import os
import re
import string

import pydantic
import pytest
import yaml
from helpers.scripts import LAUNCH, ROOT
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

FILES = ["jobset.yaml", "jobset-tpu.yaml"]


def values(name: str) -> dict[str, str]:
    """What the comments at a manifest's top export."""
    text = (LAUNCH / name).read_text()
    exports = re.findall(r"^#   export (.+)$", text, re.MULTILINE)
    return dict(pair.split("=", 1) for line in exports for pair in line.split())


def manifest(name: str) -> dict:
    """As envsubst makes it: $(...) is Kubernetes' own."""
    text = string.Template((LAUNCH / name).read_text()).safe_substitute(values(name))
    assert not re.search(r"\$\{?\w", text)
    return yaml.safe_load(text)


def known(jobset: dict) -> bool:
    return JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset


def job_of(jobset: dict) -> tuple[dict, dict, dict]:
    """(job, pod, container) of the one replicated job."""
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, job["template"]["spec"], container


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_known(name):
    jobset = manifest(name)
    assert known(jobset)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    for part, wrong in [("job", "paralelism"), ("pod", "restartpolicy"), ("container", "comand")]:
        spoilt = copy.deepcopy(jobset)
        dict(zip(["job", "pod", "container"], job_of(spoilt), strict=True))[part][wrong] = "x"
        assert not known(spoilt)
    spoilt = copy.deepcopy(jobset)
    job_of(spoilt)[0]["parallelism"] = "two"
    with pytest.raises(pydantic.ValidationError):
        known(spoilt)


@pytest.mark.parametrize("name", FILES)
def test_exit_codes_mean_the_same_as_elsewhere(name):
    """Any pod that fails makes all start again; exit code 2 ends everything; TERM leaves time."""
    jobset = manifest(name)
    job, pod, container = job_of(jobset)
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 3
    (rule,) = policy["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    (pod_rule,) = job["podFailurePolicy"]["rules"]
    assert pod_rule["action"] == "FailJob"
    assert pod_rule["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [2],
    }
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize("name", FILES)
def test_it_runs_the_ordinary_command(name):
    given = values(name)
    container = job_of(manifest(name))[2]
    wrapper, *command = container["command"]
    config, workdir = f"--config={given['CONFIG']}", f"--workdir={given['WORKDIR']}"
    assert command == ["python", "-m", "inr_gan_jax.main", config, workdir]
    assert os.access(ROOT / wrapper, os.X_OK) and (ROOT / given["CONFIG"]).exists()
    assert given["WORKDIR"].startswith("gs://")
    assert container["image"] == given["IMAGE"]


@pytest.mark.parametrize("name", FILES)
def test_one_process_for_each_host(name):
    given, job = values(name), job_of(manifest(name))[0]
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == int(given["HOSTS"])
    if "TOPOLOGY" in given:
        chips = math.prod(map(int, given["TOPOLOGY"].split("x")))
        assert chips == int(given["HOSTS"]) * int(given["CHIPS"])


def test_gpu_processes_find_each_other():
    jobset, given = manifest("jobset.yaml"), values("jobset.yaml")
    _, pod, container = job_of(jobset)
    (replicated,) = jobset["spec"]["replicatedJobs"]
    first = {"replicatedJob": replicated["name"], "jobIndex": 0, "podIndex": 0}
    assert jobset["spec"]["coordinator"] == first and replicated["replicas"] == 1

    def annotation(name):
        return {"fieldRef": {"fieldPath": f"metadata.annotations['{name}']"}}

    env = {entry.pop("name"): entry for entry in container["env"]}
    assert list(env) == [  # $(COORDINATOR) must be known before it is used
        "COORDINATOR", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID",
    ]  # fmt: skip
    assert env["COORDINATOR"]["valueFrom"] == annotation("jobset.sigs.k8s.io/coordinator")
    assert re.fullmatch(r"\$\(COORDINATOR\):\d{4,5}", env["JAX_COORDINATOR_ADDRESS"]["value"])
    assert env["JAX_NUM_PROCESSES"]["value"] == given["HOSTS"]
    index = annotation("batch.kubernetes.io/job-completion-index")
    assert env["JAX_PROCESS_ID"]["valueFrom"] == index
    assert container["resources"]["limits"] == {"nvidia.com/gpu": int(given["GPUS"])}
    assert any(toleration["key"] == "nvidia.com/gpu" for toleration in pod["tolerations"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_tpu_hosts_are_of_one_slice():
    jobset, given = manifest("jobset-tpu.yaml"), values("jobset-tpu.yaml")
    _, pod, container = job_of(jobset)
    topology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert jobset["metadata"]["annotations"] == {topology: "cloud.google.com/gke-nodepool"}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": given["TPU"],
        "cloud.google.com/gke-tpu-topology": given["TOPOLOGY"],
    }
    assert container["resources"]["limits"] == {"google.com/tpu": int(given["CHIPS"])}
