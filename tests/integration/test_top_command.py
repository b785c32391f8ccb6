"""`tierq top` against a real site."""

from __future__ import annotations

import json

from support.command import tierq
from support.servers import Site
from tierq import Classify, Client

intent = Classify.spec("intent", labels=["billing", "bug"])


def test_one_frame_and_one_object(site: Site) -> None:
    with Client(config=site.config) as client:
        batch = client.submit_many([intent(text=f"ticket {n}", tier="small") for n in range(3)], label="tickets")
    as_json = tierq(site.folder, "top", "--json")
    assert as_json.returncode == 0, as_json.stderr
    told = json.loads(as_json.stdout)
    assert {name: one["ready"] for name, one in told["tiers"].items()} == {"small": 3, "medium": 0, "large": 0}
    assert {one["deployment"]: one["condition"] for one in told["deployments"]} == dict.fromkeys(
        ("mini", "haiku", "flash", "pro"), "closed"
    )
    assert [(one["batch_id"], one["label"], one["total"]) for one in told["batches"]] == [(batch.id, "tickets", 3)]

    site.redis.kill()
    once = tierq(site.folder, "top", "--once", COLUMNS="100")
    assert once.returncode == 0, once.stderr
    lines = [" ".join(line.split()) for line in once.stdout.splitlines()]
    assert "small: tasks are ready (3), and no worker is live" in lines
    assert any(line.startswith("deployments: the state Redis cannot be read (ConnectionError)") for line in lines)
    assert any(line.startswith(f"{batch.id[:12]} tickets ") for line in lines)
