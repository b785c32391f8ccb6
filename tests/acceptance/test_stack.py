"""The embedded stack with real processes: who shares it, who ends it, and what becomes of it when parts are killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.embedded import PATIENCE_S, EmbeddedSite, embedded_site, is_alive
from support.servers import Simulator, redis_binary, running
from support.waiting import eventually

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[EmbeddedSite]:
    with embedded_site(tmp_path / "app", simulator) as site:
        yield site


def all_gone(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def test_up_brings_everything_and_ctrl_c_takes_it_away(site: EmbeddedSite) -> None:
    up = site.up()

    assert site.runs_task()
    assert stat.S_IMODE(site.paths.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(site.paths.runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(site.paths.database.stat().st_mode) == 0o600
    pids = site.everything()
    assert len(pids) == 3

    up.send_signal(signal.SIGINT)
    assert up.wait(20) == 0
    eventually(lambda: all_gone(pids), PATIENCE_S)
    assert not site.paths.runtime.exists()


def test_commands_that_start_at_the_same_moment_share_one_stack_until_the_last_one_leaves(site: EmbeddedSite) -> None:
    commands = [site.hold() for _ in range(3)]
    for one in commands:
        eventually(lambda one=one: site.is_ready(one), PATIENCE_S)
    pids = site.everything()
    assert len(pids) == 3
    started = (site.paths.root / "supervisor.log").read_text().count("redis started")
    assert started == 1

    for one in commands[:2]:
        one.terminate()
        one.wait(20)
    assert site.runs_task()
    assert site.everything() == pids

    commands[2].kill()
    eventually(lambda: all_gone(pids), PATIENCE_S)


def test_a_killed_worker_comes_back_and_its_lease_ends_at_once(site: EmbeddedSite) -> None:
    up = site.up()
    killed = site.kill("worker-small")

    eventually(lambda: site.pid("worker-small") not in (0, killed), PATIENCE_S)
    assert site.runs_task()
    eventually(lambda: "worker-small ended and was started again" in site.output(up))
    assert f"(pid {killed}) ended with -9" in (site.paths.root / "supervisor.log").read_text()


def test_a_killed_redis_comes_back_with_the_same_socket(site: EmbeddedSite) -> None:
    site.up()
    assert site.runs_task()
    killed = site.kill("redis")

    eventually(lambda: site.pid("redis") not in (0, killed) and site.redis_answers(), PATIENCE_S)
    assert site.runs_task()


def test_a_killed_supervisor_takes_its_parts_along_and_the_command_starts_another(site: EmbeddedSite) -> None:
    site.up()
    worker, killed = site.pid("worker-small"), site.kill("supervisor")

    eventually(lambda: not is_alive(worker), PATIENCE_S)
    eventually(lambda: site.pid("supervisor") != killed and site.record()["state"] == "running", PATIENCE_S)
    assert site.runs_task()


def test_a_killed_supervisor_that_nobody_needs_leaves_nothing_behind(site: EmbeddedSite) -> None:
    up = site.up()
    pids = site.everything()
    up.kill()
    site.kill("supervisor")

    eventually(lambda: all_gone(pids), PATIENCE_S)


def test_a_killed_command_releases_the_stack(site: EmbeddedSite) -> None:
    up = site.up()
    pids = site.everything()
    up.kill()

    eventually(lambda: all_gone(pids), PATIENCE_S)


def test_an_orphaned_redis_is_adopted(site: EmbeddedSite) -> None:
    site.paths.runtime.mkdir(mode=0o700)
    command = [redis_binary(), "--port", "0", "--unixsocket", str(site.paths.socket), "--save", ""]
    with running(command, site.folder / "orphan.log") as orphan:
        eventually(site.redis_answers)
        up = site.up()

        assert site.runs_task()
        assert "redis started" not in (site.paths.root / "supervisor.log").read_text()

        up.terminate()
        assert orphan.wait(PATIENCE_S) == 0


def test_data_that_redis_cannot_read_is_set_aside(site: EmbeddedSite) -> None:
    site.up().terminate()
    eventually(lambda: all_gone(site.everything()), PATIENCE_S)
    data = site.paths.root / "appendonlydir"
    for file in data.iterdir():
        file.write_bytes(b"no such thing")

    site.up()

    assert site.runs_task()
    assert list(site.paths.root.glob("appendonlydir.unreadable-*"))


def test_another_configuration_and_another_key_are_refused_while_the_stack_runs(site: EmbeddedSite) -> None:
    site.up()

    other_key = site.tierq("up", "--no-flower", OPENAI_API_KEY="sk-other")
    assert other_key.returncode == 2
    assert "another value of OPENAI_API_KEY" in other_key.stderr
    assert "sk-other" not in other_key.stderr

    config = site.folder / "tierq.toml"
    config.write_text(config.read_text().replace("gpt-4o-mini", "gpt-4o"))
    other_config = site.tierq("up", "--no-flower")
    assert other_config.returncode == 2
    assert "another configuration" in other_config.stderr
    assert "Traceback" not in other_config.stderr


def test_a_worker_that_cannot_start_is_told_of_with_the_end_of_its_log(site: EmbeddedSite) -> None:
    broken = site.folder / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif 'worker' in sys.orig_argv: raise SystemExit('this machine is broken')\n"
    )

    result = site.tierq("up", "--no-flower", PYTHONPATH=str(broken))

    assert result.returncode == 2
    assert "worker-small ends again and again" in result.stderr
    assert "this machine is broken" in result.stderr


def test_a_removed_folder_ends_the_stack(site: EmbeddedSite) -> None:
    up = site.up()
    pids = site.everything()
    up.kill()
    # A part of the stack may be writing a file there at this very moment.
    eventually(lambda: subprocess.run(["rm", "-rf", str(site.paths.root)], check=False).returncode == 0)

    eventually(lambda: all_gone(pids), PATIENCE_S)


def test_a_worker_of_ones_own_serves_the_stack_that_runs(site: EmbeddedSite) -> None:
    alone = site.tierq("worker", "small")
    assert alone.returncode == 2
    assert "tierq up" in alone.stderr

    site.up()
    second = site.hold("worker", "small", "--loglevel", "INFO")
    eventually(lambda: "ready." in site.output(second), PATIENCE_S)
    os.kill(site.holders[0].pid, signal.SIGTERM)
    site.holders[0].wait(20)
    assert site.runs_task()
