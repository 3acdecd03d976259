"""Thumbnails of images that retention deleted: without a result nobody may ask for them any more."""

import contextlib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sqlmodel import col, select

from core.database import Database
from core.tables import Result

_HASH = re.compile("[0-9a-f]{64}")
_AT_ONCE = 500


def delete_forgotten_pictures(database: Database, thumbnails: Path) -> int:
    """Delete the cached thumbnails of contents that have no result; returns how many.

    One that is deleted too much is made again when someone asks for it.
    """
    deleted = 0
    pictures = _pictures(thumbnails)
    while chunk := dict(islice(pictures, _AT_ONCE)):
        with database.read() as session:
            known = set(session.exec(select(Result.content_hash).where(col(Result.content_hash).in_(chunk.values()))))
        for path, content_hash in chunk.items():
            if content_hash not in known:
                with contextlib.suppress(OSError):
                    path.unlink()
                    deleted += 1
    return deleted


def _pictures(thumbnails: Path) -> Iterator[tuple[Path, str]]:
    for path in thumbnails.glob("*/*/*.jpg"):
        if _HASH.fullmatch(path.stem):
            yield path, path.stem
