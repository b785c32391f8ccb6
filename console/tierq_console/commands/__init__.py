"""One file a command, loaded when it is called: `tierq --help` imports none of them but for its line."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "audit": "Say what today's requests could run on, and for how much.",
    "run": "Run a file of texts or tasks and write the outcomes.",
    "quote": "Say what a file will cost, and how long it will take.",
    "demo": "Run the main job on examples against a simulator.",
    "evaluate": "Measure deployments on labelled samples.",
    "init": "Write a commented tierq.toml.",
    "doctor": "Say what is configured, reachable and priced.",
    "config": "Show every setting and where it came from.",
    "up": "Keep the embedded stack running, with Flower, until Ctrl-C.",
    "worker": "Serve one tier.",
    "flower": "Serve Flower for a broker of your own.",
    "submit": "Submit a file and return its batch id at once.",
    "status": "Show batches and how far they are.",
    "top": "Watch tiers, deployments and batches live.",
    "policy": "Derive, show, compare, apply and roll back versions of the policy.",
    "cascade": "Show and calibrate where a cheap tier answers first.",
    "deployments": "Show circuit breakers, rate limits and rests.",
    "results": "Write a batch's outcomes.",
    "failures": "Show why tasks of a batch failed.",
    "report": "Say what the work cost, and what it saved.",
    "retry": "Send a batch's failed tasks again.",
    "cancel": "Stop a batch; what is finished is kept.",
    "forget": "Erase what is private about tasks, by key or tag.",
    "purge": "Erase what is private about old tasks.",
    "rekey": "Encrypt payloads with another key.",
    "cap": "Raise or lower a batch's cost cap.",
    "pause": "Begin nothing new of a tier, a deployment or a batch.",
    "resume": "End a pause.",
    "limit": "Change a deployment's rate limit.",
    "priority": "Let a batch go before others, or behind them.",
    "actions": "Show who changed what.",
    "webhooks": "List, retry and test what webhooks are told.",
    "migrate": "Bring the tables to this release's version.",
    "export": "Export the ledger's telemetry.",
    "simulator": "Serve the providers' wire formats without any model.",
}
"""Every command with its line of help, in the order in which a new user meets them."""


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tierq_console.commands.{name}").command
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from tierq_shared.checks import did_you_mean

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            context.fail(f"there is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}; see `tierq --help`")
        return super().resolve_command(context, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tierq", prog_name="tierq")
def group() -> None:
    """Runs LLM work as durable jobs: each task on the cheapest model tier that can do it reliably.

    \b
    Start here:
      tierq demo                                   the whole way, on examples, without keys
      tierq init                                   a tierq.toml from the keys it finds
      tierq run tickets.csv --type classify --labels billing,bug,praise --text body --key id
    """
