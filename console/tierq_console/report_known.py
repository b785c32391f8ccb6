"""What a report needs beside the ledger: the baseline and its prices, and what the state Redis knows of breakers."""

from __future__ import annotations

from contextlib import closing

import redis

from tierq_console.provenance import mask_url
from tierq_console.stack import running_record, stack_files
from tierq_insight.report import Baseline, BreakerEvent, Known
from tierq_shared import configuration
from tierq_shared.prices import PriceList
from tierq_shared.settings import Settings
from tierq_workers.permits.history import History

_NO_DEPLOYMENTS = "no deployment is configured here"


def known_of(settings: Settings) -> Known:
    """All that a configuration, and the state Redis it names, can tell."""
    baseline, no_baseline = _baseline(settings)
    breakers, no_breakers = _breakers(settings)
    return Known(
        cheapest_tier=next(iter(settings.tiers), None),
        baseline=baseline,
        no_baseline=no_baseline,
        breakers=breakers,
        no_breakers=no_breakers,
    )


def _baseline(settings: Settings) -> tuple[Baseline | None, str]:
    """The model that is compared with; or why there is none."""
    name = settings.report.baseline
    if name is None and settings.tiers:
        name = settings.chain(list(settings.tiers)[-1])[0].name
    if name is None:
        return None, f"{_NO_DEPLOYMENTS}: name one in [report] baseline"
    deployment = settings.deployments[name]
    rates = PriceList().rates(deployment)
    if rates is None:
        return None, f"the price of the baseline {name} ({deployment.model}) is not known: give it one in tierq.toml"
    return Baseline(name, deployment.model, rates), ""


def _breakers(settings: Settings) -> tuple[dict[str, list[BreakerEvent]] | None, str]:
    """What happened to each deployment's breaker; or why that is not known. A report goes on without."""
    if not settings.deployments:
        return None, _NO_DEPLOYMENTS
    if settings.state_url is None:
        return None, "no state Redis is configured, so each worker has breakers of its own"
    is_embedded = configuration.load(settings.path).database_url is None
    if is_embedded and running_record(stack_files(settings)) is None:
        return None, "the embedded stack, which remembers them, does not run: start `tierq up` for it"
    url = settings.state_url.get_secret_value()
    try:
        with closing(History(url, settings)) as history:
            events = {name: history.events(name) for name in settings.deployments}
    except (redis.RedisError, ValueError) as error:
        return None, f"the state Redis {mask_url(url)} cannot be read ({type(error).__name__})"
    return {
        name: [BreakerEvent(event.at, event.state, event.seconds) for event in found] for name, found in events.items()
    }, ""
