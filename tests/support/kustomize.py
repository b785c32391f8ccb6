"""The Kubernetes manifests as data: what a kustomization refers to, gathered as `kubectl kustomize` would.

Only as much of kustomize as our files use: resources, components, generated ConfigMaps and common labels. Every other
key is refused, so that none goes unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
_KINDS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}
_KEYS = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "labels"}


class WrongKustomization(Exception):
    """A kustomization that kustomize would refuse, or that uses more of it than is known here."""


def folders() -> list[Path]:
    """Every folder that holds a kustomization."""
    return sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))


def build(folder: Path) -> list[dict[str, Any]]:
    """All manifests of a folder's kustomization.

    Raises:
        WrongKustomization: it refers to what is not there, has an unknown key, or an object comes twice.
    """
    found = list(_gather(folder))
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    if len(names) != len(set(names)):
        raise WrongKustomization(f"{folder}: an object comes twice in {sorted(names)}")
    return found


def _gather(folder: Path) -> Iterator[dict[str, Any]]:
    kustomization = _read(folder)
    for name in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
        for manifest in _manifests((folder / name).resolve()):
            yield _labelled(manifest, kustomization.get("labels", []))
    for generator in kustomization.get("configMapGenerator", []):
        yield _labelled(_config_map(folder, generator), kustomization.get("labels", []))


def _read(folder: Path) -> dict[str, Any]:
    kustomization = dict(yaml.safe_load((folder / "kustomization.yaml").read_text()))
    if _KINDS.get(kustomization.get("kind", "")) != kustomization.get("apiVersion"):
        raise WrongKustomization(f"{folder}: {kustomization.get('kind')} of {kustomization.get('apiVersion')}")
    if unknown := kustomization.keys() - _KEYS:
        raise WrongKustomization(f"{folder}: {sorted(unknown)} are not known here")
    return kustomization


def _manifests(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        yield from _gather(path)
    elif path.is_file():
        yield from yaml.safe_load_all(path.read_text())
    else:
        raise WrongKustomization(f"{path} is not there")


def _labelled(manifest: dict[str, Any], labels: list[dict[str, Any]]) -> dict[str, Any]:
    for rule in labels:
        template = manifest.get("spec", {}).get("template") if rule.get("includeTemplates") else None
        for one in filter(None, (manifest, template)):
            one["metadata"].setdefault("labels", {}).update(rule["pairs"])
    return manifest


def _config_map(folder: Path, generator: dict[str, Any]) -> dict[str, Any]:
    data = {Path(name).name: (folder / name).read_text() for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}
