"""`tierq deployments`: over a real Redis, over the embedded stack, and where there is none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from support.command import tierq
from support.embedded import embedded_site
from support.permits import breaker_ask, limit_ask
from support.servers import Simulator, Site
from support.waiting import eventually
from tierq_shared import configuration
from tierq_shared.deployments import Deployment
from tierq_workers.permits.deciders import RedisDecider
from tierq_workers.permits.keys import breaker_key, limit_key
from unit.docs.pages import ROOT, blocks, commands

GUIDE = ROOT / "docs" / "how-to" / "see-limits-and-breakers.md"

pytestmark = pytest.mark.timeout(240)


def state_url(site: Site) -> str:
    url = configuration.load(site.config).state_url
    assert url is not None
    return url.get_secret_value()


def workers_report(site: Site) -> None:
    """As workers do: `haiku` failed ten times, `flash` is used up, `mini` was throttled at 600 calls a minute."""
    throttled = limit_ask(
        key=limit_key(Deployment(name="mini", provider="openai", model="m")), told_rpm=600.0, throttled=0
    )
    failed = breaker_ask(key=breaker_key("haiku"), ok=2, failed=10)
    used_up = breaker_ask(key=breaker_key("flash"), rest=300.0)

    async def report() -> None:
        decider = RedisDecider(state_url(site))
        await decider.decide({"limits": [throttled], "breakers": [failed, used_up]})
        await decider.aclose()

    asyncio.run(report())


def told(folder: Path, *arguments: str, **env: str) -> str:
    done = tierq(folder, "deployments", *arguments, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_shows_what_the_workers_share(site: Site) -> None:
    assert {one["condition"] for one in _json(site)["deployments"]} == {"closed"}
    workers_report(site)
    found = _json(site)
    by_name = {one["deployment"]: one for one in found["deployments"]}
    assert [by_name[name]["condition"] for name in ("mini", "haiku", "flash", "pro")] == [
        "closed", "open", "resting", "closed",
    ]  # fmt: skip
    haiku = by_name["haiku"]
    assert (haiku["tiers"], haiku["calls"], haiku["failures"]) == ({"small": 2, "medium": 1}, 12, 10)
    assert 0 < haiku["seconds"] <= 5
    assert 200 < by_name["flash"]["seconds"] <= 300
    (limit,) = [one for one in found["limits"] if one["deployments"] == ["mini"]]
    assert (limit["rpm"], limit["rpm_from"], limit["cuts"]) == (540, "learned", 1)
    table = told(site.folder)
    assert "resting 5 min: quota exhausted" in table
    assert "540 learned" in table
    assert 'tierq_breaker_openings_total{deployment="haiku"} 1\n' in told(site.folder, "--prometheus")


def _json(site: Site, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(told(site.folder, "--json", *arguments)))


def test_one_deployment_comes_with_its_history(site: Site) -> None:
    workers_report(site)
    found = _json(site, "mini")
    assert [one["deployment"] for one in found["deployments"]] == ["mini"]
    (event,) = found["history"]
    assert (event["state"], event["rpm"]) == ("throttled", 540)
    said = told(site.folder, "haiku")
    assert "open for 5 s" in said
    assert "10 of 12 calls failed" in said
    assert "nothing has happened to it yet" in told(site.folder, "pro")


def test_looking_changes_nothing(site: Site) -> None:
    workers_report(site)
    state = redis.Redis.from_url(state_url(site))

    def everything() -> dict[bytes, Any]:
        keys: Any = state.keys("*")
        return {key: state.dump(key) for key in keys}

    before = everything()
    told(site.folder)
    told(site.folder, "haiku", "--json")
    told(site.folder, "--prometheus")
    assert everything() == before
    state.close()


def refused(folder: Path, *arguments: str, **env: str) -> str:
    done = tierq(folder, "deployments", *arguments, **env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_cannot_be_shown_says_how_to_mend_it(site: Site) -> None:
    assert "no deployment is named 'minni'" in refused(site.folder, "minni")
    assert "--prometheus goes with neither" in refused(site.folder, "--prometheus", "--json")
    gone = refused(site.folder, TIERQ_STATE_URL="redis://user:s3cret@127.0.0.1:9/0")
    assert "redis://user:***@127.0.0.1:9/0 cannot be read (ConnectionError)" in gone
    assert "TIERQ_STATE_URL" in gone
    assert "write redis://" in refused(site.folder, TIERQ_STATE_URL="postgresql://db/app")
    site.config.write_text("\n".join(line for line in site.config.read_text().splitlines() if "state_url" not in line))
    assert "no state Redis is configured" in refused(site.folder)


def test_over_the_embedded_stack_it_works_while_that_runs(tmp_path: Path, simulator: Simulator) -> None:
    with embedded_site(tmp_path / "app", simulator) as site:
        assert "start `tierq up`" in refused(site.folder)
        up = site.up()
        assert site.runs_task()
        done = site.tierq("deployments", "--json")
        assert done.returncode == 0, done.stderr
        (mini,) = json.loads(done.stdout)["deployments"]
        assert (mini["deployment"], mini["condition"]) == ("mini", "closed")
        watching = site.hold("deployments", "--watch", "--json")
        eventually(lambda: site.output(watching).count('"deployments"') >= 2, 60)
        watching.terminate()
        assert watching.wait(30) == 130
        assert "Traceback" not in site.output(watching)
        up.terminate()
        up.wait(60)


def test_the_guides_commands_run_as_they_stand(site: Site) -> None:
    workers_report(site)
    shown = [one for block in blocks("sh", [GUIDE]) for one in commands(block.text) if one[0] == "tierq"]
    assert len(shown) == 5
    for _, command, *options in shown:
        assert command == "deployments"
        if "--watch" not in options:  # which ends with Ctrl-C alone
            assert told(site.folder, *options)
