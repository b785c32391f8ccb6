"""An upgrade from the first release with work in flight: a mixed fleet runs through it, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select, text

from conftest import SiteMaker
from support.ledger import Ledger
from support.servers import Site
from support.waiting import eventually
from tierq import Classify, Client
from tierq_shared.store import controls, schema
from tierq_shared.store.connection import Store
from tierq_shared.store.tables import metadata, workers

pytestmark = pytest.mark.timeout(120)

WHEEL = next((Path(__file__).parents[1] / "releases").glob("tierq-0.1.0-*.whl"))
"""As it was built then."""
PATIENCE_S = 60.0
COUNT = 4_000
"""More than is done before the last look at it, however slow the machine."""

OLD_PRODUCER = """
import sys
from tierq import Classify, Client

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])
with Client(config=sys.argv[1]) as client:
    tasks = (intent(text=f"My invoice {n} is wrong", key=n) for n in range(int(sys.argv[2])))
    print(client.submit_many(tasks, key="nightly").id)
"""

intent = Classify.spec("intent", labels=["billing", "bug", "praise"])


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first release's code, to be found before this one's."""
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


def old(folder: Path, site: Site, *arguments: str) -> str:
    """Runs something with the first release; what it printed."""
    env = {**os.environ, "PYTHONPATH": str(folder), "TIERQ_CONFIG": str(site.config)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=site.folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wipe(site: Site) -> None:
    """The site's tables are this release's: the first one makes its own."""
    store = Store(site.database_url)
    engine: Engine = store.engine
    with engine.begin() as connection:
        for name in (*(table.name for table in metadata.tables.values()), schema.VERSION_TABLE):
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    store.close()


def releases(site: Site) -> Counter[str]:
    """The releases of the workers that hold a lease or held one."""
    store = Store(site.database_url)
    with store.reading() as connection:
        found = Counter(connection.execute(select(workers.c.release)).scalars())
    store.close()
    return found


def version_of(site: Site) -> str | None:
    store = Store(site.database_url)
    with store.reading() as connection:
        version = schema.current(connection)
    store.close()
    return version


def tierq_migrate(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tierq_console", "migrate", *options]
    env = {**os.environ, "TIERQ_CONFIG": str(site.config)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_mixed_fleet_runs_through_an_upgrade_and_loses_nothing(site_on: SiteMaker, first_release: Path) -> None:
    site = site_on("postgresql")
    wipe(site)
    assert "migrated from no tables to 0005" in old(first_release, site, "-m", "tierq_console", "migrate")
    site.simulator.configure({"models": {"*": {"latency_ms": 4_000, "latency_jitter_ms": 1_000}}})
    veteran = site.start_worker("small", PYTHONPATH=str(first_release))
    batch_id = old(first_release, site, "-c", OLD_PRODUCER, str(site.config), str(COUNT))
    ledger = Ledger(site)
    eventually(lambda: site.simulator.stats()["in_flight"] > 100, PATIENCE_S)
    assert releases(site) == {"0.1.0": 1}

    # This release's workers first: they take the tables, and the first release's messages, as they are.
    site.start_worker("small")
    eventually(lambda: set(releases(site)) >= {"0.1.0", "0.2.0"}, PATIENCE_S)
    eventually(lambda: _attempts_by_release(site, ledger, batch_id)["0.2.0"] >= 20, PATIENCE_S)
    assert tierq_migrate(site, "--check").returncode == 1
    migrated = tierq_migrate(site)
    assert migrated.returncode == 0, migrated.stderr
    assert version_of(site) == schema.HEAD
    assert tierq_migrate(site, "--check").returncode == 0

    with Client(config=site.config) as client:
        # The first release's worker goes on beside, with a producer of each; and its key is this one's, too.
        further = client.submit_many(intent(text=f"Order {number}", key=number) for number in range(300))
        again = client.submit_many(
            (intent(text=f"My invoice {n} is wrong", key=n) for n in range(COUNT)), key="nightly"
        )
        assert again.id == batch_id
        done, before = again.progress().done, _attempts_by_release(site, ledger, batch_id)["0.1.0"]
        eventually(lambda: _attempts_by_release(site, ledger, batch_id)["0.1.0"] > before, PATIENCE_S)
        veteran.kill()
        site.simulator.configure({"models": {"*": {"latency_ms": 20}}})
        site.start_worker("small")
        assert further.wait(PATIENCE_S).succeeded == 300
        assert again.wait(PATIENCE_S).succeeded == COUNT
        assert done < COUNT
    ledger_ids = {call.id for call in ledger.attempts(batch_id) if call.outcome == "succeeded"}
    assert len(ledger_ids) == COUNT
    assert max(site.simulator.served().values()) == 1
    assert "Traceback" not in site.logs()
    store = Store(site.database_url)
    store.write(lambda connection: controls.pause(connection, "tier:small"))
    assert controls.current(store).tiers == {"small"}
    store.close()
    ledger.close()


def _attempts_by_release(site: Site, ledger: Ledger, batch_id: str) -> Counter[str]:
    store = Store(site.database_url)
    with store.reading() as connection:
        release_of = {row.id: row.release for row in connection.execute(select(workers.c.id, workers.c.release))}
    store.close()
    return Counter(release_of[call.worker_id] for call in ledger.attempts(batch_id))


def test_tables_that_only_grew_are_worked_on_by_the_release_before(tmp_path: Path, first_release: Path) -> None:
    url = f"sqlite:///{tmp_path}/tierq.db"
    store = Store(url)
    schema.migrate(store)
    store.close()
    script = "import sys; from tierq_shared.store import schema; from tierq_shared.store.connection import Store; "
    script += "print(schema.__file__, schema.check(Store(sys.argv[1])))"
    env = {**os.environ, "PYTHONPATH": str(first_release)}
    said = subprocess.run([sys.executable, "-c", script, url], env=env, capture_output=True, text=True, check=True)
    assert str(first_release) in said.stdout
    assert said.stdout.split()[-1] == schema.HEAD
    create_engine(url).dispose()
