"""Which picture belongs to an image, and which model classified it."""

from sqlalchemy import select
from sqlmodel import Session, col

from api.problems import not_found
from api.submissions import find_submission
from api.thumbnails import Picture
from core.tables import Item, Result


def find_picture(session: Session, submission_id: str, item_id: int) -> Picture:
    """Find where an image lay, and what its content was.

    Raises:
        ApiError: there is no such image, or it was not read (404).
    """
    submission = find_submission(session, submission_id)
    row = session.execute(
        select(col(Item.path), col(Item.content_hash)).where(
            col(Item.id) == item_id, col(Item.submission_id) == submission_id
        )
    ).one_or_none()
    if row is None:
        raise not_found("image")
    if row.content_hash is None:
        raise not_found("picture: the image was not read")
    return Picture(folder=submission.folder, source=submission.source, path=row.path, content_hash=row.content_hash)


def find_model_version(session: Session, item_id: int) -> str:
    """Name the model that classified an image.

    Raises:
        ApiError: none did (404).
    """
    statement = select(col(Result.model_version)).join(Item, col(Item.result_id) == col(Result.id))
    found: str | None = session.execute(statement.where(col(Item.id) == item_id)).scalar_one_or_none()
    if found is None:
        raise not_found("result of the image")
    return found
