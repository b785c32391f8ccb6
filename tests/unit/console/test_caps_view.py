"""What `tierq status` and `tierq cap` say of caps."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tierq_console.commands.cap import command as cap_command
from tierq_console.commands.status import command as status_command
from tierq_shared.store import schema
from unit.store.installation import Installation, new_task, opened


@pytest.fixture
def capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Installation, str]:
    """A store with a configured cap, and a batch of two tasks of which one is claimed under a cap of its own."""
    url = f"sqlite:///{tmp_path}/tierq.db"
    config = (
        f'database_url = "{url}"\nbroker_url = "redis://127.0.0.1:6379/0"\n[[caps]]\nper = "total"\nusd = "20.00"\n'
    )
    (tmp_path / "tierq.toml").write_text(config)
    monkeypatch.setenv("TIERQ_CONFIG", str(tmp_path / "tierq.toml"))
    with opened(url) as here:
        schema.migrate(here.store)
        batch = here.submit([new_task(), new_task()], max_cost_nusd=1_500, on_cap="wait")
        here.claim(here.worker(), here.ids(batch))
        return here, batch


def test_status_shows_the_batchs_cap(capped: tuple[Installation, str]) -> None:
    said = CliRunner().invoke(status_command, [capped[1]]).output
    (line,) = [line for line in said.splitlines() if line.startswith("batch's cap")]
    assert line.split("  ")[0] == "batch's cap"
    assert "$0.000002" in line
    assert "$0.000001" in line
    assert line.rstrip().endswith("tasks wait")


def test_status_shows_the_configured_caps(capped: tuple[Installation, str]) -> None:
    said = CliRunner().invoke(status_command, []).output
    assert "cap in total on everything" in said
    assert '"limit_usd": "20"' in CliRunner().invoke(status_command, ["--json"]).output


def test_a_cap_is_raised_and_a_wrong_amount_refused(capped: tuple[Installation, str]) -> None:
    here, batch = capped
    assert f"batch {batch} may cost $2.0000" in CliRunner().invoke(cap_command, [batch, "2.00"]).output
    assert here.progress(batch).max_cost_nusd == 2_000_000_000
    wrong = CliRunner().invoke(cap_command, [batch, "zero"])
    assert "is no amount in USD" in str(wrong.exception)
