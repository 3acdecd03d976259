"""What someone should look after, as the first page says it: each with where to look."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlmodel import Session, col

from api.archive_schemas import ArchiveList
from api.loads import LaneLoad
from core.archive_tables import Delivery
from core.presence import PresentWorker, WorkerState
from core.pressure import Level, Pressure
from core.states import ScanState

# A report that no webhook took is worth a word for so long.
_RECENT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is wrong, or not as usual.

    Attributes:
        stops: whether work stands still because of it.
        page: address of the page that says more, below the root; None where there is none.
    """

    title: str
    detail: str
    stops: bool = False
    page: str | None = None


def find_faults(
    session: Session,
    *,
    pressure: Pressure,
    lanes: Sequence[LaneLoad],
    workers: Sequence[PresentWorker],
    archives: ArchiveList,
    now: datetime,
) -> list[Fault]:
    """Find what is wrong, what stops work first."""
    faults = [
        *_of_intake(pressure),
        *_of_workers(workers, lanes),
        *_of_lanes(lanes),
        *_of_archives(archives),
        *_of_webhooks(session, now),
    ]
    return sorted(faults, key=lambda fault: not fault.stops)


def _of_intake(pressure: Pressure) -> list[Fault]:
    if pressure.level == Level.OPEN:
        return []
    title = f"Intake is {pressure.level}: {pressure.reason}"
    return [Fault(title=title, detail=pressure.detail or "", stops=pressure.level == Level.STOPPED)]


def _of_workers(workers: Sequence[PresentWorker], lanes: Sequence[LaneLoad]) -> list[Fault]:
    faults = [
        Fault(title=f"{worker.name} waits", detail=worker.detail or "it cannot serve the active model")
        for worker in workers
        if worker.state == WorkerState.WAITING
    ]
    if any(worker.state in (WorkerState.SERVING, WorkerState.LOADING) for worker in workers):
        return faults
    waits = any(lane.waiting or lane.running for lane in lanes)
    detail = "images wait, and nobody classifies them" if waits else "what is handed in will wait"
    return [*faults, Fault(title="No worker serves", detail=f"{detail}: start histobatch worker", stops=waits)]


def _of_lanes(lanes: Sequence[LaneLoad]) -> list[Fault]:
    return [
        Fault(
            title=f"The lane {lane.lane} is paused",
            detail=f"by {lane.paused_by}; go on with histobatch lanes resume {lane.lane}",
            stops=bool(lane.waiting),
        )
        for lane in lanes
        if lane.paused_at
    ]


def _of_archives(archives: ArchiveList) -> list[Fault]:
    faults = [Fault(title="The file of archives is not used", detail=fault) for fault in archives.file_faults]
    for archive in archives.archives:
        scan = archive.last_scan
        if scan and scan.state == ScanState.FAILED:
            title = f"The last scan of {archive.name} failed: {scan.reason}"
            faults.append(Fault(title=title, detail=scan.detail or "", page=f"/archives/{archive.name}"))
        elif scan and scan.waits_until:
            title = f"The scan of {archive.name} waits: {scan.reason}"
            faults.append(Fault(title=title, detail=scan.detail or "", page=f"/archives/{archive.name}"))
    return faults


def _of_webhooks(session: Session, now: datetime) -> list[Fault]:
    given_up = (
        col(Delivery.ended_at) > now - _RECENT,
        col(Delivery.delivered_at).is_(None),
    )
    amount = session.execute(select(func.count()).select_from(Delivery).where(*given_up)).scalar_one()
    if not amount:
        return []
    detail = "nobody took them within a day: see docs/archives.md"
    return [Fault(title=f"{amount} reports could not be delivered to their webhooks", detail=detail)]
