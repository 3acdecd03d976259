"""As much of kustomize as deploy/kubernetes uses; anything else is refused, so that nothing is passed over."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "labels", "images", "patches"}
_CLUSTER_WIDE = {"Namespace"}
# Lists that a strategic merge patch merges, by the key that tells their elements apart; it replaces all others.
_MERGED = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def render(folder: Path) -> list[Resource]:
    """Return all resources of a folder with a kustomization.yaml."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert plan.keys() <= _KNOWN, plan.keys() - _KNOWN
    resources = [resource for name in plan["resources"] for resource in _read(folder / name)]
    for patch in plan.get("patches", []):
        assert patch.keys() == {"path"}
        for change in _read_documents(folder / patch["path"]):
            (target,) = [resource for resource in resources if _identity(resource) == _identity(change)]
            _merge(target, change)
    for label in plan.get("labels", []):
        assert label.keys() == {"pairs", "includeTemplates"}
        for resource in resources:
            _label(resource, label["pairs"])
    for image in plan.get("images", []):
        assert image.keys() == {"name", "newTag"}
        for container in (container for resource in resources for container in containers_of(resource)):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"
    for resource in resources:
        if resource["kind"] not in _CLUSTER_WIDE:
            resource["metadata"]["namespace"] = plan["namespace"]
    return resources


def pod_of(resource: Resource) -> Resource | None:
    """The pod that a Deployment or a Job runs; None for what runs none."""
    template = resource.get("spec", {}).get("template")
    return dict(template) if template else None


def containers_of(resource: Resource) -> list[Resource]:
    """All containers of a resource."""
    pod = pod_of(resource)
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]] if pod else []


def _read(path: Path) -> list[Resource]:
    return render(path) if path.is_dir() else list(_read_documents(path))


def _read_documents(path: Path) -> Iterator[Resource]:
    yield from yaml.safe_load_all(path.read_text())


def _identity(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


def _merge(target: Resource, change: Resource) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        elif name in _MERGED and name in target:
            _merge_list(target[name], value, _MERGED[name])
        else:
            target[name] = value


def _merge_list(target: list[Resource], change: list[Resource], key: str) -> None:
    there = {element[key]: element for element in target}
    for element in change:
        if element[key] in there:
            _merge(there[element[key]], element)
        else:
            target.append(element)


def _label(resource: Resource, pairs: dict[str, str]) -> None:
    templates = [resource["spec"]["template"]] if pod_of(resource) else []
    for labelled in (resource, *templates):
        labelled["metadata"]["labels"] = labelled["metadata"].get("labels", {}) | pairs
