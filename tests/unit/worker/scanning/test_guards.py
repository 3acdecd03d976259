"""Storage that shows too little deletes nothing: empty roots and folders, unreadable ones, too much that is missing."""

import io
import os
import shutil
import zipfile

import pytest

from core.archive_tables import Archive
from core.errors import Reason, StorageAway
from core.states import ItemState, ScanState, SubmissionState
from core.transitions import cancel_submission
from tests.assets import images
from tests.unit.worker.scanning.test_scan import counts
from worker.intake import take_in
from worker.scanning import scan as scanning
from worker.scanning.closing import close_ended_scans


@pytest.fixture
def night(house):
    """Eight files in two folders and below them, scanned once."""
    for number in range(4):
        house.write(f"case-0/{number}.png")
        house.write(f"case-1/deep/{number}.png")
    house.scan()
    return house


def empty(folder) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def assert_failed(house, scan, reason: str) -> None:
    """The scan says why it failed, and what it found missing counts as there."""
    assert (scan.state, scan.reason, scan.deleted) == (ScanState.FAILED, reason, 0)
    assert scan.detail
    assert scan.finished_at is not None
    assert len(house.files()) == 8


def test_an_empty_root_that_held_files_fails_the_scan(night):
    """An unmounted archive is not a deleted one."""
    empty(night.root)
    assert_failed(night, night.scan(), Reason.ROOT_EMPTY)
    assert counts(night.scan(accepts_missing=True)) == {"deleted": 8}
    assert night.files() == {}


def test_a_root_that_is_gone_fails_the_scan(night):
    """At once, because a scan that waits for days alarms nobody; also where missing files would be accepted."""
    shutil.rmtree(night.root)
    assert_failed(night, night.scan(accepts_missing=True), Reason.ROOT_EMPTY)


def test_a_root_that_never_was_there_says_so(house):
    """Nothing was lost: someone named a folder that is not there."""
    shutil.rmtree(house.root)
    scan = house.scan()
    assert (scan.state, scan.reason) == (ScanState.FAILED, Reason.FOLDER_MISSING)


def test_an_empty_archive_that_held_nothing_is_done(house):
    """A new archive may be empty."""
    scan = house.scan()
    assert (scan.state, counts(scan)) == (ScanState.DONE, {})


def test_an_empty_folder_that_held_files_withholds_them(night):
    """It may be the mount point of storage that is away; who knows better accepts it."""
    empty(night.root / "case-1")
    for _ in range(2):
        scan = night.scan()
        assert (scan.state, counts(scan)) == (ScanState.DONE, {"seen": 4, "unchanged": 4, "withheld": 4})
    assert len(night.files()) == 8
    assert counts(night.scan(accepts_missing=True)) == {"seen": 4, "unchanged": 4, "deleted": 4}
    assert len(night.files()) == 4


def test_a_folder_without_its_files_but_not_empty_has_lost_them(night):
    """What shows anything at all is mounted."""
    (night.root / "case-0/notes.txt").touch()
    for number in range(4):
        (night.root / f"case-0/{number}.png").unlink()
    assert counts(night.scan()) == {"seen": 4, "unchanged": 4, "deleted": 4}


@pytest.mark.parametrize("include", [[], ["*.png"]])
def test_a_zip_that_cannot_be_read_withholds_what_it_holds(night, include):
    """Its files are not gone because nobody can look into it now; also where no pattern takes the zip itself."""
    with night.context.database.write() as session:
        session.get_one(Archive, night.archive_id).include = include
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as stream:
        for number in range(2):
            stream.writestr(f"{number}.png", images.plain(100 + number))
    night.write("old.zip", packed.getvalue())
    assert night.scan().new == 2
    night.write("old.zip", b"\x1f\x8b compressed as a whole")
    scan = night.scan()
    assert (scan.withheld, scan.deleted) == (2, 0)
    assert night.scan(accepts_missing=True).deleted == 2


def test_too_many_missing_files_fail_the_scan(night, monkeypatch):
    """More than half, and more than a few: what was marked as deleted on the way is there again."""
    monkeypatch.setattr(scanning, "_FEW_MISSING", 3)
    shutil.rmtree(night.root / "case-1")
    (night.root / "case-0/0.png").unlink()
    night.write("case-0/new.png")
    scan = night.scan()
    assert (scan.state, scan.reason, scan.deleted) == (ScanState.FAILED, Reason.TOO_MANY_MISSING, 0)
    assert len(night.files()) == 9
    assert {item.reason for item in night.items(scan.id).values()} == {Reason.CANCELLED}
    again = night.scan(accepts_missing=True)
    assert counts(again) == {"seen": 4, "unchanged": 3, "changed": 1, "deleted": 5}


def test_half_of_the_files_may_be_missing(night, monkeypatch):
    """Half is not more than half."""
    monkeypatch.setattr(scanning, "_FEW_MISSING", 3)
    shutil.rmtree(night.root / "case-1")
    assert counts(night.scan()) == {"seen": 4, "unchanged": 4, "deleted": 4}


def test_a_cancelled_scan_deletes_nothing(night):
    """Only a scan that looked through everything may say that a file is gone."""
    night.write("new.png")
    (night.root / "case-0/0.png").unlink()
    scan_id = night.begin()
    submission_id = night.scan_of(scan_id).submission_id
    take_in(night.context, submission_id)
    assert (night.scan_of(scan_id).deleted, len(night.files())) == (1, 8)
    with night.context.database.write() as session:
        assert cancel_submission(session, submission_id)
    close_ended_scans(night.context)
    scan = night.scan_of(scan_id)
    assert (scan.state, scan.deleted, len(night.files())) == (ScanState.CANCELLED, 0, 9)
    assert counts(night.scan()) == {"seen": 8, "unchanged": 7, "changed": 1, "deleted": 1}


def test_links_that_lead_nowhere_or_in_circles_are_recorded_once(night):
    """They have a reason; the next scan does not record again what is as it was."""
    (night.root / "loop").symlink_to(night.root)
    (night.root / "case-0/broken.png").symlink_to(night.root / "nowhere.png")
    (night.root / "case-0/out.png").symlink_to("/etc/passwd")
    (night.root / "notes.txt").touch()
    scan = night.scan()
    assert counts(scan) == {"seen": 11, "unchanged": 8, "unreadable": 3}
    reasons = {path: item.reason for path, item in night.items(scan.id).items()}
    assert reasons["loop"] == Reason.FOLDER_LINK
    assert reasons["case-0/out.png"] == Reason.OUTSIDE_ROOT
    assert len(reasons) == 3
    again = night.scan()
    assert counts(again) == {"seen": 11, "unchanged": 8, "unreadable": 3}
    assert night.items(again.id) == {}
    (night.root / "case-0/broken.png").unlink()
    night.write("case-0/broken.png")
    assert counts(night.scan()) == {"seen": 11, "unchanged": 8, "changed": 1, "unreadable": 2}


def test_a_folder_that_may_not_be_read_loses_no_file(night, monkeypatch):
    """It is recorded with its reason, once; what it held is kept, and is unchanged when it can be read again."""
    from core.storage.judging import failed
    from core.storage.local import LocalStorage

    true = LocalStorage.list_folder

    def list_folder(self, path):
        if path == "case-1":
            return iter([failed("case-1/", Reason.PERMISSION_DENIED, "the folder cannot be listed")])
        return true(self, path)

    monkeypatch.setattr(LocalStorage, "list_folder", list_folder)
    for known in (False, True):
        scan = night.scan()
        assert counts(scan) == {"seen": 5, "unchanged": 4, "unreadable": 1, "withheld": 4}
        assert set(night.items(scan.id)) == (set() if known else {"case-1/"})
    monkeypatch.setattr(LocalStorage, "list_folder", true)
    assert counts(night.scan()) == {"seen": 8, "unchanged": 8}


def test_names_of_any_bytes_are_scanned(night):
    """A name that is no UTF-8 is compared and found again like any other."""
    folder = os.path.join(os.fsencode(night.root), b"f\xe4lle")
    os.mkdir(folder)
    os.rename(night.root / "case-0/0.png", os.path.join(folder, b"\xff\xfe.png"))
    assert counts(night.scan()) == {"seen": 8, "unchanged": 7, "new": 1, "deleted": 1, "moved": 1}
    assert counts(night.scan()) == {"seen": 8, "unchanged": 8}


def test_storage_that_goes_away_parks_the_scan(night, monkeypatch):
    """In the middle it is waited for, as for any submission; nothing is deleted."""
    from core.storage.local import LocalStorage
    from core.transitions import unpark_submission

    def away(_self, _path):
        raise StorageAway("stale")

    monkeypatch.setattr(LocalStorage, "list_folder", away)
    scan_id = night.begin()
    scan = night.work(scan_id)
    parked = night.submission_of(scan_id)
    assert (scan.state, parked.state, parked.reason) == (ScanState.RUNNING, "parked", Reason.STORAGE_AWAY)
    monkeypatch.undo()
    with night.context.database.write() as session:
        assert unpark_submission(session, parked.id)
    assert counts(night.work(scan_id)) == {"seen": 8, "unchanged": 8}


def test_what_failed_for_a_reason_that_may_pass_is_taken_again(night):
    """A file that vanished for a moment is looked at the next night although its time is the same."""
    night.write("new.png")
    scan_id = night.begin()
    take_in(night.context, night.scan_of(scan_id).submission_id)
    os.rename(night.root / "new.png", night.root.parent / "aside.png")
    night.work(scan_id)
    scan = night.work(scan_id)
    item = night.items(scan.id)["new.png"]
    assert (scan.state, item.state, item.reason) == (ScanState.DONE, ItemState.FAILED, Reason.VANISHED)
    assert night.submission_of(scan.id).state == SubmissionState.DONE
    os.rename(night.root.parent / "aside.png", night.root / "new.png")
    assert counts(night.scan()) == {"seen": 9, "unchanged": 8, "changed": 1}
