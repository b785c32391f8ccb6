"""The connections between the parts of a site, each through a proxy where a scenario wants to break it."""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from chaos.proxy import Address, Proxy
from support.servers import Site

Env = dict[str, str]
"""The environment that leads a process over a link."""


class Links:
    """Makes links. Each is a proxy, and the environment of a worker or the arguments of a client that go over it."""

    def __init__(self, stack: ExitStack, site: Site) -> None:
        self._stack = stack
        self._site = site

    def to_store(self) -> tuple[Proxy, Env]:
        """PostgreSQL only: SQLite is a file."""
        url = make_url(self._site.database_url)
        proxy = self._proxy((url.host or "127.0.0.1", url.port or 5432))
        beyond = url.set(host="127.0.0.1", port=proxy.port)
        return proxy, {"TIERQ_DATABASE_URL": beyond.render_as_string(hide_password=False)}

    def to_broker(self) -> tuple[Proxy, Env]:
        url = urlsplit(self._site.broker_url)
        if url.scheme.startswith("redis"):
            proxy = self._proxy(self._site.redis.socket)
            return proxy, {"TIERQ_BROKER_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        proxy = self._proxy((url.hostname or "127.0.0.1", url.port or 5672))
        beyond = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{proxy.port}")
        return proxy, {"TIERQ_BROKER_URL": beyond.geturl()}

    def to_state(self) -> tuple[Proxy, Env]:
        proxy = self._proxy(self._site.redis.socket)
        return proxy, {"TIERQ_STATE_URL": f"redis://127.0.0.1:{proxy.port}/1"}

    def to_providers(self, timeout_s: float = 60.0) -> tuple[Proxy, Env]:
        """By a configuration of its own: base URLs stand nowhere else. ``timeout_s``: of silence in a call."""
        url = urlsplit(self._site.simulator.url)
        proxy = self._proxy((url.hostname or "127.0.0.1", url.port or 80))
        config = self._site.config.with_name(f"over-{proxy.port}.toml")
        text = self._site.config.read_text().replace(self._site.simulator.url, f"http://127.0.0.1:{proxy.port}")
        config.write_text(_with_timeout(text, timeout_s))
        return proxy, {"TIERQ_CONFIG": str(config)}

    def impatient(self, timeout_s: float) -> Env:
        """No proxy: a configuration whose calls are given up sooner."""
        config = self._site.config.with_name("impatient.toml")
        config.write_text(_with_timeout(self._site.config.read_text(), timeout_s))
        return {"TIERQ_CONFIG": str(config)}

    def _proxy(self, target: Address) -> Proxy:
        return self._stack.enter_context(Proxy(target))


def _with_timeout(config: str, timeout_s: float) -> str:
    return config.replace("\nbase_url =", f"\ntimeout_s = {timeout_s}\nbase_url =")
