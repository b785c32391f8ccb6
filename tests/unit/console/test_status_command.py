"""`tierq status` where it cannot be shown."""

from __future__ import annotations

from pathlib import Path

from support.command import tierq


def test_a_database_that_cannot_be_reached_is_one_plain_sentence(tmp_path: Path) -> None:
    done = tierq(tmp_path, "status", TIERQ_DATABASE_URL="postgresql+psycopg://nobody:secret@127.0.0.1:9/none")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tierq: the store cannot be reached or used (")
    assert line.endswith("): check database_url")
    assert "secret" not in line
