"""deploy/submit-samples succeeds only when every image has a result."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from core.settings import PROJECT

DONE: dict[str, Any] = {
    "id": "0" * 32,
    "state": "done",
    "finished_at": "2026-11-23T00:00:00Z",
    "reason": None,
    "detail": None,
    "notice": "Research use only, not for diagnosis.",
    "counts": {"total": 3, "pending": 0, "benign": 1, "malignant": 1, "uncertain": 0, "failed": 0, "skipped": 1},
    "failures": {"sidecar_file": 1},
}
# Nobody listens at port 1.
NOBODY = "http://127.0.0.1:1"
UP = {"data": {"result": [{"value": [0, "1"]}]}}
ALL_WELL: dict[str, Any] = {
    "workers": {"worker@here": {}},
    "prometheus": {"/api/v1/query": UP, "/api/v1/alerts": {"data": {"alerts": []}}},
}
ASKED = {"FLOWER_PASSWORD": "secret", "FLOWER_URL": "HERE", "PROMETHEUS_URL": "HERE"}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Run the script against an API that accepts one submission and describes it as told.

    The same server is Flower, with the password "secret", and Prometheus, at which alerts fire as told.
    """
    told: dict[str, Any] = {}
    login = f"Basic {base64.b64encode(b'histobatch:secret').decode()}"

    class Api(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            if self.path.startswith("/api/v1/"):
                self._send(200, told["prometheus"][self.path.split("?")[0]])
                return
            if self.path.startswith("/api/workers"):
                is_open = told.get("flower_is_open") or self.headers["Authorization"] == login
                self._send(200 if is_open else 401, told["workers"])
                return
            is_known = self.headers["Authorization"] == "Bearer right"
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(200 if is_known else 401, told if is_known else {"reason": "unauthorized"})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()

    def run_script(
        submission: dict[str, Any], token: str = "right", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        told.update(submission)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        others = {"FLOWER_PASSWORD": "", "PROMETHEUS_URL": NOBODY} | environment
        others = {name: value.replace("HERE", url) for name, value in others.items()}
        return subprocess.run(
            [sys.executable, str(PROJECT / "deploy" / "submit-samples")],
            env=dict(os.environ) | {"HISTOBATCH_URL": url, "API_TOKEN": token, "TIMEOUT_S": "0"} | others,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run_script
    server.shutdown()
    server.server_close()


def test_all_classified_is_success(run: Run) -> None:
    """Documents beside the images are no fault."""
    done = run(DONE)
    assert done.returncode == 0
    assert "malignant 1" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"failures": {"corrupt": 2}}, "2 x corrupt"),
        ({"state": "failed", "reason": "folder_empty", "detail": "no files"}, "state failed (folder_empty: no files)"),
        ({"counts": DONE["counts"] | {"benign": 0, "malignant": 0}}, "no image was classified"),
        ({"counts": DONE["counts"] | {"pending": 1}}, "1 images have no outcome"),
        ({"finished_at": None}, "not done after 0 s"),
    ],
)
def test_anything_less_is_a_failure_and_is_named(run: Run, change: dict[str, Any], fault: str) -> None:
    """A check that passes on half the images proves nothing."""
    done = run(DONE | change)
    assert done.returncode == 1
    assert fault in done.stderr


def test_a_refusal_is_told_in_one_line(run: Run) -> None:
    """A wrong token is the likeliest mistake."""
    done = run(DONE, "wrong")
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr


def test_flower_and_prometheus_are_asked_where_they_are(run: Run) -> None:
    """Each says in one line what it sees."""
    done = run(DONE | ALL_WELL, **ASKED)
    assert done.returncode == 0, done.stderr
    assert "Flower: sees 1 workers" in done.stdout
    assert "Prometheus: reaches the API, raises no alert" in done.stdout


def test_what_was_not_asked_is_said(run: Run) -> None:
    """Silence would pass for success."""
    done = run(DONE)
    assert "Flower: not asked" in done.stdout
    assert f"Prometheus: none at {NOBODY}" in done.stdout


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"workers": {}}, "Flower sees no worker"),
        ({"flower_is_open": True}, "Flower answers without its password"),
        (
            {
                "prometheus": {
                    "/api/v1/query": UP,
                    "/api/v1/alerts": {"data": {"alerts": [{"state": "firing", "labels": {"alertname": "NoWorker"}}]}},
                }
            },
            "Prometheus raises NoWorker",
        ),
    ],
)
def test_a_monitor_that_sees_a_fault_is_a_failure(run: Run, change: dict[str, Any], fault: str) -> None:
    """The stack is up only if its monitors say so, too."""
    done = run(DONE | ALL_WELL | change, **ASKED)
    assert done.returncode == 1
    assert fault in done.stderr


def test_a_flower_that_does_not_answer_is_a_failure(run: Run) -> None:
    """Unlike Prometheus it is part of every stack."""
    done = run(DONE, FLOWER_PASSWORD="secret", FLOWER_URL=NOBODY)
    assert done.returncode == 1
    assert f"{NOBODY} does not answer" in done.stderr
