"""What follows a commit: keep a few batches of each lane at the broker, and finish what is complete.

All batches that wait are in the database; the broker holds only the next few of each lane. So who comes later need
not wait until all that came before is through, and a broker that forgets everything forgets little.
"""

from collections import defaultdict
from collections.abc import Sequence

import structlog
from sqlalchemy import ColumnElement, and_, exists, func, literal_column, update
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.lanes import Lane
from core.queue import BrokerAway
from core.states import LIVE_SUBMISSIONS, BatchState
from core.tables import Batch, LaneControl, Share, Submission, utc_now
from core.transitions import finish_submission
from worker.context import WorkerContext
from worker.scanning.closing import close_ended_scan
from worker.sharing import Turns, WaitingBatch, take_turns

log = structlog.get_logger()

# Batches of a lane at the broker, at least: each claim sends more, so that this bridges the time of one sending.
_LEAST_AHEAD = 4


def top_up(context: WorkerContext, lane: Lane) -> None:
    """Send the batches whose turn is next in a lane, unless enough wait at the broker already.

    A crash between the commit and the sending leaves batches that count as sent: reconcile finds that the broker
    does not have them.
    """
    with context.database.write() as session:
        batch_ids = _give_turns(session, lane, context.settings.shares)
    for number, batch_id in enumerate(batch_ids):
        try:
            context.queue.send_classify(batch_id, lane)
        except BrokerAway:
            log.warning("broker_away", lane=lane.value, unsent=len(batch_ids) - number)
            put_back(context, batch_ids[number:])
            return


def put_back(context: WorkerContext, batch_ids: Sequence[int]) -> None:
    """Have batches wait for another turn."""
    with context.database.write() as session:
        execute_dml(
            session,
            update(Batch)
            .where(col(Batch.id).in_(batch_ids), col(Batch.state) == BatchState.QUEUED)
            .values(sent_at=None),
        )


def finish(context: WorkerContext, submission_id: str) -> None:
    """Close a submission if every image of it has an outcome."""
    with context.database.write() as session:
        finished = finish_submission(session, submission_id)
    if finished:
        log.info("submission_done", submission_id=submission_id)
        close_ended_scan(context, submission_id)


def _give_turns(session: Session, lane: Lane, weights: dict[str, float]) -> Sequence[int]:
    # On PostgreSQL the row's lock: while another gives turns of this lane, there is nothing to do here.
    control = session.exec(
        select(LaneControl).where(LaneControl.lane == lane).with_for_update(skip_locked=True)
    ).one_or_none()
    if control is None or control.paused_at is not None:
        return []
    room = _room(session, lane)
    if room == 0:
        return []
    waiting = _waiting(session, lane, room)
    shares = {row.submitter: row for row in session.exec(select(Share).where(Share.lane == lane))}
    served = {name: row.served for name, row in shares.items()}
    turns = take_turns(waiting, served, control.virtual_time, weights, room)
    if turns.batch_ids:
        _note(session, control, shares, turns)
    return turns.batch_ids


def _room(session: Session, lane: Lane) -> int:
    """How many batches more may wait at the broker: none until half of those that may are gone."""
    running = select(func.count()).select_from(Batch).where(col(Batch.state) == BatchState.RUNNING)
    sent = select(func.count()).select_from(Batch).where(is_sent(), col(Batch.lane) == lane)
    ahead = max(_LEAST_AHEAD, 2 * session.exec(running).one())
    room = ahead - session.exec(sent).one()
    return room if room >= ahead / 2 else 0


def _waiting(session: Session, lane: Lane, number: int) -> dict[str, list[WaitingBatch]]:
    """The first batches of each submitter, those of earlier submissions first."""
    submissions = session.exec(
        select(Submission.id, Submission.submitter)
        .where(
            col(Submission.state).in_(LIVE_SUBMISSIONS),
            Submission.lane == lane,
            exists().where(col(Batch.submission_id) == col(Submission.id), is_unsent()),
        )
        .order_by(col(Submission.id))
    )
    waiting: dict[str, list[WaitingBatch]] = defaultdict(list)
    for submission_id, submitter in submissions:
        room = number - len(waiting[submitter])
        if room > 0:
            batches = session.exec(
                select(Batch.id, Batch.images)
                .where(Batch.submission_id == submission_id, is_unsent())
                .order_by(col(Batch.id))
                .limit(room)
            )
            waiting[submitter] += [WaitingBatch(batch_id or 0, images) for batch_id, images in batches]
    return waiting


def _note(session: Session, control: LaneControl, shares: dict[str, Share], turns: Turns) -> None:
    execute_dml(session, update(Batch).where(col(Batch.id).in_(turns.batch_ids)).values(sent_at=utc_now()))
    control.virtual_time = turns.virtual_time
    session.add(control)
    for submitter, served in turns.served.items():
        row = shares.get(submitter) or Share(lane=control.lane, submitter=submitter)
        row.served = served
        session.add(row)


def is_unsent() -> ColumnElement[bool]:
    """Condition for batches that wait for their turn."""
    # Literally as in the index's own condition, so that the databases see that it applies.
    return and_(col(Batch.state) == literal_column("'queued'"), col(Batch.sent_at).is_(None))


def is_sent() -> ColumnElement[bool]:
    """Condition for batches that wait at the broker."""
    return and_(col(Batch.state) == literal_column("'queued'"), col(Batch.sent_at).is_not(None))
