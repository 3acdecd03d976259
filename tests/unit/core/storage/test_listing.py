"""Every file below a folder becomes one entry, whatever it is called and whatever it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import FolderError, Reason, StorageAway
from core.paths import path_to_text
from core.settings import PROJECT
from core.states import ItemState
from core.storage.local import LocalStorage
from core.storage.protocol import Entry
from core.storage.walking import walk
from tests.conftest import missing_part


def listed(folder: Path, *roots: Path) -> dict[str, Entry]:
    entries = list(walk(LocalStorage(os.fsencode(folder), roots or (folder,))))
    by_path = {entry.path: entry for entry in entries}
    assert len(by_path) == len(entries), "a file was listed twice"
    return by_path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def test_files_of_a_tree_are_listed_with_size_and_time(folder):
    """Paths are relative, and the name's ending decides nothing."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.png").write_bytes(b"12345")
    (folder / "no-ending").touch()
    os.utime(folder / "no-ending", ns=(7, 1_700_000_000_123_456_789))
    entries = listed(folder)
    assert set(entries) == {"a/b/x.png", "no-ending"}
    assert entries["a/b/x.png"].size == 5
    assert entries["no-ending"].mtime_ns == 1_700_000_000_123_456_789
    assert {entry.state for entry in entries.values()} == {ItemState.PENDING}


@pytest.mark.parametrize("name", [".DS_Store", "._tissue.png", "Thumbs.db", "desktop.ini", ".hidden"])
def test_what_systems_leave_is_skipped(folder, name):
    """Such files are shown as skipped, never as broken images."""
    (folder / name).write_bytes(b"x")
    assert (listed(folder)[name].state, listed(folder)[name].reason) == (ItemState.SKIPPED, Reason.SYSTEM_FILE)


@pytest.mark.parametrize("name", ["report.PDF", "labels.csv", "readme.txt", "export.json"])
def test_documents_beside_images_are_skipped(folder, name):
    """A folder of images with its spreadsheet is no folder with a broken image."""
    (folder / name).write_bytes(b"x")
    assert listed(folder)[name].reason == Reason.SIDECAR_FILE


def test_hidden_folders_are_skipped_whole(folder):
    """.snapshot and its like hold copies that nobody submitted."""
    (folder / ".snapshot").mkdir()
    (folder / ".snapshot" / "x.png").touch()
    assert {path: entry.reason for path, entry in listed(folder).items()} == {".snapshot": Reason.SYSTEM_FILE}


def test_links_to_files_below_the_roots_are_images(folder, tmp_path):
    """Archives are often trees of links; size and time are the target's."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").write_bytes(b"123")
    (folder / "x.png").symlink_to(tmp_path / "store" / "x")
    assert listed(folder, folder, tmp_path / "store")["x.png"] == Entry(
        "x.png", 3, (tmp_path / "store" / "x").stat().st_mtime_ns
    )


def test_links_that_lead_out_dangle_or_loop_are_outcomes(folder, tmp_path):
    """None is followed, each has its reason, and the neighbour is listed."""
    (folder.parent / "images-secret").write_bytes(b"x")
    (folder / "out.png").symlink_to("/etc/hostname")
    (folder / "prefix.png").symlink_to(folder.parent / "images-secret")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "up").symlink_to(folder)
    (folder / "fine.png").touch()
    reasons = {path: entry.reason for path, entry in listed(folder).items()}
    assert reasons["out.png"] == Reason.OUTSIDE_ROOT
    assert reasons["prefix.png"] == Reason.OUTSIDE_ROOT
    assert reasons["dangling.png"] == Reason.VANISHED
    assert reasons["loop.png"] in (Reason.READ_FAILED, Reason.OUTSIDE_ROOT)
    assert reasons["up"] == Reason.FOLDER_LINK
    assert reasons["fine.png"] is None


def test_pipes_and_sockets_are_no_files(folder):
    """Nothing is opened that could block."""
    os.mkfifo(folder / "pipe.png")
    assert (listed(folder)["pipe.png"].state, listed(folder)["pipe.png"].reason) == (
        ItemState.SKIPPED,
        Reason.NOT_A_FILE,
    )


@pytest.mark.parametrize("name", [b"two\nlines.png", b"\xe4\xff.png", "Gewebe ü \uf7e4.png".encode(), b"-rf", b"a\\b"])
def test_names_of_any_bytes_are_listed(folder, name):
    """Names with newlines or in another encoding are images like all others."""
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).touch()
    assert listed(folder)[path_to_text(name)].state == ItemState.PENDING


def test_deep_trees_are_walked(folder):
    """Depth costs no recursion."""
    deep = folder
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "x.png").touch()
    assert list(listed(folder)) == ["d/" * 300 + "x.png"]


def test_names_are_listed_while_the_tree_is_walked(folder):
    """The listing is a stream: the first entry comes before the last folder is read."""
    for number in range(50):
        (folder / str(number)).mkdir()
        (folder / str(number) / "x.png").touch()
    entries = walk(LocalStorage(os.fsencode(folder), (folder,)))
    next(entries)
    (folder / "0" / "x.png").unlink()
    (folder / "49" / "x.png").unlink()
    assert len(list(entries)) < 49


def test_what_is_no_folder_fails_the_submission(tmp_path):
    """A file took its place."""
    (tmp_path / "x").touch()
    with pytest.raises(FolderError) as caught:
        list(walk(LocalStorage(os.fsencode(tmp_path / "x"), (tmp_path,))))
    assert caught.value.reason == Reason.READ_FAILED


def test_a_folder_that_is_gone_is_its_storages_fault(tmp_path):
    """It was there when it was handed in."""
    with pytest.raises(StorageAway):
        list(walk(LocalStorage(os.fsencode(tmp_path / "x"), (tmp_path,))))


def test_storage_that_goes_away_in_the_middle_ends_the_listing(folder):
    """No folder is recorded as vanished because all of them are."""
    for number in range(50):
        (folder / str(number)).mkdir()
    entries = walk(LocalStorage(os.fsencode(folder), (folder,)))
    shutil.rmtree(folder)
    with pytest.raises(StorageAway):
        list(entries)


def test_unreadable_folders_and_files_are_outcomes(folder, tmp_path):
    """A folder without permission is one outcome, and its neighbours are listed. Run as a user whom it binds."""
    (folder / "closed").mkdir()
    (folder / "closed" / "x.png").touch()
    (folder / "open.png").touch()
    (folder / "closed").chmod(0)
    script = """
import json, os, sys
from pathlib import Path
from core.errors import FolderError
from core.storage.local import LocalStorage
from core.storage.walking import walk
if os.getuid() == 0:
    os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = {e.path: e.reason for e in walk(LocalStorage(b".", (Path(sys.argv[1]),)))}
try:
    list(walk(LocalStorage(b"closed", (Path(sys.argv[1]),))))
except FolderError as error:
    found["itself"] = error.reason
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT)},
    )
    (folder / "closed").chmod(0o755)
    if "Operation not permitted" in done.stderr:
        missing_part("a user whom permissions bind")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "closed/": "permission_denied",
        "open.png": None,
        "itself": "permission_denied",
    }
