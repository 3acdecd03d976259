"""The real system for a measurement: broker, API and one worker as processes, SQLite in a scratch folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from api.schemas import SubmissionPublic
from cli.client import ApiClient
from cli.embedded import free_ports, start_programs
from cli.processes import Programs
from core.lanes import Lane
from core.states import OPEN_SUBMISSIONS


@dataclass(frozen=True)
class Stack:
    """A running system.

    Attributes:
        images: the one root below which folders may be submitted.
        environment: the settings that its programs run with.
    """

    client: ApiClient
    programs: Programs
    worker: psutil.Process
    images: Path
    environment: dict[str, str]

    def classify(self, folder: Path) -> tuple[float, SubmissionPublic]:
        """Submit a folder over HTTP; seconds from the request until every row is in the database."""
        start = time.perf_counter()
        submitted = self.client.submit(folder, Lane.BULK)
        while (found := self.client.submission(submitted.id)).state in OPEN_SUBMISSIONS:
            time.sleep(0.1)  # each question costs the API, and so the cores, some 8 ms
        return time.perf_counter() - start, found


@contextmanager
def running_stack(scratch: Path, images: Path, **settings: str) -> Iterator[Stack]:
    """Start the system and wait until its worker has classified a first image."""
    broker_port, api_port = free_ports(2)
    environment = dict(os.environ) | {
        "HISTOBATCH_DATA_DIR": str(scratch),
        "HISTOBATCH_DATABASE_URL": "",
        "HISTOBATCH_REDIS_URL": f"redis://127.0.0.1:{broker_port}/0",
        "HISTOBATCH_ROOTS": str(images),
        "HISTOBATCH_API_HOST": "127.0.0.1",
        "HISTOBATCH_API_PORT": str(api_port),
        "HISTOBATCH_RATE_LIMIT": "off",
        **settings,
    }
    with Programs(scratch) as programs:
        programs.start("broker", environment, [str(broker_port)])
        client, _ = start_programs(programs, environment, ("api", "worker"))
        stack = Stack(client, programs, psutil.Process(programs.pid("worker")), images, environment)
        stack.classify(_warm_up_folder(images))
        yield stack


def _warm_up_folder(images: Path) -> Path:
    from benchmarks.images import write_png_copies

    write_png_copies(images / "warm-up", 8)
    return images / "warm-up"
