"""A real HTTP server that webhooks are sent to."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from core.tables import utc_now

KEY = b"0123456789" * 3
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Receiver:
    """A real HTTP server that answers as it is told to and keeps what it was sent."""

    answers: list[int] = field(default_factory=list)
    waits: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def verified(self) -> list[dict]:
        """The bodies, each with the signature that the scheme asks for."""
        for _, headers, body in self.requests:
            text = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
            expected = base64.b64encode(hmac.digest(KEY, text, hashlib.sha256)).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert abs(int(headers["webhook-timestamp"]) - utc_now().timestamp()) < 300
        return [json.loads(body) for _, _, body in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run the server on a free port until the block ends."""
    receiver = Receiver()
    receiver.waits.set()

    class Handler(BaseHTTPRequestHandler):
        """Records, waits while it is told to, and answers."""

        def do_POST(self) -> None:
            """Take one request."""
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.requests.append((self.path, dict(self.headers.items()), body))
            receiver.waits.wait(30)
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.waits.set()
    server.shutdown()
    server.server_close()
