"""The cache of thumbnails: bounded, the least used first, and never a reason to fail."""

import os
import time
from pathlib import Path

from core.thumbnails import ThumbnailCache

_PICTURE = b"x" * 1000


def _hash(number: int) -> str:
    return f"{number:064x}"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _grow_old(folder: Path, content_hash: str, hours: float) -> None:
    (path,) = folder.rglob(f"{content_hash}.jpg")
    moment = time.time() - hours * 3600
    os.utime(path, (moment, moment))


def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    """However many pictures are written, also by processes that were there before."""
    for start in (0, 1000):
        cache = ThumbnailCache(tmp_path, 50_000)
        for number in range(start, start + 200):
            cache.put(_hash(number), _PICTURE)
            assert _size(tmp_path) <= 50_000 + 50_000 / 16
    assert cache.get(_hash(1199)) == _PICTURE


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    """Reading a picture makes it young again."""
    cache = ThumbnailCache(tmp_path, 50_000)
    for number in range(40):
        cache.put(_hash(number), _PICTURE)
        _grow_old(tmp_path, _hash(number), 100 - number)
    assert cache.get(_hash(0)) == _PICTURE
    for number in range(100, 120):
        cache.put(_hash(number), _PICTURE)
    assert cache.get(_hash(0)) == _PICTURE
    assert cache.get(_hash(1)) is None


def test_what_killed_processes_left_goes_too(tmp_path: Path) -> None:
    """Half written files count, and are the first to go when they are old."""
    cache = ThumbnailCache(tmp_path, 20_000)
    cache.put(_hash(1), _PICTURE)
    left = next(tmp_path.rglob("*.jpg")).with_name(".left.part")
    left.write_bytes(b"x" * 19_000)
    os.utime(left, (1, 1))
    for number in range(2, 6):
        cache.put(_hash(number), _PICTURE)
    assert not left.exists()
    assert cache.get(_hash(5)) == _PICTURE


def test_pictures_of_deleted_images_are_forgotten(tmp_path: Path) -> None:
    """Retention deletes images; nothing of them may stay here."""
    cache = ThumbnailCache(tmp_path, 50_000)
    cache.put(_hash(1), _PICTURE)
    cache.forget([_hash(1), _hash(2)])
    assert cache.get(_hash(1)) is None


def test_a_disk_that_fails_and_a_bound_of_nothing_keep_no_picture(tmp_path: Path) -> None:
    """Neither is an error for who asked for the picture."""
    (tmp_path / "file").write_text("in the way")
    for cache in (ThumbnailCache(tmp_path / "file", 50_000), ThumbnailCache(tmp_path / "none", 0)):
        cache.put(_hash(1), _PICTURE)
        assert cache.get(_hash(1)) is None
