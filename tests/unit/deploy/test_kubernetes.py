"""What the Kubernetes manifests promise to whoever reviews the security of a cluster."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from core.archive_file import read_archive_file
from core.settings import PROJECT, Settings
from tests.unit.deploy.compose_text import read_services
from tests.unit.deploy.keda import SCALED_OBJECT
from tests.unit.deploy.kustomize import Resource, containers_of, pod_of, render

FOLDER = PROJECT / "deploy" / "kubernetes"
OVERLAYS = {name: render(FOLDER / "overlays" / name) for name in ("cpu", "gpu")}
KUBERNETES = "1.37"
EACH = [(overlay, resource) for overlay, resources in OVERLAYS.items() for resource in resources]
PODS = [(overlay, resource) for overlay, resource in EACH if pod_of(resource)]


def _name(value: Any) -> str | None:
    return f"{value['kind']}-{value['metadata']['name']}" if isinstance(value, dict) else None


each = pytest.mark.parametrize(("overlay", "resource"), EACH, ids=_name)
each_pod = pytest.mark.parametrize(("overlay", "resource"), PODS, ids=_name)
each_overlay = pytest.mark.parametrize("resources", OVERLAYS.values(), ids=OVERLAYS.keys())


def _of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] == kind}


def _environment(container: Resource) -> dict[str, str | None]:
    """Variables by name; None where the value comes from a secret."""
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


@each
def test_kubernetes_takes_a_resource(overlay: str, resource: Resource) -> None:
    """By the cluster's own schemas, strictly: a misspelt field would be dropped in silence."""
    if resource["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(resource, SCALED_OBJECT)
        return
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


@each_overlay
def test_every_program_is_there_once(resources: list[Resource]) -> None:
    """And a name is given once a kind."""
    assert _of_kind(resources, "Deployment").keys() == {"api", "worker", "beat", "flower"}
    assert _of_kind(resources, "Job").keys() == {"migrate"}
    assert len({(resource["kind"], resource["metadata"]["name"]) for resource in resources}) == len(resources)


@each_pod
def test_a_pod_gives_up_what_it_does_not_need(overlay: str, resource: Resource) -> None:
    """No root, no capability, no writable system, no key to the cluster."""
    pod = pod_of(resource)
    assert pod is not None
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in containers_of(resource):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "runAsUser"} & rights.keys()
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]


@each_pod
def test_a_container_is_bounded_and_asked_how_it_is(overlay: str, resource: Resource) -> None:
    """Memory is bounded; a Job is asked by its end."""
    for container in containers_of(resource):
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        if resource["kind"] == "Deployment":
            assert {"startupProbe", "livenessProbe"} <= container.keys()


@each_pod
def test_images_are_of_this_version_and_programs_are_those_of_compose(overlay: str, resource: Resource) -> None:
    """The tag is written in several files."""
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    name = resource["metadata"]["name"]
    (container,) = containers_of(resource)
    image = "histobatch-gpu" if (overlay, name) == ("gpu", "worker") else "histobatch"
    assert container["image"] == f"{image}:{version[1]}"
    # A cluster has one kind of worker, and the stack both.
    service = f"worker-{overlay}" if name == "worker" else name
    assert f"    command: [{container['args'][0]}]\n" in read_services()[service]


@each_pod
def test_variables_are_settings_and_those_of_the_same_name_as_in_compose(overlay: str, resource: Resource) -> None:
    """A misspelt one would be ignored in silence."""
    settings = _of_kind(OVERLAYS[overlay], "ConfigMap")["settings"]["data"]
    for container in containers_of(resource):
        names = (settings.keys() | _environment(container).keys()) - {"HISTOBATCH_ROLE", "FORWARDED_ALLOW_IPS"}
        assert {name.removeprefix("HISTOBATCH_").lower() for name in names} <= Settings.model_fields.keys()
        assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}]


@each
def test_secrets_are_named_and_not_held(overlay: str, resource: Resource) -> None:
    """A manifest with a password in it is a password in the repository."""
    assert resource["kind"] != "Secret"
    example = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())
    kubernetes_validate.validate(example, KUBERNETES, strict=True)
    assert set(example["stringData"].values()) == {""}
    for container in containers_of(resource):
        for entry in container.get("env", []):
            is_secret = re.search(r"PASSWORD|TOKEN|SECRET|_URL$", entry["name"]) is not None
            assert ("valueFrom" in entry) == is_secret
            if is_secret:
                reference = entry["valueFrom"]["secretKeyRef"]
                assert reference["name"] == example["metadata"]["name"]
                assert reference["key"] in example["stringData"]


@each_overlay
def test_what_a_pod_mounts_exists_and_images_are_never_written(resources: list[Resource]) -> None:
    """Only the API writes, and only uploads."""
    claims = _of_kind(resources, "PersistentVolumeClaim")
    maps = _of_kind(resources, "ConfigMap")
    writers = set()
    for resource in (resource for resource in resources if pod_of(resource)):
        volumes = {volume["name"]: volume for volume in resource["spec"]["template"]["spec"]["volumes"]}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
        for mount in (mount for container in containers_of(resource) for mount in container["volumeMounts"]):
            volume = volumes[mount["name"]]
            if "persistentVolumeClaim" in volume and not mount.get("readOnly"):
                writers.add((resource["metadata"]["name"], mount["name"]))
    assert writers <= {("api", "uploads"), ("worker", "engines")}
    assert claims["images"]["spec"]["accessModes"] == ["ReadOnlyMany"]


@each_overlay
def test_nothing_goes_in_or_out_that_is_not_named(resources: list[Resource]) -> None:
    """The rule for all pods allows nothing; nobody but the proxy and Prometheus reaches in, and only the API."""
    policies = _of_kind(resources, "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached = [policy for policy in policies.values() if "ingress" in policy["spec"]]
    assert [policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for policy in reached] == ["api"]
    assert all(rule["from"] for policy in reached for rule in policy["spec"]["ingress"])
    ways_out = [rule for policy in policies.values() for rule in policy["spec"].get("egress", [])]
    assert {port["port"] for rule in ways_out for port in rule["ports"]} == {53, 5432, 6379}
    assert not [service for service in _of_kind(resources, "Service").values() if service["spec"].get("type")]


@each_overlay
def test_ports_agree_from_the_service_to_the_setting(resources: list[Resource]) -> None:
    """A service that points to another port than the program's answers nobody."""
    deployments = _of_kind(resources, "Deployment")
    services = _of_kind(resources, "Service")
    assert services.keys() == {"api", "flower"}
    for name, service in services.items():
        (container,) = containers_of(deployments[name])
        (port,) = service["spec"]["ports"]
        (opened,) = container["ports"]
        assert (port["targetPort"], port["port"]) == (opened["name"], opened["containerPort"])
        assert _environment(container)[f"HISTOBATCH_{name.upper()}_PORT"] == str(opened["containerPort"])
        assert (
            service["spec"]["selector"].items() <= deployments[name]["spec"]["template"]["metadata"]["labels"].items()
        )


@each_overlay
def test_selectors_select_their_own_pods(resources: list[Resource]) -> None:
    """A budget or a rule for pods that do not exist protects nothing."""
    deployments = _of_kind(resources, "Deployment")
    for name, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/name"] == name
    budgets = _of_kind(resources, "PodDisruptionBudget")
    assert budgets.keys() == {"api", "worker"}
    for name, budget in budgets.items():
        assert budget["spec"]["selector"] == {"matchLabels": {"app.kubernetes.io/name": name}}
    (scaled,) = _of_kind(resources, "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    # Who says how many there are must be one.
    assert "replicas" not in deployments["worker"]["spec"]
    assert scaled["spec"]["minReplicaCount"] >= 1


@each_overlay
def test_a_worker_may_finish_before_it_is_killed(resources: list[Resource]) -> None:
    """What it has in hand is done or handed back in its grace time, which Kubernetes' must be longer than."""
    worker = _of_kind(resources, "Deployment")["worker"]
    (container,) = containers_of(worker)
    own_s = float(_environment(container)["HISTOBATCH_SHUTDOWN_GRACE_S"] or 0)
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= own_s + 15
    file = _environment(container)["HISTOBATCH_HEALTH_FILE"] or ""
    assert file.startswith("/tmp/")
    script = container["livenessProbe"]["exec"]["command"][1]
    assert f"COPY deploy/healthcheck.py {script}\n" in (PROJECT / "deploy" / "Dockerfile").read_text()
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
    assert int(_environment(container)["HISTOBATCH_WORKER_MEMORY_BYTES"] or 0) < limit


def test_a_gpu_worker_has_a_gpu_and_keeps_its_engines() -> None:
    """And all that the base says."""
    worker = _of_kind(OVERLAYS["gpu"], "Deployment")["worker"]
    (container,) = containers_of(worker)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    variables = _environment(container)
    assert (variables["HISTOBATCH_ENGINE"], variables["HISTOBATCH_ENGINES"]) == ("tensorrt", "/engines")
    assert "HISTOBATCH_DATABASE_URL" in variables
    assert container["startupProbe"]["exec"]["command"] == container["livenessProbe"]["exec"]["command"]
    (plain,) = containers_of(_of_kind(OVERLAYS["cpu"], "Deployment")["worker"])
    assert "nvidia.com/gpu" not in plain["resources"]["limits"]


def test_the_file_of_archives_is_valid(tmp_path: Path) -> None:
    """A faulty one would be an error from the first start on."""
    file = tmp_path / "archives.toml"
    file.write_text(_of_kind(OVERLAYS["cpu"], "ConfigMap")["archives"]["data"]["archives.toml"])
    assert read_archive_file(file, Settings()) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_kustomize_itself_renders_the_same(name: str) -> None:
    """The rules above read what a small renderer made; where the real tool is at hand, it has the last word."""
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed here")
    done = subprocess.run([kustomize, "build", str(FOLDER / "overlays" / name)], capture_output=True, check=True)
    assert _comparable(list(yaml.safe_load_all(done.stdout))) == _comparable(OVERLAYS[name])


def _comparable(value: Any) -> Any:
    """The same with lists in one order: kustomize has its own."""
    if isinstance(value, dict):
        return {name: _comparable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((_comparable(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value
