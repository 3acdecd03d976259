"""What waits, runs and gets done in the whole service, lane by lane, computed from batch rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlmodel import Session, col

from core.lanes import Lane
from core.states import OPEN_BATCHES, BatchState, SubmissionState
from core.tables import Batch, LaneControl, Submission

# Names of submitters come from outside, so there may be any number of them.
_MOST_SUBMITTERS = 50


@dataclass(frozen=True, kw_only=True)
class LaneLoad:
    """What waits and runs in a lane.

    Attributes:
        paused_at, paused_by: since when, and by whom, none of its batches is started; None while it runs.
        waiting: batches that no worker holds, wherever they wait.
        at_broker: those of them whose turn has come; the others wait for theirs in the database.
        oldest_s: seconds since the oldest waiting batch was cut; 0 where none waits.
    """

    lane: Lane
    paused_at: datetime | None
    paused_by: str | None
    waiting: int
    at_broker: int
    running: int
    waiting_images: int
    oldest_s: float


@dataclass(frozen=True)
class SubmitterLoad:
    """How many images of one submitter wait in a lane."""

    submitter: str
    waiting_images: int


def measure_lanes(session: Session, now: datetime) -> list[LaneLoad]:
    """Find out what waits in each lane, in the order in which workers look into them."""
    rows = session.execute(
        select(
            col(Batch.lane),
            col(Batch.state),
            func.count(),
            func.count(col(Batch.sent_at)),
            func.sum(col(Batch.images)),
            func.min(col(Batch.created_at)),
        )
        .where(col(Batch.state).in_(OPEN_BATCHES))
        .group_by(col(Batch.lane), col(Batch.state))
    )
    found = {(lane, state): (count, sent, int(images), oldest) for lane, state, count, sent, images, oldest in rows}
    controls = {control.lane: control for control in session.scalars(select(LaneControl))}
    loads = []
    for lane in Lane:
        waiting, at_broker, images, oldest = found.get((lane, BatchState.QUEUED), (0, 0, 0, now))
        control = controls.get(lane)
        loads.append(
            LaneLoad(
                lane=lane,
                paused_at=control.paused_at if control else None,
                paused_by=control.paused_by if control else None,
                waiting=waiting,
                at_broker=at_broker,
                running=found.get((lane, BatchState.RUNNING), (0, 0, 0, now))[0],
                waiting_images=images,
                oldest_s=max(0.0, (now - oldest).total_seconds()),
            )
        )
    return loads


def measure_submitters(session: Session, lane: Lane) -> list[SubmitterLoad]:
    """Find out whose images wait in a lane: the 50 submitters with most of them, most first."""
    images = func.sum(col(Batch.images))
    rows = session.execute(
        select(col(Submission.submitter), images)
        .join(Batch, col(Batch.submission_id) == col(Submission.id))
        .where(col(Batch.state) == BatchState.QUEUED, col(Batch.lane) == lane)
        .group_by(col(Submission.submitter))
        .order_by(images.desc(), col(Submission.submitter))
        .limit(_MOST_SUBMITTERS)
    )
    return [SubmitterLoad(submitter, int(waiting_images)) for submitter, waiting_images in rows]


def measure_rate(session: Session, now: datetime, window_s: float = 60) -> float:
    """Measure images with an outcome a second over the last window_s seconds, all submissions together."""
    images = session.execute(
        select(func.sum(col(Batch.images))).where(
            col(Batch.finished_at) >= now - timedelta(seconds=window_s),
            col(Batch.state) == BatchState.DONE,
            # What was settled while listing was never classified by anyone.
            col(Batch.started_at).is_not(None),
        )
    ).scalar()
    return int(images or 0) / window_s


def count_by_engine(session: Session, now: datetime, window_s: float = 3600) -> dict[str, int]:
    """Count the images that each engine was given in the last window_s seconds: shows a GPU that serves no more."""
    rows = session.execute(
        select(col(Batch.engine), func.sum(col(Batch.images)))
        .where(
            col(Batch.finished_at) >= now - timedelta(seconds=window_s),
            col(Batch.state) == BatchState.DONE,
            col(Batch.engine).is_not(None),
        )
        .group_by(col(Batch.engine))
        .order_by(col(Batch.engine))
    )
    return {row[0]: int(row[1]) for row in rows}


def measure_gpu_calls(session: Session, now: datetime, window_s: float = 3600) -> float | None:
    """Measure how many calls a batch had at the GPU on average, in the last window_s seconds; None where none had any.

    A worker whose batches in hand have fewer than one together leaves the GPU idle: what comes before it is the limit.
    """
    infer_ms, wall_ms = session.execute(
        select(func.sum(col(Batch.infer_ms)), func.sum(col(Batch.wall_ms))).where(
            col(Batch.finished_at) >= now - timedelta(seconds=window_s),
            col(Batch.state) == BatchState.DONE,
            col(Batch.engine).startswith("tensorrt"),
            col(Batch.infer_ms) > 0,
        )
    ).one()
    return float(infer_ms) / float(wall_ms) if wall_ms else None


def count_submissions(session: Session) -> dict[SubmissionState, int]:
    """Count all submissions by state; states that none is in are there with 0."""
    rows = session.execute(select(col(Submission.state), func.count()).group_by(col(Submission.state)))
    found = {row[0]: row[1] for row in rows}
    return {state: found.get(state, 0) for state in SubmissionState}
