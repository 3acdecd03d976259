"""The database's tables. The database is the truth; the broker only carries ids of batches and submissions."""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    or_,
    text,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from core.lanes import Lane
from core.states import BatchState, ItemState, SubmissionState


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database; SQLite alone would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC; refuse a datetime without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone may not be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Which batches wait for their turn, and which for a worker, as SQL: each kind has an index of its own.
UNSENT = "state = 'queued' AND sent_at IS NULL"
SENT = "state = 'queued' AND sent_at IS NOT NULL"
# Decisions that people look at.
TO_REVIEW = "decision IN ('malignant', 'uncertain')"
# SQLite counts only INTEGER primary keys up by itself.
BIG_KEY = BigInteger().with_variant(Integer, "sqlite")


def utc_now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC)


def has_come(moment: Any, longest: timedelta, ago: timedelta = timedelta()) -> ColumnElement[bool]:
    """Condition: a stored moment has come, or came so long ago, by this machine's clock.

    Clocks of machines differ, and jump. A moment that lies further ahead than any wait that is ever stored was written
    by a clock that is ahead of ours: it counts as come, because what is begun too early does no harm, and what waits
    for an hour that never passes does.

    Args:
        longest: the longest wait that is ever stored there, with room for clocks that nearly agree.
    """
    now = utc_now()
    return or_(moment <= now - ago, moment > now + longest)


def new_id() -> str:
    """Make an id of 32 hex digits that sorts by time of making (48 bits of milliseconds, 80 random bits)."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Submission(SQLModel, table=True):
    """A folder or an upload that someone wants classified.

    Attributes:
        source: "folder", "upload", or "archive" for what a scan found new or changed.
        folder: absolute path as text (core.paths); item paths are relative to it.
        submitter: who asked, as far as is known.
        idempotency_key, request_hash: the same key with the same request returns the same submission.
        reason, detail: why state is failed or parked, or why an accepted submission waits until retry_at.
        listed_at: when every image was known.
        parked_at: since when its storage is away, over all tries; None again when an image could be read.
        retry_at: not tried before; None means at once.
        tries: waits in a row, which get longer.
        lease_token: which worker lists the folder.
        heartbeats: goes up while that worker lives; who sees it stand still takes the lease away.
        model: name@version of the model that must classify it; None means whichever serves.
        anonymised_at: when retention took the names of its files away.
    """

    __table_args__ = (Index("ix_submission_open", "state", "lane"),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=32)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    state: SubmissionState = Field(default=SubmissionState.ACCEPTED, sa_type=Text)
    lane: Lane = Field(default=Lane.BULK, sa_type=Text)
    source: str = Field(sa_type=Text)
    folder: str = Field(sa_type=Text)
    submitter: str = Field(default="", sa_type=Text)
    idempotency_key: str | None = Field(default=None, sa_type=Text, unique=True)
    request_hash: str = Field(default="", sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    listed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    parked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    retry_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    tries: int = 0
    lease_token: str | None = Field(default=None, sa_type=Text)
    heartbeats: int = 0
    model: str | None = Field(default=None, sa_type=Text)
    anonymised_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Batch(SQLModel, table=True):
    """A unit of work: some items of one submission, held by at most one worker.

    Attributes:
        images: items that belong to it.
        attempts: times a worker claimed it; counted before the work starts. A hand-back takes its count back.
        expirations: leases that were taken away; each may mean a dead worker.
        suspect: was in the hands of a worker that died; from then on it is worked on alone.
        sent_at: when its id went to the broker; None means that it waits for its turn (the outbox).
        heartbeats: goes up while its worker lives; who sees it stand still takes the lease away.
        worker, engine: who classified it, with what.
        benign, malignant, uncertain, failed, skipped: outcomes, written in the transaction that closes the batch.
        read_ms, decode_ms, resize_ms, wait_ms, copy_ms, infer_ms, write_ms: time of each stage summed over images,
            or over calls of the engine from wait on; stages overlap.
        wall_ms: from claim to close.
    """

    __table_args__ = (
        Index("ix_batch_submission", "submission_id", "state"),
        Index("ix_batch_state_lane", "state", "lane", "created_at"),
        Index("ix_batch_finished", "finished_at"),
        # The outbox: small, and read for each message that is sent.
        Index(
            "ix_batch_unsent",
            "submission_id",
            "id",
            sqlite_where=text(UNSENT),
            postgresql_where=text(UNSENT),
        ),
        Index("ix_batch_sent", "lane", "sent_at", sqlite_where=text(SENT), postgresql_where=text(SENT)),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    submission_id: str = Field(foreign_key="submission.id", max_length=32)
    lane: Lane = Field(sa_type=Text)
    state: BatchState = Field(default=BatchState.QUEUED, sa_type=Text)
    images: int
    attempts: int = 0
    expirations: int = 0
    suspect: bool = False
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lease_token: str | None = Field(default=None, sa_type=Text)
    heartbeats: int = 0
    worker: str | None = Field(default=None, sa_type=Text)
    engine: str | None = Field(default=None, sa_type=Text)
    benign: int = 0
    malignant: int = 0
    uncertain: int = 0
    failed: int = 0
    skipped: int = 0
    read_ms: float = 0.0
    decode_ms: float = 0.0
    resize_ms: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    wait_ms: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    copy_ms: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    infer_ms: float = 0.0
    write_ms: float = 0.0
    wall_ms: float = 0.0


class Result(SQLModel, table=True):
    """What one model says of one image content. Unique: the same content is classified once a model.

    Attributes:
        content_hash: BLAKE3 of the file's bytes, 64 hex digits.
        model_version: name@version of the bundle.
        probability: of malignancy, in [0, 1].
        decision: benign, malignant or uncertain, by the bundle's rule at that time.
        engine: what computed it.
        elapsed_ms: reading, decoding and this image's share of inference.
    """

    __table_args__ = (
        UniqueConstraint("content_hash", "model_version", name="uq_result_content_model"),
        Index("ix_result_decision", "decision", "created_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    content_hash: str = Field(max_length=64)
    model_version: str = Field(sa_type=Text)
    probability: float
    decision: str = Field(sa_type=Text)
    engine: str = Field(sa_type=Text)
    elapsed_ms: float
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class Item(SQLModel, table=True):
    """One file of a submission and its outcome.

    Attributes:
        path: relative to the submission's folder, as text (core.paths).
        size, mtime_ns: when it was listed.
        decision: the result's decision again, so that filters by it need no join.
        reason, detail: why state is failed or skipped.
        patient, slide, magnification: by the manifest, or by the file's name (core.labels); None where neither says.
    """

    __table_args__ = (
        UniqueConstraint("submission_id", "path", name="uq_item_submission_path"),
        Index("ix_item_submission_id", "submission_id", "id"),
        Index("ix_item_submission_state", "submission_id", "state", "id"),
        Index("ix_item_submission_decision", "submission_id", "decision", "id"),
        Index("ix_item_batch", "batch_id"),
        # With the id, so that the newest image of a result is one step away, however many have it.
        Index("ix_item_result_id", "result_id", "id"),
        # Holds images without a result only, so that the others, nearly all, pay nothing for it.
        Index(
            "ix_item_reason",
            "submission_id",
            "reason",
            "id",
            sqlite_where=text("reason IS NOT NULL"),
            postgresql_where=text("reason IS NOT NULL"),
        ),
        Index(
            "ix_item_patient",
            "submission_id",
            "patient",
            "slide",
            sqlite_where=text("patient IS NOT NULL"),
            postgresql_where=text("patient IS NOT NULL"),
        ),
        # Over all submissions; nothing for images of which nobody knows whose they are.
        Index(
            "ix_item_any_patient",
            "patient",
            "id",
            sqlite_where=text("patient IS NOT NULL"),
            postgresql_where=text("patient IS NOT NULL"),
        ),
        Index(
            "ix_item_any_slide",
            "slide",
            "id",
            sqlite_where=text("slide IS NOT NULL"),
            postgresql_where=text("slide IS NOT NULL"),
        ),
        # What people must look at, newest first.
        Index("ix_item_to_review", "decision", "id", sqlite_where=text(TO_REVIEW), postgresql_where=text(TO_REVIEW)),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    submission_id: str = Field(foreign_key="submission.id", max_length=32)
    batch_id: int = Field(sa_column=Column(BIG_KEY, nullable=False))
    path: str = Field(sa_type=Text)
    size: int = Field(default=0, sa_type=BigInteger)
    mtime_ns: int = Field(default=0, sa_type=BigInteger)
    state: ItemState = Field(default=ItemState.PENDING, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    decision: str | None = Field(default=None, sa_type=Text)
    content_hash: str | None = Field(default=None, max_length=64)
    result_id: int | None = Field(default=None, sa_column=Column(BIG_KEY, nullable=True))
    patient: str | None = Field(default=None, sa_type=Text)
    slide: str | None = Field(default=None, sa_type=Text)
    magnification: str | None = Field(default=None, sa_type=Text)


class LaneControl(SQLModel, table=True):
    """One row a lane, made with the tables. Its row lock keeps two from giving out the lane's turns at once.

    Attributes:
        paused_at, paused_by: since when, and by whom, no batch of the lane is started; None means that it runs.
        virtual_time: what the submitter whose turn came last had been served before it (see Share).
    """

    __tablename__ = "lane_control"

    lane: Lane = Field(primary_key=True, sa_type=Text)
    paused_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    paused_by: str | None = Field(default=None, sa_type=Text)
    virtual_time: float = 0.0


class Share(SQLModel, table=True):
    """How much of a lane a submitter was served: images divided by the submitter's weight. Who has least is next."""

    lane: Lane = Field(primary_key=True, sa_type=Text)
    submitter: str = Field(primary_key=True, sa_type=Text)
    served: float = 0.0


class Audit(SQLModel, table=True):
    """Who did what, when: a chain in which each row's hash covers the row before. Rows are only ever added.

    core.audit adds and verifies them; the database refuses to change or delete one.

    Attributes:
        number: place in the chain, from 1, without gaps.
        action: such as "submission.create", "submission.cancel", "lane.pause".
        subject: id of what it was done to.
        detail: JSON object as text with what else matters, such as a model's version; never a patient's data.
        hash: SHA-256 in hex over the hash before and this row (core.audit).
    """

    __table_args__ = (
        Index("ix_audit_who", "who", "number"),
        Index("ix_audit_action", "action", "number"),
        Index("ix_audit_subject", "subject", "number"),
    )

    number: int = Field(sa_column=Column(BIG_KEY, primary_key=True, autoincrement=False))
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    who: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    subject: str = Field(sa_type=Text)
    detail: str = Field(default="{}", sa_type=Text)
    hash: str = Field(max_length=64)


class AuditChain(SQLModel, table=True):
    """The end of the audit's chain: one row, whose lock keeps writers in a line.

    Attributes:
        length: number of the last row; 0 for none.
        hash: its hash; 64 zeros for none.
    """

    __tablename__ = "audit_chain"

    id: int = Field(default=1, primary_key=True)
    length: int = Field(default=0, sa_type=BigInteger)
    hash: str = Field(default="0" * 64, max_length=64)
