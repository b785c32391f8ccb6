"""`tierq doctor`: what it finds, and how it says to mend it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from tierq_console.commands.doctor import command
from tierq_console.diagnosis import Finding, examine
from tierq_shared import configuration
from tierq_shared.store import leases, schema
from tierq_shared.store.connection import Store

CONFIG = """\
{urls}
[tiers.small]
chain = ["mini", "own"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
base_url = "http://127.0.0.1:{port}/v1"
[deployments.own]
provider = "openai-compatible"
model = "nobody-knows-it"
base_url = "http://127.0.0.1:1/v1"
[deployments.idle]
provider = "openai"
model = "gpt-4o"
base_url = "http://127.0.0.1:{port}/v1"
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port that takes connections, and is never spoken to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def findings(folder: Path, port: int, urls: str = "", env: dict[str, str] | None = None) -> list[Finding]:
    path = folder / "tierq.toml"
    path.write_text(CONFIG.format(port=port, urls=urls))
    return examine(configuration.load(path, env={}), env or {})


def of(found: list[Finding], part: str) -> list[Finding]:
    return [finding for finding in found if finding.part == part]


def test_deployments_are_reached_priced_and_have_their_key(tmp_path: Path, port: int) -> None:
    found = findings(tmp_path, port, env={"OPENAI_API_KEY": "sk-secret"})

    assert [finding.ok for finding in of(found, "deployment mini")] == [True, True, True]
    assert "$0.15 in, $0.6 out" in of(found, "deployment mini")[2].what
    assert "sk-secret" not in str(found)


def test_what_is_missing_comes_with_its_mend(tmp_path: Path, port: int) -> None:
    found = findings(tmp_path, port)

    key = of(found, "deployment mini")[1]
    assert (key.ok, key.mend) == (False, "set OPENAI_API_KEY or OPENAI_API_KEY_FILE where the workers run")
    unreachable, no_key_expected, unpriced = of(found, "deployment own")
    assert unreachable.ok is False
    assert no_key_expected.ok is None
    assert unpriced.ok is False
    assert "[deployments.own]" in unpriced.mend
    assert "never called" in of(found, "deployment idle")[-1].what


def test_the_embedded_stack_needs_nothing_but_a_server_to_start(tmp_path: Path, port: int) -> None:
    found = findings(tmp_path, port)

    assert of(found, "embedded stack")[0].ok
    assert not (tmp_path / ".tierq").exists()


def test_a_database_without_tables_says_migrate_and_one_without_workers_says_worker(tmp_path: Path, port: int) -> None:
    urls = f'database_url = "sqlite:///{tmp_path}/t.db"\nbroker_url = "redis://127.0.0.1:1/0"'
    found = findings(tmp_path, port, urls)
    assert "tierq migrate" in of(found, "database")[0].mend
    assert of(found, "broker")[0].ok is False
    assert of(found, "state")[0].ok is None

    store = Store(f"sqlite:///{tmp_path}/t.db")
    schema.migrate(store)
    found = findings(tmp_path, port, urls)
    assert of(found, "database")[0].ok
    assert of(found, "tier small")[0].mend == "start `tierq worker small`"

    store.write(lambda connection: leases.register_worker(connection, "w", "small", "1", 30))
    store.close()
    assert of(findings(tmp_path, port, urls), "tier small")[0] == Finding("tier small", ok=True, what="1 live worker")


def test_a_database_that_does_not_answer_is_no_traceback(tmp_path: Path, port: int) -> None:
    urls = 'database_url = "postgresql://me:hush@127.0.0.1:1/app"\nbroker_url = "nonsense://x"'
    found = findings(tmp_path, port, urls)

    assert of(found, "database")[0].ok is False
    assert of(found, "broker")[0].ok is False
    assert "hush" not in str(found)


def test_the_command_exits_2_where_something_is_to_be_mended(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tierq.toml").write_text(CONFIG.format(port=port, urls=""))

    result = CliRunner().invoke(command, [], catch_exceptions=False)
    assert result.exit_code == 2
    assert "✗" in result.output
    assert orjson.loads(CliRunner().invoke(command, ["--json"]).output)[0]["part"] == "configuration"
