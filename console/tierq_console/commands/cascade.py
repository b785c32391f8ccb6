"""`tierq cascade`: where a cheap tier answers first, and from which confidence on its answers are kept."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from tierq.client import find_settings
from tierq_console.batches import open_store
from tierq_console.ending import stoppable
from tierq_console.entry import SOME_FAILED
from tierq_shared import configuration
from tierq_shared.errors import ConfigurationError, InvalidInput
from tierq_shared.settings import Settings
from tierq_shared.store.connection import Store

if TYPE_CHECKING:
    from tierq_insight.calibration import Demand

_NONE = (
    "no [[cascade]] is configured: add one without a threshold, such as type = 'classify', signal = 'logprobs'; then "
    "`tierq evaluate` measures confidence, and `tierq cascade calibrate` finds the threshold"
)


@click.group("cascade")
def command() -> None:
    """Show the cascade's rules, and calibrate their thresholds from an evaluation."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def show(*, as_json: bool) -> None:
    """Show every rule of the cascade, and where its threshold is from."""
    from tierq_console.cascade_view import rules_json, rules_table
    from tierq_console.status_view import wide_console

    settings = _with_rules(configuration.load(configuration.find_file()))
    if as_json:
        click.echo(json.dumps(rules_json(settings), ensure_ascii=False))
    else:
        wide_console().print(rules_table(settings), highlight=False)


@command.command("calibrate")
@click.option(
    "--evaluation", metavar="ID", help="The evaluation to go by, or how its id begins.  [default: the latest]"
)
@click.option("--quality", type=float, metavar="SHARE", help="The quality that must be cleared, such as 0.95.")
@click.option(
    "--margin", type=float, metavar="SHARE", help="How much worse than the higher tier it may be.  [default: 0.01]"
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON.")
def calibrate_command(evaluation: str | None, quality: float | None, margin: float | None, *, as_json: bool) -> None:
    """Find the threshold of every rule from the answers of an evaluation, and print the tables to paste.

    Each threshold is the lowest at which the lower end of the 95 % interval clears what is demanded: a --quality, or
    no more than --margin worse than the higher tier alone. Where the pairs are too few to tell, it says so.

    \b
      tierq cascade calibrate --margin 0.02
      tierq cascade calibrate --quality 0.95 --evaluation 3f2a

    Exit codes: 0 every rule has a threshold, 1 some have none, 2 bad input or configuration.
    """
    from tierq_console.cascade_view import calibrated_json, calibrated_lines
    from tierq_insight.calibration import Verdict, calibrate
    from tierq_insight.cascade_evidence import read_pairs

    demand = _demand(quality, margin)
    settings = _with_rules(find_settings(None))
    with stoppable(), open_store(settings) as store:
        evaluation_id = _evaluation(store, evaluation)
        with store.reading() as connection:
            found = [
                (paired, calibrate(paired.pairs, demand)) for paired in read_pairs(connection, settings, evaluation_id)
            ]
    if as_json:
        click.echo(json.dumps([calibrated_json(*one, evaluation_id) for one in found], ensure_ascii=False))
    else:
        click.echo("\n\n".join("\n".join(calibrated_lines(*one, evaluation_id)) for one in found))
    if any(one.verdict is not Verdict.FOUND for _, one in found):
        sys.exit(SOME_FAILED)


def _with_rules(settings: Settings) -> Settings:
    if not settings.cascade:
        raise ConfigurationError(_NONE)
    return settings


def _demand(quality: float | None, margin: float | None) -> Demand:
    from tierq_insight.calibration import Demand

    if quality is not None and margin is not None:
        raise click.UsageError("--quality and --margin are two ways to say it: give one")
    for name, value in (("--quality", quality), ("--margin", margin)):
        if value is not None and not 0 < value < 1:
            raise InvalidInput(f"{name} {value:g}: is a share between 0 and 1: write it as 0.95 or 0.01")
    return Demand(quality) if margin is None else Demand(margin=margin)


def _evaluation(store: Store, prefix: str | None) -> str:
    """The id of the evaluation that is meant.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    from tierq_insight.cascade_evidence import evaluations_like, latest_evaluation

    with store.reading() as connection:
        if prefix is None:
            latest = latest_evaluation(connection)
            if latest is None:
                raise InvalidInput("no evaluation has any answers yet: `tierq evaluate` runs one")
            return latest
        found = evaluations_like(connection, prefix)
    if len(found) != 1:
        many = f"more than one begins like this: {', '.join(found)}" if found else "none begins like this"
        raise InvalidInput(f"--evaluation {prefix}: {many}")
    return found[0]
