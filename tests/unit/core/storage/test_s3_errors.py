"""What S3 answers when it cannot or will not: each answer blames who is at fault, after a finite number of tries."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.settings import Settings
from core.storage import sessions
from core.storage.opening import open_storage
from core.storage.protocol import Storage
from core.storage.reading import hash_content
from core.storage.walking import walk


class FailingS3(ThreadingHTTPServer):
    """Answers every request with one error, or with an object that breaks off.

    Attributes:
        asked: requests so far.
    """

    status, code, asked = 500, "", 0


class _Handler(BaseHTTPRequestHandler):
    server: FailingS3

    def do_GET(self) -> None:
        self.server.asked += 1
        body = f"<Error><Code>{self.server.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/xml")
        if self.server.status == 200:
            self.send_header("Last-Modified", "Mon, 23 Nov 2026 12:00:00 GMT")
            self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(len(body) + (1000 if self.server.status == 200 else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing() -> Iterator[FailingS3]:
    """A server in a thread."""
    server = FailingS3(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def storage(failing: FailingS3, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A bucket there."""
    monkeypatch.setattr(sessions, "_SESSIONS", {})
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{failing.server_port}",
        "AWS_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    return open_storage("s3://bucket/scans", Settings(remote_roots=("s3://bucket",)), "folder")


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_what_is_the_servers_fault_is_tried_again_and_then_parks(
    failing: FailingS3, storage: Storage, status: int, code: str
) -> None:
    """Throttling, too: no image is blamed."""
    failing.status, failing.code = status, code
    with pytest.raises(StorageAway):
        list(walk(storage))
    assert failing.asked == 3
    with pytest.raises(StorageAway):
        hash_content(storage, "x.png", 99)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_refused_credentials_refuse_the_folder_and_blame_no_image(
    failing: FailingS3, storage: Storage, code: str
) -> None:
    """They may run out while images are read."""
    failing.status, failing.code = 403, code
    with pytest.raises(FolderError, match="credentials are missing or refused") as caught:
        list(walk(storage))
    assert caught.value.reason == Reason.PERMISSION_DENIED
    with pytest.raises(StorageAway, match="credentials are missing or refused"):
        hash_content(storage, "x.png", 99)


def test_one_object_may_be_denied(failing: FailingS3, storage: Storage) -> None:
    """Its neighbours may not be."""
    failing.status, failing.code = 403, "AccessDenied"
    with pytest.raises(FolderError) as refused:
        list(walk(storage))
    assert refused.value.reason == Reason.PERMISSION_DENIED
    with pytest.raises(ImageRejected) as rejected:
        hash_content(storage, "x.png", 99)
    assert rejected.value.reason == Reason.PERMISSION_DENIED


def test_a_connection_that_breaks_in_the_middle_of_an_object_is_the_storages_fault(
    failing: FailingS3, storage: Storage
) -> None:
    """Half an image is never taken for a whole one."""
    failing.status, failing.code = 200, "first bytes"
    with pytest.raises(StorageAway):
        hash_content(storage, "x.png", 10_000)
