"""Claim a batch under a lease, extend the lease, hand the batch back, or close it with all its outcomes."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Table, Update, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from core.bundle import DecisionRule
from core.database import Database, execute_dml
from core.errors import LeaseLost
from core.lanes import Lane
from core.paths import text_to_path
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Result, Submission, utc_now
from core.transitions import cancel_queued_batches
from worker.pipeline import Classified, KnownResult, Rejected, Timings, WorkItem

_ITEM_TABLE: Table = Item.__table__  # type: ignore[attr-defined]
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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A batch that this worker holds until its lease runs out."""

    batch_id: int
    token: str
    claimed_at: datetime
    submission_id: str
    lane: Lane
    source: str
    folder: bytes
    items: Sequence[WorkItem]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that closes a batch."""

    images: Sequence[Classified | Rejected]
    timings: Timings
    engine: str
    model_version: str


def claim_batch(database: Database, batch_id: int, worker: str, lease_s: float) -> Claim | None:
    """Take a queued batch; None where another worker has it, or nothing is left to do.

    The attempt counts before the work starts, so that a batch that kills its worker is known by its count.
    """
    token = uuid4().hex
    now = utc_now()
    with database.write() as session:
        claimed = execute_dml(
            session,
            update(Batch)
            .where(col(Batch.id) == batch_id, col(Batch.state) == BatchState.QUEUED)
            .values(
                state=BatchState.RUNNING,
                attempts=col(Batch.attempts) + 1,
                lease_token=token,
                lease_expires_at=now + timedelta(seconds=lease_s),
                started_at=now,
                worker=worker,
            ),
        )
        if not claimed:
            return None
        batch, submission = session.exec(
            select(Batch, Submission).join(Submission).where(col(Batch.id) == batch_id)
        ).one()
        pending = select(Item.id, Item.path).where(Item.batch_id == batch_id, Item.state == ItemState.PENDING)
        return Claim(
            batch_id=batch_id,
            token=token,
            claimed_at=now,
            submission_id=submission.id,
            lane=Lane(batch.lane),
            source=submission.source,
            folder=text_to_path(submission.folder),
            items=[WorkItem(item_id or 0, path) for item_id, path in session.exec(pending)],
        )


def extend_lease(database: Database, claim: Claim, lease_s: float) -> None:
    """Say that the worker is alive.

    Raises:
        LeaseLost: the lease ran out and someone else decided over the batch.
    """
    with database.write() as session:
        _require(
            execute_dml(session, _held(claim).values(lease_expires_at=utc_now() + timedelta(seconds=lease_s))),
            claim,
        )


def hand_back(database: Database, claim: Claim) -> None:
    """Return an unfinished batch to the queue for no fault of its own; the attempt does not count.

    The caller or the reconciler sends it. A submission that was cancelled meanwhile takes the batch along. Does
    nothing where the lease is lost.
    """
    with database.write() as session:
        returned = execute_dml(
            session,
            _held(claim).values(
                state=BatchState.QUEUED,
                attempts=col(Batch.attempts) - 1,
                lease_token=None,
                lease_expires_at=None,
                sent_at=None,
            ),
        )
        submission = session.get_one(Submission, claim.submission_id)
        if returned and submission.state == SubmissionState.CANCELLED:
            cancel_queued_batches(session, claim.submission_id)


def give_up(database: Database, claim: Claim) -> None:
    """Let the lease run out now, with the attempt counted: the reconciler decides what becomes of the batch."""
    with database.write() as session:
        execute_dml(session, _held(claim).values(lease_expires_at=utc_now()))


def close_batch(database: Database, claim: Claim, outcome: Outcome, rule: DecisionRule) -> None:
    """Write every outcome and close the batch, all or nothing.

    Raises:
        LeaseLost: nothing was written, because the batch is not this worker's any more.
    """
    start = time.perf_counter()
    with database.write() as session:
        # The lease first: on PostgreSQL this locks the row, so that nobody takes the batch while outcomes go in.
        _require(execute_dml(session, _held(claim).values(lease_expires_at=None)), claim)
        results = _store_results(session, outcome, rule)
        rows = [_item_row(image, results) for image in outcome.images]
        if rows:
            session.connection().execute(_ITEM_UPDATE, rows)
        counts = Counter(str(row["new_decision"] or row["new_state"]) for row in rows)
        write_ms = (time.perf_counter() - start) * 1000
        execute_dml(session, _held(claim).values(**_closing_values(claim, outcome, counts, write_ms)))


def _store_results(session: Session, outcome: Outcome, rule: DecisionRule) -> dict[str, KnownResult]:
    """Insert what is new, and return what the database holds for every content: an earlier writer wins."""
    fresh: dict[str, dict[str, object]] = {}
    known: dict[str, KnownResult] = {}
    now = utc_now()
    for image in outcome.images:
        if isinstance(image, Rejected):
            continue
        if image.known is not None:
            known[image.content_hash] = image.known
        else:
            fresh[image.content_hash] = {
                "content_hash": image.content_hash,
                "model_version": outcome.model_version,
                "probability": image.probability,
                "decision": rule.decide(image.probability),
                "engine": outcome.engine,
                "elapsed_ms": image.elapsed_ms,
                "created_at": now,
            }
    if fresh:
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        # In the order of the hashes, so that two workers with the same contents cannot lock each other out.
        rows = [fresh[content_hash] for content_hash in sorted(fresh)]
        session.connection().execute(dialect.insert(Result).on_conflict_do_nothing(), rows)
    return known | dict(look_up_results(session, fresh, outcome.model_version))


def _item_row(image: Classified | Rejected, results: Mapping[str, KnownResult]) -> dict[str, object]:
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
    result = results[image.content_hash]
    return {
        "item_id": image.item_id,
        "new_state": ItemState.DONE.value,
        "new_reason": None,
        "new_detail": None,
        "new_decision": result.decision,
        "new_hash": image.content_hash,
        "new_result": result.id,
    }


def _closing_values(claim: Claim, outcome: Outcome, counts: Counter[str], write_ms: float) -> dict[str, object]:
    now = utc_now()
    return {
        "state": BatchState.DONE,
        "finished_at": now,
        "lease_token": None,
        "engine": outcome.engine,
        "benign": counts["benign"],
        "malignant": counts["malignant"],
        "uncertain": counts["uncertain"],
        "failed": col(Batch.failed) + counts[ItemState.FAILED.value],
        "read_ms": outcome.timings.read_ms,
        "decode_ms": outcome.timings.decode_ms,
        "infer_ms": outcome.timings.infer_ms,
        "write_ms": write_ms,
        "wall_ms": (now - claim.claimed_at).total_seconds() * 1000,
    }


def _held(claim: Claim) -> Update:
    """An UPDATE of the batch that changes nothing unless the lease is still this worker's."""
    return update(Batch).where(
        col(Batch.id) == claim.batch_id,
        col(Batch.lease_token) == claim.token,
        col(Batch.state) == BatchState.RUNNING,
    )


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
