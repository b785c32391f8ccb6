"""The proxy does to a connection what its fault says, and nothing once it is healed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from chaos.proxy import Proxy
from support.waiting import eventually


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that says what it hears, to one client after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        while heard := connection.recv(100):
                            connection.sendall(heard)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        yield client


def test_a_reset_reaches_the_client_as_one(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_refused_connections_end_at_once_until_healed(proxy: Proxy) -> None:
    proxy.refuse()
    assert not _answers(proxy)
    proxy.heal()
    assert _answers(proxy)


def test_what_was_swallowed_comes_late(proxy: Proxy, client: socket.socket) -> None:
    proxy.black_hole()
    client.sendall(b"anyone?")
    eventually(lambda: proxy.waiting() == 1)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.heal()
    client.settimeout(10)
    assert client.recv(100) == b"anyone?"
    assert proxy.waiting() == 0


def test_the_end_of_one_side_is_the_end_of_the_other(proxy: Proxy, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b""
    eventually(lambda: proxy.reset() == 0)


def _answers(proxy: Proxy) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(b"hello")
            return client.recv(100) == b"hello"
    except ConnectionError:
        return False
