"""Progress of submissions as server-sent events: whoever listens to one shares one reader of the database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from blake3 import blake3
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from api.problems import ApiError, ProblemReason
from api.submissions import describe, find_submission
from core.database import Database
from core.states import OPEN_SUBMISSIONS

log = structlog.get_logger(__name__)

_POLL_S = 1.0
# Proxies cut connections on which nothing moves, often after a minute.
_HEARTBEAT_S = 15.0
_HEARTBEAT = b": still here\n\n"
_RECONNECT_MS = 3000
_MOST_SUBMISSIONS = 50
_MOST_LISTENERS = 500
_RETRY_AFTER_S = 10
# They change by themselves as time goes on: no news.
_PASSING = {"images_per_s", "eta_s"}


@dataclass(frozen=True)
class Snapshot:
    """How far a submission was.

    Attributes:
        id: the same for the same facts; what a listener that comes back names as the last it saw.
        is_last: it has ended, and no batch of it is in hand.
        data: a SubmissionPublic as JSON.
    """

    id: str
    is_last: bool
    data: str

    def event(self) -> bytes:
        """Write it as an event: "progress", or "end" for the last."""
        name = "end" if self.is_last else "progress"
        return f"id: {self.id}\nevent: {name}\nretry: {_RECONNECT_MS}\ndata: {self.data}\n\n".encode()


def read_snapshot(database: Database, submission_id: str) -> Snapshot:
    """Look how far a submission is.

    Raises:
        ApiError: there is none.
    """
    with database.read() as session:
        shown = describe(session, find_submission(session, submission_id))
    facts = shown.model_dump_json(exclude=_PASSING).encode()
    is_last = shown.state not in OPEN_SUBMISSIONS and shown.counts.pending == 0
    return Snapshot(blake3(facts).hexdigest(8), is_last, shown.model_dump_json())


class Events:
    """All event streams of this process. Used from the event loop only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, _Channel] = {}
        self._listeners = 0

    @asynccontextmanager
    async def listen(self, submission_id: str, first: Snapshot) -> AsyncIterator["_Channel"]:
        """Take part in a submission's channel; the first who comes starts its reader, the last who goes ends it.

        Raises:
            ApiError: 503 where there are as many listeners, or submissions listened to, as one process bears.
        """
        channel = self._join(submission_id, first)
        try:
            yield channel
        finally:
            self._listeners -= 1
            channel.listeners -= 1
            if channel.listeners == 0:
                channel.stop()
                del self._channels[submission_id]

    def _join(self, submission_id: str, first: Snapshot) -> "_Channel":
        channel = self._channels.get(submission_id)
        if self._listeners >= _MOST_LISTENERS or (channel is None and len(self._channels) >= _MOST_SUBMISSIONS):
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                ProblemReason.TOO_BUSY,
                "too many listen already: ask for the status now and then instead",
                retry_after_s=_RETRY_AFTER_S,
            )
        if channel is None:
            channel = _Channel(lambda: read_snapshot(self._database, submission_id), first)
            self._channels[submission_id] = channel
        self._listeners += 1
        channel.listeners += 1
        return channel


class _Channel:
    """One submission's news: one task reads, any number of listeners wait."""

    def __init__(self, read: Callable[[], Snapshot], first: Snapshot) -> None:
        self.listeners = 0
        self._read = read
        self._latest: Snapshot | None = first
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._poll())

    async def stream(self, seen: str | None) -> AsyncIterator[bytes]:
        """Yield events from the state after the one that was seen, and heartbeats, until the submission's end."""
        while True:
            try:
                snapshot = await asyncio.wait_for(self._next(seen), _HEARTBEAT_S)
            except TimeoutError:
                yield _HEARTBEAT
                continue
            if snapshot is None:
                return
            yield snapshot.event()
            if snapshot.is_last:
                return
            seen = snapshot.id

    def stop(self) -> None:
        """End the reader."""
        self._task.cancel()

    async def _next(self, seen: str | None) -> Snapshot | None:
        async with self._news:
            await self._news.wait_for(lambda: self._latest is None or self._latest.id != seen)
            return self._latest

    async def _poll(self) -> None:
        while self._latest is not None and not self._latest.is_last:
            await asyncio.sleep(_POLL_S)
            try:
                found: Snapshot | None = await run_in_threadpool(self._read)
            except SQLAlchemyError as error:
                # Listeners keep waiting; heartbeats go on.
                log.warning("events_without_database", error=type(error).__name__)
                continue
            except ApiError:
                found = None  # retention deleted it meanwhile
            async with self._news:
                self._latest = found
                self._news.notify_all()
