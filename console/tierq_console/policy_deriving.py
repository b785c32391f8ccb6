"""`tierq policy derive`: a policy file from the evidence in the store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierq.client import find_settings
from tierq_console import policy_view
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.policy_sources import ACTIVE, configured, find_policy
from tierq_shared.checks import did_you_mean
from tierq_shared.errors import ConfigurationError
from tierq_shared.policy_document import PolicyDocument
from tierq_shared.policy_files import policy_toml
from tierq_shared.settings import Settings
from tierq_shared.specs import TASK_TYPES

if TYPE_CHECKING:
    from tierq_insight.derivation import Ground, Wanted
    from tierq_insight.evidence import Evidence
    from tierq_shared.store.connection import Store

_EXAMPLE = "write classify=0.9, or classify/intent=0.95 for one name"


def _qualities(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    return dict(_quality(value, option) for value in values)


def _quality(value: str, option: click.Parameter) -> tuple[str, float]:
    kind, is_given, number = value.partition("=")
    type_ = kind.partition("/")[0]
    if type_ not in TASK_TYPES:
        hint = did_you_mean(type_, TASK_TYPES)
        raise click.BadParameter(f"{value!r}: {type_!r} is no type of task{hint}: {_EXAMPLE}", param=option)
    try:
        quality = float(number)
    except ValueError:
        quality = -1.0
    if not is_given or not 0 < quality < 1:
        raise click.BadParameter(f"{value!r} names no quality between 0 and 1: {_EXAMPLE}", param=option)
    return kind, quality


@click.command("derive")
@click.option(
    "--evaluation", "evaluations", multiple=True, metavar="ID", help="Evidence of this one only, by id or label."
)
@click.option(
    "--quality",
    "qualities",
    multiple=True,
    metavar="KIND=Q",
    callback=_qualities,
    help="What the lower bound has to clear, such as classify=0.9 or classify/intent=0.95.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="What has no --quality may be worse than the baseline tier by this much at its lower bound.",
)
@click.option("--baseline", metavar="TIER", help="The tier that others are compared with. Default: the last one.")
@click.option(
    "--spend",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="The best quality over all rows together for this share of the baseline's cost.",
)
@click.option(
    "--order",
    type=click.Choice(["cost", "latency", "success"]),
    default="cost",
    show_default=True,
    help="How a tier's deployments stand in its chain.",
)
@click.option(
    "--high-stakes",
    type=click.Choice(["stricter", "tier-up", "same"]),
    default="stricter",
    show_default=True,
    help="Tasks of high stakes: half the errors or margin, the next tier up, or no difference.",
)
@click.option(
    "--interactive-p95",
    type=click.IntRange(min=1),
    metavar="MS",
    help="Deployments that are slower do not come first for interactive tasks.",
)
@click.option("--min-samples", type=click.IntRange(min=2), default=30, show_default=True, help="Fewer are too little.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Default: stdout.")
def derive(
    *,
    evaluations: tuple[str, ...],
    qualities: dict[str, float],
    baseline: str | None,
    interactive_p95: int | None,
    out: Path | None,
    **asked: Any,
) -> None:
    """Derive a policy from evaluations and live evidence: a file, with its evidence in it, for `tierq policy apply`.

    Each type, name and size of task goes to the cheapest tier whose lower bound (of 95 %) clears what is required of
    it. Where there is too little data it stays where the active policy has it.

    \b
      tierq policy derive --quality classify=0.9 --out policy.toml
      tierq policy derive --margin 0.05 --order latency --out policy.toml
      tierq policy derive --spend 0.35 --out policy.toml
    """
    from tierq_insight.derivation import Wanted
    from tierq_insight.derivation import derive as derive_policy

    settings = find_settings(None)
    wanted = Wanted(qualities=qualities, interactive_p95_ms=interactive_p95, **asked)
    with stoppable(), open_store(settings) as store:
        ground = _ground(settings, store, baseline)
        evidence = _evidence(store, evaluations)
    _check(evidence, ground, wanted)
    document = derive_policy(evidence, ground, wanted, datetime.now(UTC))
    _deliver(document, out)


def _ground(settings: Settings, store: Store, baseline: str | None) -> Ground:
    from tierq_insight.derivation import Ground

    if not settings.tiers:
        raise ConfigurationError("no tiers are configured here: `tierq init` writes a tierq.toml with some")
    if baseline is not None and baseline not in settings.tiers:
        hint = did_you_mean(baseline, settings.tiers)
        raise ConfigurationError(f"--baseline: there is no tier {baseline!r}{hint}: {', '.join(settings.tiers)}")
    with store.reading() as connection:
        active = find_policy(connection, settings, ACTIVE)
    gone = sorted({rule.tier for rule in active.policy} - set(settings.tiers))
    if gone:
        click.echo(
            f"the active version {active.version} goes to {', '.join(gone)}, which is not configured here: what stays, "
            "stays by the rules of tierq.toml",
            err=True,
        )
        active = configured(settings)
    return Ground({name: tier.chain for name, tier in settings.tiers.items()}, active.policy, baseline)


def _evidence(store: Store, evaluations: tuple[str, ...]) -> list[Evidence]:
    from tierq_insight import stored_evidence

    ids = [stored_evidence.find_evaluation(store, one) for one in evaluations] if evaluations else None
    found = stored_evidence.load(store, evaluation_ids=ids)
    if not found:
        where = "in these evaluations" if evaluations else "in this store"
        raise ConfigurationError(f"there is no evidence {where}: `tierq evaluate` makes some from labelled samples")
    return found


def _check(evidence: list[Evidence], ground: Ground, wanted: Wanted) -> None:
    """Refuses what would only look as if it had been heeded: a quality for tasks nobody evaluated, tiers now gone."""
    kinds = {answer.type for answer in evidence} | {f"{answer.type}/{answer.name}" for answer in evidence}
    for kind in wanted.qualities:
        if kind not in kinds:
            raise ConfigurationError(f"--quality {kind}: there is no evidence on it{did_you_mean(kind, kinds)}")
    gone = {f"{one.tier}/{one.deployment}" for one in evidence if one.deployment not in ground.tiers.get(one.tier, ())}
    if gone:
        click.echo(f"evidence on {', '.join(sorted(gone))} is left out: no tier has that deployment any more", err=True)


def _deliver(document: PolicyDocument, out: Path | None) -> None:
    if out is None:
        click.echo(policy_toml(document).rstrip())
        return
    try:
        out.write_text(policy_toml(document), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--out {out}: cannot be written: {error.strerror}") from None
    for line in (
        *policy_view.derived(document),
        document.note,
        f"{out}: version {document.version}",
        f"next: `tierq policy diff active {out}` says what it changes, `tierq policy apply {out}` puts it in force",
    ):
        if line:
            click.echo(line)
