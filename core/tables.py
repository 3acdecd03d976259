"""The database's tables. The database is the truth; the broker only carries ids of batches and submissions."""

import secrets
import time
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Index, Integer, Text, UniqueConstraint, text
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


# SQLite counts only INTEGER primary keys up by itself.
_BIG = BigInteger().with_variant(Integer, "sqlite")


def utc_now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Make an id of 32 hex digits that sorts by time of making (48 bits of milliseconds, 80 random bits)."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Submission(SQLModel, table=True):
    """A folder or an upload that someone wants classified.

    Attributes:
        source: "folder" or "upload".
        folder: absolute path as text (core.paths); item paths are relative to it.
        submitter: who asked, as far as is known.
        idempotency_key, request_hash: the same key with the same request returns the same submission.
        reason, detail: why state is failed.
        lease_token, lease_expires_at: which worker lists the folder, and until when it is believed alive.
    """

    __table_args__ = (Index("ix_submission_open", "state", "lease_expires_at"),)

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
    lease_token: str | None = Field(default=None, sa_type=Text)
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Batch(SQLModel, table=True):
    """A unit of work: some items of one submission, held by at most one worker.

    Attributes:
        images: items that belong to it.
        attempts: times a worker claimed it; counted before the work starts. A hand-back takes its count back.
        expirations: leases that ran out; each may mean a dead worker.
        sent_at: when its id last went to the broker; None means never, and the reconciler sends it.
        worker, engine: who classified it, with what.
        benign, malignant, uncertain, failed, skipped: outcomes, written in the transaction that closes the batch.
        read_ms, decode_ms, infer_ms, write_ms: time of each stage summed over images; stages overlap.
        wall_ms: from claim to close.
    """

    __table_args__ = (
        Index("ix_batch_submission", "submission_id", "state"),
        Index("ix_batch_state_lease", "state", "lease_expires_at"),
        Index("ix_batch_state_lane", "state", "lane", "created_at"),
        Index("ix_batch_finished", "finished_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True, autoincrement=True))
    submission_id: str = Field(foreign_key="submission.id", max_length=32)
    lane: Lane = Field(sa_type=Text)
    state: BatchState = Field(default=BatchState.QUEUED, sa_type=Text)
    images: int
    attempts: int = 0
    expirations: int = 0
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lease_token: str | None = Field(default=None, sa_type=Text)
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    worker: str | None = Field(default=None, sa_type=Text)
    engine: str | None = Field(default=None, sa_type=Text)
    benign: int = 0
    malignant: int = 0
    uncertain: int = 0
    failed: int = 0
    skipped: int = 0
    read_ms: float = 0.0
    decode_ms: float = 0.0
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

    __table_args__ = (UniqueConstraint("content_hash", "model_version", name="uq_result_content_model"),)

    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True, autoincrement=True))
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
    """

    __table_args__ = (
        UniqueConstraint("submission_id", "path", name="uq_item_submission_path"),
        Index("ix_item_submission_id", "submission_id", "id"),
        Index("ix_item_submission_state", "submission_id", "state", "id"),
        Index("ix_item_submission_decision", "submission_id", "decision", "id"),
        Index("ix_item_batch", "batch_id"),
        # Holds images without a result only, so that the others, nearly all, pay nothing for it.
        Index(
            "ix_item_reason",
            "submission_id",
            "reason",
            "id",
            sqlite_where=text("reason IS NOT NULL"),
            postgresql_where=text("reason IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True, autoincrement=True))
    submission_id: str = Field(foreign_key="submission.id", max_length=32)
    batch_id: int = Field(sa_column=Column(_BIG, nullable=False))
    path: str = Field(sa_type=Text)
    size: int = Field(default=0, sa_type=BigInteger)
    mtime_ns: int = Field(default=0, sa_type=BigInteger)
    state: ItemState = Field(default=ItemState.PENDING, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    decision: str | None = Field(default=None, sa_type=Text)
    content_hash: str | None = Field(default=None, max_length=64)
    result_id: int | None = Field(default=None, sa_column=Column(_BIG, nullable=True, index=True))


class Audit(SQLModel, table=True):
    """Who did what, when. Rows are only ever added.

    Attributes:
        action: such as "submission.create", "submission.cancel".
        subject: id of what it was done to.
    """

    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True, autoincrement=True))
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    who: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    subject: str = Field(sa_type=Text)
