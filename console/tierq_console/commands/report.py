"""`tierq report`: what the work cost, and what it saved."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Group

from tierq.client import find_settings
from tierq_console.batches import find_batch, open_store
from tierq_console.ending import stoppable
from tierq_console.outputs import check_output, write_text, writing
from tierq_console.report_known import known_of
from tierq_console.report_view import told
from tierq_console.status_view import wide_console
from tierq_console.times import read_time
from tierq_insight.report import DIMENSIONS, TAG, Report, Scope, make_report
from tierq_insight.report.document import COLUMNS, document, rows
from tierq_shared.checks import did_you_mean
from tierq_shared.errors import InvalidInput
from tierq_shared.ids import short
from tierq_shared.settings import Settings

_INTEGERS = tuple(name for name in COLUMNS if name != "cost_usd")


@click.command("report")
@click.option("--since", metavar="7d|TIME", help="Calls since then: a span back from now, or a time with its zone.")
@click.option("--until", metavar="1d|TIME", help="Calls before then.")
@click.option("--batch", metavar="BATCH", help="Of this batch only; the first digits of its id are enough.")
@click.option(
    "--by", default="model", show_default=True, metavar="WHAT", help=f"{', '.join(DIMENSIONS)} or {TAG}NAME: the split."
)
@click.option("--json", "as_json", is_flag=True, help="Prints everything as JSON.")
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Writes the split as CSV too.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Writes everything as one page too.")
def command(
    since: str | None,
    until: str | None,
    batch: str | None,
    by: str,
    *,
    as_json: bool,
    csv: Path | None,
    html: Path | None,
) -> None:
    """Say what the work cost, with everything charged, and what it saved against one model for everything.

    The page of --html needs no network and runs no script: it can be mailed, printed and kept.

    \b
      tierq report --since 7d
      tierq report --batch 0198f3a2c1d4 --by tag:team --csv teams.csv
      tierq report --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --html november.html
    """
    _check_by(by)
    for path, option, suffixes in ((csv, "--csv", (".csv",)), (html, "--html", (".html", ".htm"))):
        if path is not None:
            check_output(path, suffixes=suffixes, option=option)
    settings = find_settings(None)
    with stoppable(), open_store(settings) as store:
        scope = _scope(find_batch(store, batch) if batch else None, since, until)
        report = make_report(store, scope, known_of(settings), by)
        if csv is not None:
            with writing(csv, (by, *COLUMNS), _INTEGERS) as writer:
                for row in rows(report):
                    writer.write(row)
            click.echo(f"{csv} is written", err=True)
        if html is not None:
            write_text(html, _page(report, settings))
            click.echo(f"{html} is written", err=True)
    if as_json:
        click.echo(json.dumps(document(report), ensure_ascii=False))
    else:
        wide_console().print(Group(*told(report)), highlight=False)


def _check_by(by: str) -> None:
    if by in DIMENSIONS or (by.startswith(TAG) and len(by) > len(TAG)):
        return
    names = [*DIMENSIONS, f"{TAG}NAME"]
    raise InvalidInput(f"--by {by}: is not one of {', '.join(names)}{did_you_mean(by, DIMENSIONS)}")


def _scope(batch_id: str | None, since: str | None, until: str | None) -> Scope:
    begin = read_time(since, "--since") if since else None
    end = read_time(until, "--until") if until else None
    if begin is not None and end is not None and begin >= end:
        raise InvalidInput(f"--until {until}: is not after --since {since}: no time lies between them")
    return Scope(batch_id, begin, end)


def _page(report: Report, settings: Settings) -> str:
    # Here, since a report without a page needs none of what draws one.
    from tierq_insight.report.page import page

    title = f"What batch {short(report.scope.batch_id)} cost" if report.scope.batch_id else "What it cost"
    return page(report, title=title, tiers=list(settings.tiers))
