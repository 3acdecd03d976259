"""Unfinished uploads of an API that was killed go, and nothing else does."""

import os
import time
from pathlib import Path

from api.leftovers import delete_leftovers

_OLD_S = 2 * 86400


def _make_upload(uploads: Path, name: str) -> Path:
    """A folder as an upload leaves it, last changed two days ago."""
    file = uploads / name / "content" / "sub" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    then = time.time() - _OLD_S
    for path in (file, *list(file.parents)[:3]):
        os.utime(path, (then, then))
    return uploads / name


def test_unfinished_upload_that_is_old_is_deleted(tmp_path: Path) -> None:
    """A day after its last change nobody is receiving it any more."""
    _make_upload(tmp_path, ".incoming-1")
    _make_upload(tmp_path, ".incoming-2")
    delete_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_upload_that_still_changes_stays(tmp_path: Path) -> None:
    """The newest change counts, however deep: another API may be receiving it."""
    upload = _make_upload(tmp_path, ".incoming-1")
    os.utime(upload / "content" / "sub" / "a.png")
    delete_leftovers(tmp_path)
    assert (upload / "content" / "sub" / "a.png").read_bytes() == b"1"


def test_finished_uploads_stay(tmp_path: Path) -> None:
    """However old they are: a submission owns each."""
    upload = _make_upload(tmp_path, "0123456789abcdef0123456789abcdef")
    delete_leftovers(tmp_path)
    assert (upload / "content" / "sub" / "a.png").exists()


def test_link_is_not_followed(tmp_path: Path) -> None:
    """What a link of that name points to is not ours."""
    outside = _make_upload(tmp_path, "outside")
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / ".incoming-1").symlink_to(outside)
    os.utime(uploads / ".incoming-1", (0, 0), follow_symlinks=False)
    delete_leftovers(uploads)
    assert (outside / "content" / "sub" / "a.png").exists()
