"""deploy/kubernetes: its manifests are what Kubernetes takes, and promise what TierQ needs of stopping and secrets."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support import kustomize
from tierq_shared import configuration
from tierq_shared.prices import PriceList
from tierq_shared.settings import Settings
from tierq_workers.pool import HAND_BACK_S, STOP_MARGIN_S
from unit.docs.pages import ROOT, blocks

BASE = kustomize.KUBERNETES / "base"
FLOWER = kustomize.KUBERNETES / "components" / "flower"
PORT = 9464

Manifest = dict[str, Any]


def manifests(*kinds: str, folder: Path = BASE) -> list[Manifest]:
    return [one for one in kustomize.build(folder) if not kinds or one["kind"] in kinds]


def workers() -> dict[str, Manifest]:
    """The Deployments of the pools, by tier."""
    return {one["metadata"]["labels"]["tierq/tier"]: one for one in manifests("Deployment")}


def pods() -> Iterator[tuple[str, Manifest]]:
    """Every pod that there is, with whose it is."""
    for one in [*manifests("Deployment", "Job"), *manifests("Deployment", folder=FLOWER)]:
        yield one["metadata"]["name"], one["spec"]["template"]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return configuration.load(BASE / "tierq.toml", env={})


def ids(found: list[Any]) -> list[str]:
    return [f"{one['kind']}-{one['metadata']['name']}" for one in found]


NATIVE = [one for folder in (BASE, FLOWER) for one in kustomize.build(folder)]


@pytest.mark.parametrize("manifest", NATIVE, ids=ids(NATIVE))
def test_kubernetes_takes_every_manifest(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("damage", [{"replicas": "two"}, {"terminationGrace": 60}])
def test_what_kubernetes_would_refuse_is_refused(damage: Manifest) -> None:
    broken = copy.deepcopy(workers()["small"])
    broken["spec"] |= damage

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", kustomize.folders(), ids=lambda folder: folder.name)
def test_every_kustomization_builds_and_uses_all_that_lies_beside_it(folder: Path) -> None:
    assert kustomize.build(folder)
    text = (folder / "kustomization.yaml").read_text()
    beside = {path.name for path in folder.iterdir() if path.is_file()} - {"kustomization.yaml"}
    assert beside <= set(re.findall(r"- (\S+)$", text, re.M))


def test_a_reference_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "base")
    (tmp_path / "base" / "migrate.yaml").unlink()

    with pytest.raises(kustomize.WrongKustomization, match=r"migrate\.yaml"):
        kustomize.build(tmp_path / "base")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
@pytest.mark.parametrize("folder", kustomize.folders(), ids=lambda folder: folder.name)
def test_kustomize_itself_gathers_the_same(folder: Path, tmp_path: Path) -> None:
    if folder == FLOWER:  # a component is built only as a part of something
        overlay = {"resources": ["../kubernetes/base"], "components": ["../kubernetes/components/flower"]}
        shutil.copytree(kustomize.KUBERNETES, tmp_path / "kubernetes")
        folder = tmp_path / "overlay"
        folder.mkdir()
        kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kind | overlay))
    built = yaml.safe_load_all(kubectl(folder))

    found = {(one["kind"], without_hash(one["metadata"]["name"])): one for one in built}
    expected = {(one["kind"], one["metadata"]["name"]): one for one in kustomize.build(folder)}
    assert found.keys() == expected.keys()
    for name, manifest in found.items():
        assert json.loads(without_hash(json.dumps(manifest))) == expected[name]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_the_overlay_of_the_how_to_builds(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md"
    (overlay,) = blocks("yaml", [page])
    shutil.copytree(kustomize.KUBERNETES, tmp_path / "deploy" / "kubernetes")
    shutil.copytree(BASE, tmp_path / "overlay", ignore=shutil.ignore_patterns("*.yaml"))
    (tmp_path / "overlay" / "kustomization.yaml").write_text(overlay.text)
    found = list(yaml.safe_load_all(kubectl(tmp_path / "overlay")))

    assert {one["metadata"].get("namespace") for one in found} == {"tierq"}
    deployments = [one for one in found if one["kind"] == "Deployment"]
    assert len(deployments) == len(workers()) + 1
    (config,) = [one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"]
    for one in deployments:
        spec = one["spec"]["template"]["spec"]
        assert spec["containers"][0]["image"] == "registry.example/tierq:1"
        assert spec["volumes"][0]["configMap"]["name"] == config != "tierq-config"


def kubectl(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True).stdout


def without_hash(text: str) -> str:
    return re.sub(r"tierq-config-[a-z0-9]{10}\b", "tierq-config", text)


def test_each_tier_of_the_configuration_has_its_pool_and_no_other_has(settings: Settings) -> None:
    assert list(settings.tiers) == ["small", "medium", "large"]
    assert set(workers()) == set(settings.tiers)
    for tier, deployment in workers().items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["worker", tier]
        assert deployment["metadata"]["name"] == f"tierq-worker-{tier}"


def test_the_pools_differ_in_their_tier_alone() -> None:
    texts = {(BASE / f"worker-{tier}.yaml").read_text().replace(tier, "TIER") for tier in workers()}

    assert len(texts) == 1


def test_selectors_find_the_pods_of_their_tier_and_no_others() -> None:
    found = {name: template["metadata"]["labels"] for name, template in pods()}

    def selected(wanted: dict[str, str]) -> set[str]:
        return {name for name, labels in found.items() if wanted.items() <= labels.items()}

    for name in (f"tierq-worker-{tier}" for tier in workers()):
        (deployment,) = [one for one in manifests("Deployment") if one["metadata"]["name"] == name]
        (budget,) = [one for one in manifests("PodDisruptionBudget") if one["metadata"]["name"] == name]
        for one in (deployment, budget):
            assert selected(one["spec"]["selector"]["matchLabels"]) == {name}
    (metrics,) = manifests("Service")
    assert selected(metrics["spec"]["selector"]) == {f"tierq-worker-{tier}" for tier in workers()}
    (service,) = manifests("Service", folder=FLOWER)
    assert selected(service["spec"]["selector"]) == {"tierq-flower"}


def test_workers_are_given_time_to_stop_and_a_drain_takes_one_at_a_time(settings: Settings) -> None:
    for deployment in workers().values():
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace >= settings.worker.grace + STOP_MARGIN_S + HAND_BACK_S + 5
    assert {one["spec"].get("maxUnavailable") for one in manifests("PodDisruptionBudget")} == {1}


def test_workers_are_scaled_by_hand_or_by_keda_and_not_by_an_apply() -> None:
    assert not any("replicas" in deployment["spec"] for deployment in workers().values())


def test_probes_and_prometheus_ask_where_the_metrics_are_served(settings: Settings) -> None:
    assert (settings.metrics.host, settings.metrics.port) == ("0.0.0.0", PORT)
    for deployment in workers().values():
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        assert container["ports"] == [{"name": "metrics", "containerPort": PORT}]
        asked = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
        for probe, path in asked.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}
        annotations = template["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(PORT)
        assert annotations["prometheus.io/path"] == "/metrics"
    (service,) = manifests("Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["targetPort"] == "metrics"


def test_a_database_that_is_away_for_a_minute_restarts_no_worker() -> None:
    for deployment in workers().values():
        probe = deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


@pytest.mark.parametrize(("name", "template"), list(pods()), ids=[name for name, _ in pods()])
def test_no_pod_may_more_than_it_needs(name: str, template: Manifest) -> None:
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert f"--uid {spec['securityContext']['runAsUser']} " in (kustomize.KUBERNETES.parent / "Dockerfile").read_text()
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        writable = {one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert writable == {"tmp"}


@pytest.mark.parametrize(("name", "template"), list(pods()), ids=[name for name, _ in pods()])
def test_secrets_come_as_files_that_are_mounted(name: str, template: Manifest) -> None:
    (container,) = template["spec"]["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    secrets = {mounts[name] for name, one in volumes.items() if "secret" in one}
    for variable in container["env"]:
        assert set(variable) == {"name", "value"}
        if variable["name"] != "TIERQ_CONFIG":
            assert variable["name"].endswith("_FILE")
            assert str(Path(variable["value"]).parent) in secrets
    assert container["env"][0] == {"name": "TIERQ_CONFIG", "value": f"{mounts['config']}/tierq.toml"}


def test_only_workers_are_shown_the_providers_keys() -> None:
    shown = {
        name
        for name, template in pods()
        if any(one.get("secret", {}).get("secretName") == "tierq-providers" for one in template["spec"]["volumes"])
    }

    assert shown == {f"tierq-worker-{tier}" for tier in workers()}


def test_every_key_that_the_configuration_needs_is_mounted(settings: Settings) -> None:
    for tier, deployment in workers().items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {one["name"] for one in container["env"]}
        needed = {configuration.KEY_VARIABLES[one.provider] for one in settings.called(tier)}
        assert {f"{name}_FILE" for name in [*needed, *configuration.URL_VARIABLES.values()]} <= given


def test_no_secret_and_no_namespace_stands_in_any_file() -> None:
    for path in kustomize.KUBERNETES.rglob("*.*"):
        text = path.read_text()
        assert not re.search(r"sk-\w{8}|AIza\w{8}|kind: Secret$|^ *namespace:", text, re.M), path


def test_the_configuration_names_only_models_that_are_priced(settings: Settings) -> None:
    assert all(PriceList().rates(deployment) for deployment in settings.deployments.values())
