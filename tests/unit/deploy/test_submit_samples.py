"""deploy/submit-samples succeeds only when every image has a result."""

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
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Run the script against an API that accepts one submission and describes it as told."""
    told: dict[str, Any] = {}

    class Api(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer right"
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200 if is_known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(told if is_known else {"reason": "unauthorized"}).encode())

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, daemon=True).start()

    def run_script(submission: dict[str, Any], token: str = "right") -> subprocess.CompletedProcess[str]:
        told.update(submission)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        return subprocess.run(
            [sys.executable, str(PROJECT / "deploy" / "submit-samples")],
            env=dict(os.environ) | {"HISTOBATCH_URL": url, "API_TOKEN": token, "TIMEOUT_S": "0"},
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
