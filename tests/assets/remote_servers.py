"""A real S3-compatible server, and a real SFTP server, each in a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.settings import PROJECT

_START_S = 30


@contextmanager
def s3_server(port: int | None = None) -> Iterator[str]:
    """Run moto's S3; yields its address."""
    port = port or free_port()
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def sftp_server(home: Path, served: Path, port: int | None = None) -> Iterator[int]:
    """Run an SFTP server that lets the key `home/.ssh/id` in and serves a folder; yields its port."""
    port = port or free_port()
    with _process([sys.executable, "-m", "tests.assets.sftp_process", str(home), str(served), str(port)], port):
        yield port


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(PROJECT)}
    # Not into a pipe: who logs each request would fill it, and stand still.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        try:
            _wait(process, port, log)
            yield
        finally:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(log.read().decode()[-2000:]) from None
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
