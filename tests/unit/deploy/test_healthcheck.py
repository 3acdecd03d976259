"""The container's health check says what is so, by its exit status."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from core.settings import PROJECT

SCRIPT = PROJECT / "deploy" / "healthcheck.py"


class _Answers(BaseHTTPRequestHandler):
    """Says yes at /live and /healthcheck, no elsewhere."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path in ("/live", "/healthcheck") else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering_port() -> Iterator[int]:
    """The port of a program that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def _check(role: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=dict(os.environ) | {"HISTOBATCH_ROLE": role, "PYTHONPATH": str(PROJECT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("role", ["api", "flower"])
def test_a_program_that_answers_is_healthy(role: str, answering_port: int) -> None:
    """The check asks the program's own port."""
    done = _check(role, **{f"HISTOBATCH_{role.upper()}_PORT": str(answering_port)})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("role", ["api", "flower"])
def test_a_program_that_does_not_answer_is_not_healthy(role: str) -> None:
    """Port 1 is nobody's."""
    done = _check(role, **{f"HISTOBATCH_{role.upper()}_PORT": "1"})
    assert done.returncode == 1
    assert done.stderr.startswith(f"{role}: ")


def test_a_role_that_does_not_exist_is_not_healthy() -> None:
    """A misspelt role must not pass for a healthy program."""
    assert _check("wroker").returncode == 1


def test_a_worker_is_healthy_while_its_pulse_writes(tmp_path: Path) -> None:
    """A worker that hangs, or hears no database or broker, keeps its file, but not the file's time."""
    file = tmp_path / "worker.health"
    environment = {"HISTOBATCH_HEALTH_FILE": str(file)}
    assert _check("worker", **environment).returncode == 1
    file.write_text("{}")
    assert (_check("worker", **environment).returncode) == 0
    long_ago = time.time() - 600
    os.utime(file, (long_ago, long_ago))
    done = _check("worker", **environment)
    assert done.returncode == 1
    assert "600 s ago" in done.stderr


def test_beat_is_healthy_while_it_writes_its_schedule(redis_url: str, tmp_path: Path) -> None:
    """A beat that stands still keeps its file and its connection, but not the file's time."""
    environment = {"HISTOBATCH_REDIS_URL": redis_url, "HISTOBATCH_DATA_DIR": str(tmp_path)}
    assert _check("beat", **environment).returncode == 1
    schedule = tmp_path / "beat-schedule.dat"
    schedule.touch()
    assert _check("beat", **environment).returncode == 0
    long_ago = time.time() - 3600
    os.utime(schedule, (long_ago, long_ago))
    assert "beat does not tick" in _check("beat", **environment).stderr


def test_beat_without_a_broker_is_not_healthy(tmp_path: Path) -> None:
    """It ticks, and nobody hears it."""
    (tmp_path / "beat-schedule").touch()
    done = _check("beat", HISTOBATCH_REDIS_URL="redis://127.0.0.1:1/0", HISTOBATCH_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
