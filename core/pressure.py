"""Back-pressure: whether there is room for new work, by the disk and by what waits already."""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import func
from sqlmodel import Session, col, select

from core.database import Database
from core.errors import Reason
from core.settings import Settings
from core.states import BatchState
from core.tables import Batch

# Where this part of a limit is reached, intake slows down.
_SLOW = 0.8
# Summing what waits takes milliseconds where millions of images do.
_FRESH_S = 1.0


class Level(StrEnum):
    """What intake does."""

    OPEN = "open"  # takes in as fast as it can
    SLOW = "slow"  # pauses between batches
    STOPPED = "stopped"  # takes nothing in until there is room again


@dataclass(frozen=True, kw_only=True)
class Pressure:
    """How full the house is.

    Attributes:
        disk, queue: what intake does because of each; urgent work does not wait for the queue.
        reason, detail: what limits, and one sentence for people; None while nothing does.
        free_bytes: on the disk of the data folder, as this machine sees it.
        waiting_images: listed images that wait for a worker.
    """

    disk: Level
    queue: Level
    reason: Reason | None
    detail: str | None
    free_bytes: int
    waiting_images: int

    @property
    def level(self) -> Level:
        """What intake does because of both."""
        return max(self.disk, self.queue, key=list(Level).index)


def measure_pressure(session: Session, settings: Settings) -> Pressure:
    """Look at the disk and at the queues."""
    waiting = session.exec(select(func.sum(col(Batch.images))).where(col(Batch.state) == BatchState.QUEUED)).one()
    return judge(free_bytes(settings.data_dir), int(waiting or 0), settings)


def judge(free: int, waiting: int, settings: Settings) -> Pressure:
    """Decide what intake does with that much room."""
    least, most = settings.min_free_bytes, settings.max_waiting_images
    disk = Level.STOPPED if free < least else Level.SLOW if free < least / _SLOW else Level.OPEN
    queue = Level.STOPPED if waiting >= most else Level.SLOW if waiting > most * _SLOW else Level.OPEN
    reason, detail = None, None
    if disk != Level.OPEN and (disk == Level.STOPPED or queue != Level.STOPPED):
        reason = Reason.DISK_LOW
        detail = f"{free // 2**20} MiB are free on the data disk: below {least // 2**20} MiB nothing is taken in"
    elif queue != Level.OPEN:
        reason, detail = (
            Reason.QUEUE_FULL,
            f"{waiting} images wait already: at {most} listing stops until some are done",
        )
    return Pressure(disk=disk, queue=queue, reason=reason, detail=detail, free_bytes=free, waiting_images=waiting)


def free_bytes(folder: Path) -> int:
    """Bytes that we may still write on the disk of a folder, which need not exist yet; 0 where it does not answer."""
    try:
        while not folder.exists():
            folder = folder.parent
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


class Gauge:
    """Measures pressure at most once a second, for those who ask more often."""

    def __init__(self) -> None:
        self._pressure: Pressure | None = None
        self._measured_at = 0.0

    def pressure(self, database: Database, settings: Settings) -> Pressure:
        """The pressure of the last second."""
        if self._pressure is None or time.monotonic() - self._measured_at > _FRESH_S:
            with database.read() as session:
                self._pressure = measure_pressure(session, settings)
            self._measured_at = time.monotonic()
        return self._pressure
