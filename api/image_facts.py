"""What is known of one image: where it came from, who classified it, and what else is known of its content."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlmodel import Session, col

from api.items import item_fields, select_items
from api.review_schemas import ReviewPublic
from api.reviews import find_item, read_item_reviews
from api.schemas import ItemPublic
from core.archive_tables import Archive, Scan
from core.paths import readable
from core.tables import Batch, Item, Result, Submission

_MOST_PLACES = 10


@dataclass(frozen=True)
class Place:
    """Where an image with the same result lies as well."""

    submission_id: str
    item_id: int
    folder: str
    path: str


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of one image.

    Attributes:
        folder: of its submission, readable.
        modified_at: of the file when it was listed; None where nobody knows, or retention took it away.
        archive, scan_id: whose scan found it; None where it was handed in.
        worker: who had its batch in hand; finished_at: when that ended. None while nobody had.
        was_known: whether its content had been classified before its batch began.
        others: what other models say of the same content, newest first.
        places: the first few images elsewhere with the same result.
        reviews: of its result, newest first.
    """

    item: ItemPublic
    submission: Submission
    folder: str
    modified_at: datetime | None
    archive: str | None
    scan_id: str | None
    worker: str | None
    finished_at: datetime | None
    was_known: bool
    others: Sequence[Result]
    places: Sequence[Place]
    reviews: Sequence[ReviewPublic]


def read_facts(session: Session, submission_id: str, item_id: int) -> ImageFacts:
    """Read what is known of an image.

    Raises:
        ApiError: there is none (404).
    """
    item = find_item(session, submission_id, item_id)
    shown = ItemPublic(**item_fields(session.execute(select_items().where(col(Item.id) == item_id)).one()))
    submission = session.get_one(Submission, submission_id)
    batch = session.get(Batch, item.batch_id)
    scan = session.execute(
        select(col(Archive.name), col(Scan.id))
        .join(Scan, col(Scan.archive_id) == col(Archive.id))
        .where(col(Scan.submission_id) == submission_id)
    ).one_or_none()
    begun = batch.started_at if batch else None
    return ImageFacts(
        item=shown,
        submission=submission,
        folder=readable(submission.folder),
        modified_at=_moment(item.mtime_ns),
        archive=scan.name if scan else None,
        scan_id=scan.id if scan else None,
        worker=batch.worker if batch else None,
        finished_at=batch.finished_at if batch else None,
        was_known=bool(begun and shown.classified_at and shown.classified_at < begun),
        others=_read_others(session, item),
        places=_read_places(session, item),
        reviews=read_item_reviews(session, item),
    )


def _read_others(session: Session, item: Item) -> Sequence[Result]:
    if item.content_hash is None:
        return []
    same = (col(Result.content_hash) == item.content_hash, col(Result.id) != item.result_id)
    return session.scalars(select(Result).where(*same).order_by(col(Result.id).desc())).all()


def _read_places(session: Session, item: Item) -> list[Place]:
    if item.result_id is None:
        return []
    rows = session.execute(
        select(col(Item.submission_id), col(Item.id), col(Submission.folder), col(Item.path))
        .join(Submission, col(Submission.id) == col(Item.submission_id))
        .where(col(Item.result_id) == item.result_id, col(Item.id) != item.id)
        .limit(_MOST_PLACES)
    )
    return [Place(row.submission_id, row.id, readable(row.folder), readable(row.path)) for row in rows]


def _moment(mtime_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC) if mtime_ns > 0 else None
    except (OverflowError, ValueError, OSError):
        return None
