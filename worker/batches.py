"""Claim a batch under a lease, store its results, hand it back, or close it with all its outcomes."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, Table, Update, and_, bindparam, exists, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from core.bundle import DecisionRule
from core.database import Database, execute_dml
from core.errors import LeaseLost
from core.lanes import Lane
from core.states import LIVE_SUBMISSIONS, OPEN_SUBMISSIONS, BatchState, ItemState
from core.storage.reading import Expected
from core.tables import Batch, Item, LaneControl, Result, Submission, utc_now
from core.transitions import cancel_queued_batches, move
from worker.pipeline import Classified, KnownResult, Rejected, Timings, WorkItem

_ITEM_TABLE: Table = Item.__table__  # type: ignore[attr-defined]
# One statement for the images of a batch, whose states differ. The database refuses one that has an outcome already.
_ITEM_UPDATE = (
    update(_ITEM_TABLE)
    .where(_ITEM_TABLE.c.id == bindparam("item_id"))
    .values(
        state=bindparam("new_state"),
        reason=bindparam("new_reason"),
        detail=bindparam("new_detail"),
        decision=bindparam("new_decision"),
        content_hash=bindparam("new_hash"),
        result_id=bindparam("new_result"),
    )
)


@dataclass(frozen=True)
class Waiting:
    """A batch that may be claimed.

    Attributes:
        is_suspect: it was in the hands of a worker that died, so that it must run alone.
    """

    lane: Lane
    is_suspect: bool


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A batch that this worker holds while its heartbeats are heard."""

    batch_id: int
    token: str
    claimed_at: datetime
    submission_id: str
    lane: Lane
    source: str
    folder: str
    model: str | None
    items: Sequence[WorkItem]


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What is stored with each result: who computed it, and the rule that makes a decision of a probability."""

    engine: str
    model_version: str
    rule: DecisionRule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that closes a batch; the results are stored already."""

    images: Sequence[Classified | Rejected]
    timings: Timings
    engine: str


def claim_batch(database: Database, batch_id: int, worker: str) -> Claim | None:
    """Take a queued batch; None where another worker has it, nothing is left to do, or it may not start now.

    The attempt counts before the work starts, so that a batch that kills its worker is known by its count.
    """
    token = uuid4().hex
    now = utc_now()
    with database.write() as session:
        claimed = move(
            session,
            Batch,
            [BatchState.QUEUED],
            BatchState.RUNNING,
            col(Batch.id) == batch_id,
            _may_start(),
            attempts=col(Batch.attempts) + 1,
            lease_token=token,
            heartbeats=0,
            started_at=now,
            worker=worker,
        )
        if not claimed:
            # Paused or parked meanwhile: it waits for another turn.
            execute_dml(
                session,
                update(Batch)
                .where(col(Batch.id) == batch_id, col(Batch.state) == BatchState.QUEUED)
                .values(sent_at=None),
            )
            return None
        batch, submission = session.exec(
            select(Batch, Submission).join(Submission).where(col(Batch.id) == batch_id)
        ).one()
        pending = select(Item.id, Item.path, Item.size, Item.mtime_ns).where(
            Item.batch_id == batch_id, Item.state == ItemState.PENDING
        )
        return Claim(
            batch_id=batch_id,
            token=token,
            claimed_at=now,
            submission_id=submission.id,
            lane=Lane(batch.lane),
            source=submission.source,
            folder=submission.folder,
            model=submission.model,
            items=[_work_item(submission.source, *row) for row in session.exec(pending)],
        )


def _work_item(source: str, item_id: int | None, path: str, size: int, mtime_ns: int) -> WorkItem:
    # Who submits a folder wants what lies there now; a scan must record what it listed.
    expected = Expected(size, mtime_ns) if source == "archive" else None
    return WorkItem(item_id or 0, path, expected)


def peek(database: Database, batch_id: int) -> Waiting | None:
    """Look at a batch before it is claimed; None where there is no such batch."""
    with database.read() as session:
        row = session.exec(select(Batch.lane, Batch.suspect).where(Batch.id == batch_id)).one_or_none()
    return Waiting(Lane(row[0]), bool(row[1])) if row else None


def hand_back(database: Database, claim: Claim) -> bool:
    """Return an unfinished batch to the queue for no fault of its own; the attempt does not count.

    A submission that has ended meanwhile takes the batch along. Returns False where the lease is lost.
    """
    with database.write() as session:
        returned = move(
            session,
            Batch,
            [BatchState.RUNNING],
            BatchState.QUEUED,
            *_held(claim),
            attempts=col(Batch.attempts) - 1,
            lease_token=None,
            sent_at=None,
        )
        if returned:
            cancel_if_ended(session, claim.submission_id)
    return bool(returned)


def cancel_if_ended(session: Session, submission_id: str) -> bool:
    """Skip what waits of a submission that has ended; whether it has.

    Locks the submission: who cancels it at this moment does not see what this transaction puts back into the queue.
    """
    submission = session.get_one(Submission, submission_id, with_for_update={"read": True})
    has_ended = submission.state not in OPEN_SUBMISSIONS
    if has_ended:
        cancel_queued_batches(session, submission_id)
    return has_ended


def store_results(
    database: Database, claim: Claim, images: Sequence[Classified], stamp: Stamp
) -> Mapping[str, KnownResult]:
    """Store what was computed, before the batch is closed: should the worker die, it need not be computed again.

    Returns what the database now holds for each content: an earlier writer wins.

    Raises:
        LeaseLost: nothing was written, because the batch is not this worker's any more.
        ValueError: a probability is none.
    """
    rows = {
        image.content_hash: {
            "content_hash": image.content_hash,
            "model_version": stamp.model_version,
            "probability": image.probability,
            "decision": stamp.rule.decide(image.probability),
            "engine": stamp.engine,
            "elapsed_ms": image.elapsed_ms,
            "created_at": utc_now(),
        }
        for image in images
    }
    with database.write() as session:
        # The lease first: on PostgreSQL this locks the row, so that nobody takes the batch while results go in.
        _require(execute_dml(session, _update_held(claim).values(heartbeats=col(Batch.heartbeats) + 1)), claim)
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        # In the order of the hashes, so that two workers with the same contents cannot lock each other out.
        ordered = [rows[content_hash] for content_hash in sorted(rows)]
        insert = dialect.insert(Result).on_conflict_do_nothing()
        inserted = session.execute(
            insert.returning(col(Result.content_hash), col(Result.id), col(Result.decision)), ordered
        )
        stored = {content_hash: KnownResult(result_id or 0, decision) for content_hash, result_id, decision in inserted}
        return stored | dict(look_up_results(session, rows.keys() - stored.keys(), stamp.model_version))


def close_batch(database: Database, claim: Claim, outcome: Outcome) -> None:
    """Write every outcome and close the batch, all or nothing.

    Raises:
        LeaseLost: nothing was written, because the batch is not this worker's any more.
    """
    start = time.perf_counter()
    rows = [_item_row(image) for image in outcome.images]
    counts = Counter(str(row["new_decision"] or row["new_state"]) for row in rows)
    with database.write() as session:
        _require(execute_dml(session, _update_held(claim).values(heartbeats=col(Batch.heartbeats) + 1)), claim)
        if rows:
            session.connection().execute(_ITEM_UPDATE, rows)
        write_ms = (time.perf_counter() - start) * 1000
        values = _closing_values(claim, outcome, counts, write_ms)
        _require(move(session, Batch, [BatchState.RUNNING], BatchState.DONE, *_held(claim), **values), claim)
        # What it waited for is there, so that waiting begins anew when it is away again.
        execute_dml(
            session,
            update(Submission)
            .where(col(Submission.id) == claim.submission_id, col(Submission.tries) > 0)
            .values(parked_at=None, tries=0),
        )


def _item_row(image: Classified | Rejected) -> dict[str, object]:
    if isinstance(image, Rejected):
        return {
            "item_id": image.item_id,
            "new_state": ItemState.FAILED.value,
            "new_reason": image.reason.value,
            "new_detail": image.detail,
            "new_decision": None,
            "new_hash": image.content_hash,
            "new_result": None,
        }
    if image.known is None:
        raise ValueError(f"the result of item {image.item_id} was not stored")
    return {
        "item_id": image.item_id,
        "new_state": ItemState.DONE.value,
        "new_reason": None,
        "new_detail": None,
        "new_decision": image.known.decision,
        "new_hash": image.content_hash,
        "new_result": image.known.id,
    }


def _closing_values(claim: Claim, outcome: Outcome, counts: Counter[str], write_ms: float) -> dict[str, object]:
    now = utc_now()
    return {
        "finished_at": now,
        "lease_token": None,
        "engine": outcome.engine,
        "benign": counts["benign"],
        "malignant": counts["malignant"],
        "uncertain": counts["uncertain"],
        "failed": col(Batch.failed) + counts[ItemState.FAILED.value],
        "read_ms": outcome.timings.read_ms,
        "decode_ms": outcome.timings.decode_ms,
        "resize_ms": outcome.timings.resize_ms,
        "wait_ms": outcome.timings.wait_ms,
        "copy_ms": outcome.timings.copy_ms,
        "infer_ms": outcome.timings.infer_ms,
        "write_ms": outcome.timings.write_ms + write_ms,
        "wall_ms": (now - claim.claimed_at).total_seconds() * 1000,
    }


def _may_start() -> ColumnElement[bool]:
    """Whether a batch's submission lives and its lane runs, as a condition on the batch."""
    lives = exists().where(col(Submission.id) == col(Batch.submission_id), col(Submission.state).in_(LIVE_SUBMISSIONS))
    is_paused = exists().where(col(LaneControl.lane) == col(Batch.lane), col(LaneControl.paused_at).is_not(None))
    return and_(lives, ~is_paused)


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """Conditions that no row meets unless the lease is still this worker's."""
    return col(Batch.id) == claim.batch_id, col(Batch.lease_token) == claim.token


def _update_held(claim: Claim) -> Update:
    return update(Batch).where(*_held(claim), col(Batch.state) == BatchState.RUNNING)


def _require(rows: int, claim: Claim) -> None:
    if rows != 1:
        raise LeaseLost(f"batch {claim.batch_id} is not this worker's any more")


def look_up_results(session: Session, hashes: Iterable[str], model_version: str) -> Mapping[str, KnownResult]:
    """Find what this model said of these contents before, by content hash."""
    wanted = sorted(set(hashes))
    if not wanted:
        return {}
    rows = session.exec(
        select(Result.content_hash, Result.id, Result.decision).where(
            col(Result.content_hash).in_(wanted), Result.model_version == model_version
        )
    )
    return {content_hash: KnownResult(result_id or 0, decision) for content_hash, result_id, decision in rows}
