"""The files of uploads, which go when retention took their submission, or its names."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from sqlmodel import col, select

from core.database import Database
from core.tables import Submission

_ID = re.compile("[0-9a-f]{32}")
# A folder that changed later than this may belong to a submission that is being recorded.
_UNTOUCHED_S = 86400
_AT_ONCE = 500


def delete_upload(uploads: Path, submission_id: str) -> None:
    """Delete the files of one upload."""
    if _ID.fullmatch(submission_id):
        shutil.rmtree(uploads / submission_id, ignore_errors=True)


def delete_forgotten_uploads(database: Database, uploads: Path) -> int:
    """Delete the files of uploads whose submission is gone, or has no names any more; returns how many uploads.

    Whoever deletes a submission may not be able to write here, or may die before it comes to the files: so whoever can
    write here asks now and then.
    """
    deleted = 0
    for folders in _chunks(uploads):
        ids = [folder.name for folder in folders]
        with database.read() as session:
            rows = session.exec(select(Submission.id, Submission.anonymised_at).where(col(Submission.id).in_(ids)))
            is_anonymised = {submission_id: at is not None for submission_id, at in rows}
        for folder in folders:
            if is_anonymised.get(folder.name) or (folder.name not in is_anonymised and _is_untouched(folder)):
                shutil.rmtree(folder, ignore_errors=True)
                deleted += not folder.exists()
    return deleted


def _chunks(uploads: Path) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    for folder in uploads.glob("*"):
        if _ID.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            chunk.append(folder)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _is_untouched(folder: Path) -> bool:
    try:
        return folder.lstat().st_mtime < time.time() - _UNTOUCHED_S
    except OSError:
        return False
