"""/v1/lanes: what waits in each lane and for whom; holding a lane back and letting it go on."""

from datetime import datetime

from fastapi import APIRouter
from sqlalchemy import update
from sqlmodel import Session, col

from api.context import DatabaseDep, SettingsDep, SubmitterDep
from api.loads import LaneLoad, measure_lanes, measure_submitters
from api.rights import needs
from api.service_schemas import LaneList, LanePublic, SubmitterPublic
from core.access import Scope
from core.audit import record
from core.database import execute_dml
from core.lanes import Lane
from core.settings import Settings
from core.tables import LaneControl, utc_now

router = APIRouter(prefix="/v1/lanes", tags=["service"])


@router.get("", dependencies=[needs(Scope.READ)])
def list_lanes(database: DatabaseDep, settings: SettingsDep) -> LaneList:
    """Show every lane: whether it is paused, what waits and runs in it, and whose images wait."""
    with database.read() as session:
        return LaneList(lanes=[_describe(session, settings, load) for load in measure_lanes(session, utc_now())])


@router.post("/{lane}/pause", dependencies=[needs(Scope.ADMIN)])
def pause_lane(lane: Lane, database: DatabaseDep, settings: SettingsDep, submitter: SubmitterDep) -> LanePublic:
    """Start no more batches of a lane. Those in hand finish; submissions are taken in and listed as before.

    A lane that is paused already stays as it is.
    """
    with database.write() as session:
        _control(session, lane, "lane.pause", submitter, paused_at=utc_now())
        return _show(session, settings, lane)


@router.post("/{lane}/resume", dependencies=[needs(Scope.ADMIN)])
def resume_lane(lane: Lane, database: DatabaseDep, settings: SettingsDep, submitter: SubmitterDep) -> LanePublic:
    """Let a paused lane go on; workers get its batches within seconds. One that runs already stays as it is."""
    with database.write() as session:
        # Nothing is sent: the reconciler's next look gives out the lane's turns, whoever paused it for how long.
        _control(session, lane, "lane.resume", submitter, paused_at=None)
        return _show(session, settings, lane)


def _control(session: Session, lane: Lane, action: str, who: str, paused_at: datetime | None) -> None:
    """Pause the lane from a moment on, or resume it, and note who did; nothing where it is so already."""
    is_paused = col(LaneControl.paused_at).is_not(None)
    would_change = is_paused if paused_at is None else ~is_paused
    changed = execute_dml(
        session,
        update(LaneControl)
        .where(col(LaneControl.lane) == lane, would_change)
        .values(paused_at=paused_at, paused_by=None if paused_at is None else who),
    )
    if changed:
        record(session, who, action, lane.value)


def _show(session: Session, settings: Settings, lane: Lane) -> LanePublic:
    (load,) = (load for load in measure_lanes(session, utc_now()) if load.lane == lane)
    return _describe(session, settings, load)


def _describe(session: Session, settings: Settings, load: LaneLoad) -> LanePublic:
    submitters = [
        SubmitterPublic(
            submitter=waiting.submitter,
            waiting_images=waiting.waiting_images,
            weight=settings.shares.get(waiting.submitter, 1.0),
        )
        for waiting in measure_submitters(session, load.lane)
    ]
    return LanePublic(**vars(load), submitters=submitters)
