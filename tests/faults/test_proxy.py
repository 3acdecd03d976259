"""The proxy between programs and servers: it can be trusted to break connections."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.faults.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before a server that says everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        opened = Proxy(server.getsockname()[1])
        yield opened
        opened.close()


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_say_back, args=(connection,), daemon=True).start()


def _say_back(connection: socket.socket) -> None:
    # Resets are what these tests are about.
    with connection, suppress(ConnectionError):
        while data := connection.recv(100):
            connection.sendall(data)


def connect(proxy: Proxy, timeout_s: float = 10) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s)


def test_it_forwards_both_ways(proxy):
    """What goes in comes out."""
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_cut_connections_are_reset_and_new_ones_welcome(proxy):
    """The client of an old connection gets an error, a new one an answer."""
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.recv(100)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    test_it_forwards_both_ways(proxy)


def test_a_held_connection_says_nothing_until_it_is_released(proxy):
    """Old connections and new ones stay open and silent; then everything arrives."""
    with connect(proxy, timeout_s=0.3) as old:
        proxy.hold()
        with connect(proxy, timeout_s=0.3) as new:
            for client in (old, new):
                client.sendall(b"hello")
                with pytest.raises(TimeoutError):
                    client.recv(100)
            proxy.release()
            for client in (old, new):
                client.settimeout(10)
                assert client.recv(100) == b"hello"


def test_a_server_that_is_down_resets(proxy):
    """Where nobody listens behind the proxy, clients learn it at once."""
    proxy.target = 1
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(100)
