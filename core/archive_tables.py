"""Tables of archives: what is scanned every night, what each scan found, and whom to tell."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Column, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from core.lanes import Lane
from core.states import ScanState
from core.tables import BIG_KEY, UtcDateTime, new_id, utc_now

_IS_RUNNING = text("state = 'running'")
_IS_THERE = text("deleted_at IS NULL")
_IS_WAITING = text("ended_at IS NULL")


class Archive(SQLModel, table=True):
    """A root that is scanned again and again; only what is new or changed is classified.

    Attributes:
        name: unique, for people and addresses.
        root: absolute path as text (core.paths), or an address such as s3://bucket/prefix.
        include, exclude: glob patterns on paths relative to the root; an empty include means all files.
        schedule: cron expression of five fields, in time_zone; None means that people start its scans.
        time_zone: IANA name; the window's times are in it, too.
        window_start, window_stop: "HH:MM": nothing of a scan runs outside; None means always. May pass midnight.
        model: name@version that must classify it; None means whichever serves.
        name_pattern: how patient, slide and magnification are read from names (core.labels).
        manifest: file below the root that says them instead; "" for none.
        settle_s: files younger than this wait for the next scan: someone may still write them.
        webhook_url, webhook_secret: who is told of each report, and what signs it.
        enabled: whether its schedule counts.
        defined_by: "api", or "file" where the file of archives defines it, which alone may change it then.
        next_at: when its schedule begins the next scan.
    """

    id: str = Field(default_factory=new_id, primary_key=True, max_length=32)
    name: str = Field(sa_type=Text, unique=True)
    root: str = Field(sa_type=Text)
    include: list[str] = Field(default_factory=list, sa_type=JSON)
    exclude: list[str] = Field(default_factory=list, sa_type=JSON)
    schedule: str | None = Field(default=None, sa_type=Text)
    time_zone: str = Field(default="UTC", sa_type=Text)
    window_start: str | None = Field(default=None, sa_type=Text)
    window_stop: str | None = Field(default=None, sa_type=Text)
    lane: Lane = Field(default=Lane.NIGHTLY, sa_type=Text)
    model: str | None = Field(default=None, sa_type=Text)
    name_pattern: str = Field(default="breakhis", sa_type=Text)
    manifest: str = Field(default="manifest.csv", sa_type=Text)
    settle_s: float = 300.0
    webhook_url: str | None = Field(default=None, sa_type=Text)
    webhook_secret: str | None = Field(default=None, sa_type=Text)
    enabled: bool = True
    defined_by: str = Field(default="api", sa_type=Text)
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class Scan(SQLModel, table=True):
    """One look through an archive. What it found new or changed is the one submission that belongs to it.

    At most one scan of an archive runs at a time: a unique index says so.

    Attributes:
        submission_id: its submission (source "archive"), made in the same transaction.
        previous_id: the archive's last scan that was done, with which its report compares.
        asked_by: "schedule", or who asked; what people ask for does not wait for the window.
        accepts_missing: whether someone confirmed that missing files are deleted, however many.
        reason, detail: why state is failed.
        position: folder whose files were compared last, as text; the scan goes on behind it after an interruption.
        walked_at: when every folder had been compared.
        seen: files that were looked at, of all kinds below.
        unchanged, new, changed: against what the archive's last scan left.
        settling: too young, or changing while they were looked at; they wait for the next scan.
        unreadable: files and folders that cannot be looked at, links to folders, pipes and devices.
        deleted: files that are gone.
        withheld: files that seem gone, but whose folder was found empty or cannot be read: kept, the former until
            someone confirms.
        moved, duplicates: counted at the end: new paths whose content a deleted, or another, file had.
    """

    __table_args__ = (
        Index("ix_scan_archive", "archive_id", "id"),
        Index("uq_scan_running", "archive_id", unique=True, sqlite_where=_IS_RUNNING, postgresql_where=_IS_RUNNING),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=32)
    archive_id: str = Field(foreign_key="archive.id", max_length=32)
    submission_id: str = Field(foreign_key="submission.id", max_length=32, unique=True)
    previous_id: str | None = Field(default=None, max_length=32)
    asked_by: str = Field(sa_type=Text)
    accepts_missing: bool = False
    state: ScanState = Field(default=ScanState.RUNNING, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    started_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    walked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    position: str | None = Field(default=None, sa_type=Text)
    seen: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    settling: int = 0
    unreadable: int = 0
    deleted: int = 0
    withheld: int = 0
    moved: int = 0
    duplicates: int = 0


class ArchiveFolder(SQLModel, table=True):
    """A folder of an archive that holds, or held, files.

    Attributes:
        path: relative to the root as text; "" is the root itself.
        parent_id: None for the root.
    """

    __tablename__ = "archive_folder"
    __table_args__ = (
        UniqueConstraint("archive_id", "path", name="uq_archive_folder_path"),
        Index("ix_archive_folder_parent", "parent_id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    archive_id: str = Field(foreign_key="archive.id", max_length=32)
    path: str = Field(sa_type=Text)
    parent_id: int | None = Field(default=None, sa_column=Column(BIG_KEY, nullable=True))


class ArchiveFile(SQLModel, table=True):
    """A file of an archive as the last scan that saw it new or changed recorded it.

    A scan writes nothing for a file that is as it was.

    Attributes:
        name: the last part of its path, as text.
        size, mtime_ns: a size of -1 where the next scan shall take it for changed, because it failed for a reason that
            may pass; of -2 where it cannot be looked at, and the time is a number for the reason.
        item_id: what was recorded of it last: an image of some scan's submission, with its content and result.
            None where retention deleted that.
        deleted_at, deleted_by: since when it is gone, and which scan noticed.
    """

    __tablename__ = "archive_file"
    __table_args__ = (
        UniqueConstraint("folder_id", "name", name="uq_archive_file_name"),
        Index("ix_archive_file_item", "item_id"),
        Index("ix_archive_file_deleted", "deleted_by"),
        Index("ix_archive_file_there", "archive_id", "id", sqlite_where=_IS_THERE, postgresql_where=_IS_THERE),
    )

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    archive_id: str = Field(foreign_key="archive.id", max_length=32)
    folder_id: int = Field(sa_column=Column(BIG_KEY, nullable=False))
    name: str = Field(sa_type=Text)
    size: int = Field(sa_type=BigInteger)
    mtime_ns: int = Field(sa_type=BigInteger)
    item_id: int | None = Field(default=None, sa_column=Column(BIG_KEY, nullable=True))
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    deleted_by: str | None = Field(default=None, max_length=32)


class Delivery(SQLModel, table=True):
    """A report that a webhook is to be told; the outbox of webhooks.

    Attributes:
        scan_id: whose report; one delivery a scan.
        next_at: not sent before.
        attempts: times it was sent.
        status: HTTP status of the last answer; None where none came.
        delivered_at: when the other side took it.
        ended_at: when it was delivered or given up.
    """

    __table_args__ = (Index("ix_delivery_waiting", "next_at", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=32)
    scan_id: str = Field(foreign_key="scan.id", max_length=32, unique=True)
    url: str = Field(sa_type=Text)
    next_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    attempts: int = 0
    status: int | None = None
    delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
