"""Keys, labels and tags that look like SQL or worse come back as they went in, or are refused."""

from __future__ import annotations

import pytest

from conftest import SiteMaker
from tierq import Classify, Client, InvalidTask

HOSTILE = [
    "'; DROP TABLE tierq_task; --",
    '"; DELETE FROM tierq_payload; --',
    "\\' OR 1=1 /*",
    "$$; SELECT pg_sleep(9); $$",
    "a\tb\\N\n\\.\r\n",
    "%(name)s %s :name ? {0} {key}",
    "naïve – 漢字 – 🏁 – \u202e\u200b",
]


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_names_come_back_as_they_went_in(site_on: SiteMaker, database: str) -> None:
    site = site_on(database)
    labels = [label for label in HOSTILE if label.strip() == label]
    with Client(config=site.config) as client:
        for number, name in enumerate(HOSTILE):
            tasks = [Classify("text", labels, key=name, tags={name: name}, name=f"n{number}")]
            batch = client.submit_many(tasks, key=name, label=name, tags={name: name})
            again = client.submit_many(tasks, key=name, label=name, tags={name: name})
            assert again.id == batch.id
            batch.cancel()
            progress = client.batch(batch.id).progress()
            assert (progress.label, progress.tags, progress.total) == (name, {name: name}, 1)


@pytest.mark.parametrize("name", ["nul \0", "surrogate \ud800"])
def test_what_no_store_holds_is_refused(site_on: SiteMaker, name: str) -> None:
    with Client(config=site_on().config) as client:
        for task in (
            lambda: Classify("text", ["a", "b"], key=name),
            lambda: Classify("text", ["a", name]),
            lambda: Classify("text", ["a", "b"], tags={"t": name}),
            lambda: client.submit_many([Classify("text", ["a", "b"])], label=name),
            lambda: client.submit_many([Classify("text", ["a", "b"])], key=name),
            lambda: client.submit_many([Classify("text", ["a", "b"])], tags={name: "t"}),
        ):
            with pytest.raises(InvalidTask):
                task()
