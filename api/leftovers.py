"""Deleting what an API that was killed in the middle of uploads has left."""

import shutil
import time
from pathlib import Path

import structlog

from api.upload_folder import INCOMING

log = structlog.get_logger(__name__)

# What changed later than this may be an upload that another API on the same folder is still receiving.
_UNTOUCHED_S = 86400


def delete_leftovers(uploads: Path) -> None:
    """Delete the unfinished uploads in a folder that did not change for a day."""
    before = time.time() - _UNTOUCHED_S
    leftovers = [folder for folder in uploads.glob(f"{INCOMING}*") if _changed_at(folder) < before]
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    if leftovers:
        log.info("unfinished_uploads_deleted", number=len(leftovers))


def _changed_at(folder: Path) -> float:
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        # Something of it went away while we looked, so that somebody works there now.
        return time.time()
