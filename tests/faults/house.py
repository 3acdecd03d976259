"""The whole system for one run: broker, database, workers, beats, API, all real, and what was asked of them."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from sqlmodel import Session, col, func, select

from cli.embedded import free_ports
from core.database import Database
from core.lanes import Lane
from core.queue import BrokerAway, WorkQueue
from core.settings import Settings
from core.states import OPEN_SUBMISSIONS, BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission
from tests.assets.programs import wait_until
from tests.assets.rows import add_submission
from tests.faults.client import Client
from tests.faults.clock import Clock, remove_traces
from tests.faults.ledger_worker import LEDGER, PAUSE_MS
from tests.faults.pictures import Folder, Pictures
from tests.faults.servers import Broker, Store
from tests.faults.supervisor import MARK, Kept, processes_of

T = TypeVar("T")

# We ask the database, too, while faults keep it from answering.
_PATIENCE_S = 60


class House:
    """A running system, its supervised programs, and the folders that were handed in."""

    def __init__(
        self,
        scratch: Path,
        store: Store,
        *,
        workers: int = 2,
        beats: int = 1,
        api: bool = False,
        pause_ms: float = 5,
        clock_library: Path | None = None,
        **settings: object,
    ) -> None:
        """Start everything.

        Args:
            pause_ms: that the engine takes longer for each image.
            clock_library: gives each program a wall clock that can jump.
            settings: of all programs, beside those that a house needs.
        """
        self.scratch = scratch
        self.store = store
        self.broker = Broker(scratch / "broker")
        self.pictures = Pictures(scratch / "images")
        self.ledger = scratch / "ledger"
        self.submitted: dict[str, Folder] = {}
        self.mark = uuid4().hex
        self._clock_library = clock_library
        self.clocks: dict[str, Clock] = {}
        self._values = self._settings_of(settings)
        self.settings = Settings(**self._values)
        self.database = Database(store.own_url)
        self.database.migrate()
        self.queue = WorkQueue(self.settings)
        self._queue_lock = threading.Lock()
        extra = {LEDGER: str(self.ledger), PAUSE_MS: str(pause_ms)}
        self.workers = [self._start(f"worker-{n}", ["tests.faults.ledger_worker"], extra) for n in range(workers)]
        self.beats = [self._start(f"beat-{n}", ["cli.main", "beat"], _own_beat(scratch, n)) for n in range(beats)]
        self.api = self._start("api", ["cli.main", "api"]) if api else None
        self.client = Client(f"http://127.0.0.1:{self.settings.api_port}") if api else None
        wait_until(lambda: all(worker.is_logged("worker_ready") for worker in self.workers), "the workers are ready")

    @property
    def programs(self) -> list[Kept]:
        """All of them."""
        return [*([self.api] if self.api else []), *self.beats, *self.workers]

    def submit(self, folder: Folder, lane: Lane = Lane.BULK) -> str:
        """Hand a folder in: over HTTP where an API runs, else as the API does it."""
        submission_id = self._post(folder, lane) if self.client else self._record(folder, lane)
        self.submitted[submission_id] = folder
        return submission_id

    def send(self, message: Callable[[WorkQueue], None]) -> None:
        """Send a message; a broker that is away does not matter."""
        with self._queue_lock, suppress(BrokerAway):
            message(self.queue)

    def ask(self, question: Callable[[Session], T]) -> T:
        """Read from the database, however long it takes to answer."""

        def read() -> T:
            with self.database.read() as session:
                return question(session)

        return self.database.insist(read, _PATIENCE_S)

    def outcomes(self) -> int:
        """Images that have an outcome."""
        count = select(func.count()).select_from(Item).where(Item.state != ItemState.PENDING)
        return self.ask(lambda session: session.exec(count).one())

    def waiting(self) -> int:
        """Images that were handed in and have no outcome yet."""
        return sum(len(folder) for folder in list(self.submitted.values())) - self.outcomes()

    def wait_for_outcomes(self, number: int, timeout_s: float = 60) -> None:
        """Wait until that many images have an outcome."""
        wait_until(lambda: self.outcomes() >= number, f"{number} images have an outcome", timeout_s)

    def open_submissions(self) -> Mapping[str, SubmissionState]:
        """Those that have not ended, and where they stand."""
        query = select(Submission.id, Submission.state).where(col(Submission.state).in_(OPEN_SUBMISSIONS))
        return {key: state for key, state in self.ask(lambda session: session.exec(query).all())}  # noqa: C416

    def in_hand(self) -> Mapping[str, Sequence[int]]:
        """Batches that are being worked on, by the name of the worker that claimed them."""
        query = select(Batch.worker, Batch.id).where(Batch.state == BatchState.RUNNING)
        held: dict[str, list[int]] = {}
        for worker, batch_id in self.ask(lambda session: session.exec(query).all()):
            held.setdefault(str(worker), []).append(int(batch_id or 0))
        return held

    def busy_workers(self) -> list[Kept]:
        """Workers that have a batch in hand."""
        held = self.in_hand()
        return [worker for worker in self.workers if name_of(worker) in held]

    def settle(self, timeout_s: float = 90) -> None:
        """Wait until every submission has ended."""
        deadline = time.monotonic() + timeout_s
        while left := self.open_submissions():
            if time.monotonic() > deadline:
                raise AssertionError(f"stuck after {timeout_s} s: {left}; batches {self._open_batches()}")
            time.sleep(0.1)

    def stop_programs(self, vanish_s: float = 15) -> list[str]:
        """End the programs for good; names those that had to be killed, and processes that stayed."""
        for program in self.programs:
            program.ask_to_stop()
        forced = [program.name for program in self.programs if not program.stop()]
        with suppress(AssertionError):
            wait_until(lambda: not processes_of(self.mark), "no process is left", vanish_s)
        return forced + [f"process {process.pid}: {process.cmdline()}" for process in processes_of(self.mark)]

    def close(self) -> None:
        """End everything that still runs, without asking."""
        for program in self.programs:
            program.stop(timeout_s=5)
        for process in processes_of(self.mark):
            process.kill()
        if self.clocks:
            for pid in [pid for program in self.programs for pid in program.pids]:
                remove_traces(pid)
        if self.client:
            self.client.close()
        self.queue.close()
        self.database.close()
        self.broker.close()
        self.store.close()

    def _post(self, folder: Folder, lane: Lane) -> str:
        assert self.client is not None
        return self.client.submit(folder.path, lane, key=folder.path.name)

    def _record(self, folder: Folder, lane: Lane) -> str:
        with self.database.write() as session:
            submission_id = add_submission(session, folder.path, state=SubmissionState.ACCEPTED, lane=lane)
        self.send(lambda queue: queue.send_intake(submission_id))
        return submission_id

    def _settings_of(self, settings: Mapping[str, object]) -> dict[str, str]:
        values = {
            "data_dir": self.scratch / "data",
            "database_url": self.store.url,
            "redis_url": self.broker.url,
            "roots": self.scratch / "images",
            "engine": "fake",
            "batch_size": 20,
            "decode_processes": 1,
            "lease_s": 2,
            "reconcile_every_s": 1,
            "shutdown_grace_s": 1,
            "min_free_bytes": 0,
            "api_port": free_ports(1)[0],
        }
        return {name: str(value) for name, value in (values | settings).items()}

    def _start(self, name: str, module: list[str], extra: Mapping[str, str] | None = None) -> Kept:
        variables = {f"HISTOBATCH_{key.upper()}": value for key, value in self._values.items()}
        environment = {"PATH": os.environ["PATH"], MARK: self.mark, **variables, **(extra or {})}
        if self._clock_library is not None:
            self.clocks[name] = Clock(self.scratch / f"{name}.clock", self._clock_library)
            environment |= self.clocks[name].environment
        return Kept(name, ["-m", *module], environment, self.scratch / f"{name}.log")

    def _open_batches(self) -> list[tuple[object, ...]]:
        query = select(
            Batch.id, Batch.state, Batch.attempts, Batch.suspect, Batch.sent_at, Batch.worker, Batch.heartbeats
        ).where(col(Batch.state).in_([BatchState.QUEUED, BatchState.RUNNING]))
        return [tuple(row) for row in self.ask(lambda session: session.exec(query.limit(20)).all())]


def name_of(worker: Kept) -> str:
    """The name under which a worker claims batches."""
    return f"{socket.gethostname()}:{worker.pid}"


def _own_beat(scratch: Path, number: int) -> dict[str, str]:
    """A data folder of its own, as on another machine: two beats must not share the file of their last run."""
    return {"HISTOBATCH_DATA_DIR": str(scratch / f"beat-data-{number}")}
