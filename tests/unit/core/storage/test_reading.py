"""Reading a file that may have changed since it was listed: each mishap is an outcome, or the storage's."""

import os
import subprocess
import sys

import pytest
from blake3 import blake3

from core.errors import ImageRejected, Reason, StorageAway
from core.settings import PROJECT
from core.storage.local import LocalStorage
from core.storage.reading import Expected, hash_content, read_content
from tests.conftest import missing_part

_LIMIT = 64 * 2**20


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def read(folder, name, limit=_LIMIT):
    """What the two passes over a file yield: its hash, then the bytes that have it."""
    place = LocalStorage(os.fsencode(folder), (folder,)), name, limit
    content = hash_content(*place)
    assert content.data is None, "a near file is read again, not kept"
    return content.content_hash, read_content(*place, content.content_hash)


def reason_of(folder, name, limit=_LIMIT) -> Reason:
    with pytest.raises(ImageRejected) as caught:
        read(folder, name, limit)
    return caught.value.reason


def test_a_file_is_hashed_and_read(folder):
    """BLAKE3 over all bytes, and all bytes."""
    (folder / "x").write_bytes(b"content")
    assert read(folder, "x") == (blake3(b"content").hexdigest(), b"content")


def test_an_empty_file_is_content(folder):
    """That it is no image is for the decoder to say."""
    (folder / "x").touch()
    assert read(folder, "x")[1] == b""


def test_a_large_file_is_read_in_pieces(folder):
    """Files above the size of one piece lose nothing."""
    data = bytes(range(256)) * 12_000 + b"!"
    (folder / "x").write_bytes(data)
    assert read(folder, "x") == (blake3(data).hexdigest(), data)


def test_a_file_that_changed_in_between_is_refused(folder):
    """A result belongs to the bytes that were classified."""
    (folder / "x").write_bytes(b"a" * 5000)
    content_hash, _ = read(folder, "x")
    (folder / "x").write_bytes(b"b" * 5000)
    with pytest.raises(ImageRejected, match="changed while it was read"):
        read_content(LocalStorage(os.fsencode(folder), (folder,)), "x", _LIMIT, content_hash)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_changed_since_it_was_listed_waits(folder, change):
    """A scan records what it listed; what is still being written waits for the next one."""
    (folder / "x").write_bytes(b"12345")
    status = (folder / "x").stat()
    storage, listed = LocalStorage(os.fsencode(folder), (folder,)), Expected(status.st_size, status.st_mtime_ns)
    assert hash_content(storage, "x", _LIMIT, listed).content_hash == blake3(b"12345").hexdigest()
    if change == "size":
        (folder / "x").write_bytes(b"123456")
        os.utime(folder / "x", ns=(0, status.st_mtime_ns))
    else:
        os.utime(folder / "x", ns=(0, status.st_mtime_ns + 1))
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage, "x", _LIMIT, listed)
    assert caught.value.reason == Reason.STILL_CHANGING
    assert hash_content(storage, "x", _LIMIT)


def test_a_vanished_file_is_an_outcome(folder):
    """Gone since it was listed; its folder is still there, and shows others."""
    (folder / "other").touch()
    assert reason_of(folder, "gone") == Reason.VANISHED
    assert reason_of(folder, "sub/gone") == Reason.VANISHED


def test_a_vanished_folder_is_the_storages_fault(folder):
    """When the storage is away, no image is recorded as failed. An empty folder may be its mount point."""
    with pytest.raises(StorageAway):
        read(folder, "x")
    folder.rmdir()
    with pytest.raises(StorageAway):
        read(folder, "x")


def test_too_many_bytes_are_refused_before_reading(folder):
    """The limit counts inclusively."""
    (folder / "x").write_bytes(b"12345")
    assert read(folder, "x", limit=5)[1] == b"12345"
    assert reason_of(folder, "x", limit=4) == Reason.TOO_MANY_BYTES


def test_a_pipe_that_took_a_files_name_does_not_block(folder):
    """It is an outcome within a moment, not a worker that waits for ever."""
    os.mkfifo(folder / "x")
    assert reason_of(folder, "x") == Reason.NOT_A_FILE


def test_a_folder_that_took_a_files_name_is_an_outcome(folder):
    """Whatever stands there now is no file."""
    (folder / "x").mkdir()
    assert reason_of(folder, "x") == Reason.NOT_A_FILE


def test_a_link_that_leads_out_is_refused_at_reading_too(folder):
    """The link may have been moved since it was listed."""
    (folder / "x").symlink_to("/etc/hostname")
    (folder / "sub").symlink_to("/etc")
    assert reason_of(folder, "x") == Reason.OUTSIDE_ROOT
    assert reason_of(folder, "sub/hostname") == Reason.OUTSIDE_ROOT
    assert reason_of(folder, "../images-other") == Reason.OUTSIDE_ROOT


def test_a_loop_of_links_is_an_outcome(folder):
    """It is refused, not followed."""
    (folder / "x").symlink_to(folder / "x")
    assert reason_of(folder, "x") in (Reason.OUTSIDE_ROOT, Reason.READ_FAILED)


def test_a_name_that_is_too_long_is_an_outcome(folder):
    """What the file system refuses is recorded for this file alone."""
    assert reason_of(folder, "x" * 300) == Reason.READ_FAILED


def test_no_descriptor_stays_open(folder):
    """Ten thousand images must not run out of descriptors."""
    (folder / "x").write_bytes(b"1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read(folder, "x")
        reason_of(folder, "gone")
        reason_of(folder, "x", limit=0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_unreadable_file_is_an_outcome(folder):
    """No permission is told from gone. Run as a user whom permissions bind."""
    (folder / "x").write_bytes(b"1")
    (folder / "x").chmod(0)
    script = """
import os, sys
from pathlib import Path
from core.errors import ImageRejected
from core.storage.local import LocalStorage
from core.storage.reading import hash_content
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    hash_content(LocalStorage(b".", (Path(sys.argv[1]),)), "x", 100)
except ImageRejected as rejected:
    print(rejected.reason.value)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT)},
    )
    if "Operation not permitted" in done.stderr:
        missing_part("a user whom permissions bind")
    assert done.stdout.strip() == "permission_denied", done.stderr
