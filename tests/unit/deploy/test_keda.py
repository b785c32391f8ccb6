"""deploy/kubernetes/overlays: KEDA is given what it takes, and scales each pool on the tier's true backlog."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest

from support import keda, kustomize
from tierq_shared import configuration
from tierq_shared.store import schema
from tierq_shared.store.connection import Store
from tierq_workers.observers.gauges import Gauges
from tierq_workers.vitals import Phase, Vitals
from unit.docs.pages import ROOT, blocks

OVERLAYS = kustomize.KUBERNETES / "overlays"
PAGE = ROOT / "docs" / "how-to" / "scale-on-the-backlog.md"
TIERS = ["small", "medium", "large"]

Manifest = dict[str, Any]


def manifests(overlay: str, kind: str) -> list[Manifest]:
    return [one for one in kustomize.build(OVERLAYS / overlay) if one["kind"] == kind]


def scaled(overlay: str) -> dict[str, Manifest]:
    """The ScaledObjects of an overlay, by tier."""
    return {one["metadata"]["name"].removeprefix("tierq-worker-"): one for one in manifests(overlay, "ScaledObject")}


def trigger(scaled_object: Manifest) -> Manifest:
    (found,) = scaled_object["spec"]["triggers"]
    return dict(found)


OWN = [
    (overlay, one)
    for overlay in sorted(path.name for path in OVERLAYS.iterdir())
    for one in kustomize.build(OVERLAYS / overlay)
    if one["apiVersion"].startswith("keda.sh/")
]


@pytest.mark.parametrize(("overlay", "manifest"), OWN, ids=[f"{name}-{one['metadata']['name']}" for name, one in OWN])
def test_keda_takes_every_object(overlay: str, manifest: Manifest) -> None:
    jsonschema.validate(manifest, keda.SCHEMAS[manifest["kind"]])


@pytest.mark.parametrize(
    "damage", [{"minReplicas": 1}, {"maxReplicaCount": "20"}, {"fallback": {"replicas": 2}}, {"triggers": []}]
)
def test_what_keda_would_refuse_is_refused(damage: Manifest) -> None:
    broken = copy.deepcopy(scaled("keda-postgresql")["small"])
    broken["spec"] |= damage

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, keda.SCHEMAS["ScaledObject"])


@pytest.mark.parametrize("overlay", ["keda-postgresql", "keda-prometheus"])
def test_each_pool_is_scaled_between_bounds(overlay: str) -> None:
    found = scaled(overlay)
    assert list(found) == TIERS
    pools = {one["metadata"]["name"] for one in manifests(overlay, "Deployment")}
    for tier, one in found.items():
        spec = one["spec"]
        assert spec["scaleTargetRef"]["name"] == f"tierq-worker-{tier}"
        assert spec["scaleTargetRef"]["name"] in pools
        # The sweeper lives in the workers: with none at all, nothing would ring for what was lost.
        assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


def test_both_ways_scale_alike() -> None:
    by_sql, by_prometheus = scaled("keda-postgresql"), scaled("keda-prometheus")
    for tier in TIERS:
        one, other = copy.deepcopy(by_sql[tier]["spec"]), copy.deepcopy(by_prometheus[tier]["spec"])
        (sql,), (prometheus,) = one.pop("triggers"), other.pop("triggers")
        assert one == other
        assert sql["metadata"]["targetQueryValue"] == prometheus["metadata"]["threshold"]


@pytest.mark.parametrize("tier", TIERS)
def test_the_query_is_the_documented_statement(tier: str) -> None:
    (block,) = blocks("sql", [PAGE])
    documented = "\n".join(line for line in block.text.splitlines() if not line.startswith("--"))
    found = trigger(scaled("keda-postgresql")[tier])

    assert found["type"] == "postgresql"
    assert found["metadata"]["query"].split() == documented.replace("'small'", f"'{tier}'").split()


def test_the_connection_is_a_secret_by_reference() -> None:
    (authentication,) = manifests("keda-postgresql", "TriggerAuthentication")
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert reference["parameter"] == "connection"
    for one in scaled("keda-postgresql").values():
        assert trigger(one)["authenticationRef"] == {"name": authentication["metadata"]["name"]}


@pytest.mark.parametrize("tier", TIERS)
def test_the_prometheus_query_is_sound_and_counts_no_worker_twice(tier: str) -> None:
    found = trigger(scaled("keda-prometheus")[tier])
    parsed = promql_parser.parse(found["metadata"]["query"])
    assert str(parsed.op) == "max"
    assert parsed.expr.name == "tierq_ready_tasks"
    assert [(one.name, one.value) for one in parsed.expr.matchers.matchers] == [("tier", tier)]
    assert found["metadata"]["ignoreNullValues"] == "false"


def test_the_metric_is_one_that_workers_serve_for_every_tier(tmp_path: Path) -> None:
    settings = configuration.load(kustomize.KUBERNETES / "base" / "tierq.toml", env={})
    store = Store(f"sqlite:///{tmp_path}/tierq.db")
    schema.migrate(store)
    vitals = Vitals("small", Phase.WORKING, settings, in_flight=0, silent_s=0.0, lag_s=0.0, lease_left_s=30.0)
    gauges = Gauges(store, lambda: vitals)

    served = {one.name: one.samples for one in gauges.collect()}
    gauges.close()
    store.close()
    assert [(sample.labels, sample.value) for sample in served["tierq_ready_tasks"]] == [
        ({"tier": tier}, 0) for tier in TIERS
    ]
