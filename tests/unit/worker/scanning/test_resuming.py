"""A scan that was interrupted, wherever, ends as if it had not been."""

import os

import pytest
from sqlmodel import select

from core.archive_tables import Scan
from core.errors import StorageAway
from core.states import ScanState, SubmissionState
from core.storage.local import LocalStorage
from core.tables import Submission
from core.transitions import unpark_submission
from tests.unit.worker.scanning.conftest import House
from tests.unit.worker.scanning.test_scan import counts
from worker.context import StopRequest
from worker.intake import take_in
from worker.scanning import scan as scanning

EACH_FOLDER = scanning.Pace(files=1, folders=1, position_s=0)
FOLDERS = 6  # that are listed when nothing interrupts


def fill(house) -> None:
    """Fourteen files in five folders below the root, one of them with more than a batch holds."""
    for number in range(6):
        house.write(f"b/{number}.png")
    for path in ("top.png", "a/1.png", "a/2.png", "a/x/1.png", "a/x/y/1.png", "a/x/y/2.png", "c/1.png", "c/2.png"):
        house.write(path)


def disturb(house) -> None:
    """Change, add, delete and move, in each folder."""
    for path in ("a/new.png", "b/0.png", "b/1.png", "b/7.png", "b/8.png", "b/9.png", "c/1.png", "top2.png"):
        house.write(path)
    (house.root / "a/2.png").unlink()
    os.rename(house.root / "a/x/y/1.png", house.root / "c/moved.png")


EXPECTED = {"seen": 18, "unchanged": 9, "new": 6, "changed": 3, "deleted": 2, "moved": 1}


class Unreliable:
    """Storage that goes away before one listing, and stays away until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
        true = LocalStorage.list_folder

        def list_folder(storage: LocalStorage, path: str):
            self.good -= 1
            if self.good < 0:
                raise StorageAway("away")
            return true(storage, path)

        self.good = good
        monkeypatch.setattr(LocalStorage, "list_folder", list_folder)

    def mend(self) -> None:
        self.good = 1000


@pytest.mark.parametrize("pace", [EACH_FOLDER, scanning.PACE], ids=["each-folder", "all-at-once"])
def test_wherever_it_is_interrupted_the_outcome_is_the_same(context, images_root, monkeypatch, pace):
    """Counts, files and items are those of a scan that nothing interrupted."""
    monkeypatch.setattr(scanning, "PACE", pace)
    monkeypatch.setattr("worker.scanning.walking._AHEAD", 1)
    houses = [House(context, images_root, name=f"a{number}") for number in range(1, FOLDERS)]
    fill(houses[0])
    for house in houses:
        house.scan()
    disturb(houses[0])
    outcomes = []
    for good, house in enumerate(houses, start=1):
        storage = Unreliable(monkeypatch, good)
        scan_id = house.begin()
        house.work(scan_id)
        parked = house.submission_of(scan_id)
        assert parked.state == SubmissionState.PARKED
        storage.mend()
        with context.database.write() as session:
            assert unpark_submission(session, parked.id)
        scan = house.work(scan_id)
        assert (scan.state, counts(scan)) == (ScanState.DONE, EXPECTED), f"interrupted after {good} folders"
        outcomes.append((house.files(), sorted(house.items(scan_id))))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_a_stop_hands_the_scan_on_behind_its_position(house, monkeypatch):
    """The next worker lists only what lies behind it, and the folders that lead there."""
    monkeypatch.setattr(scanning, "PACE", EACH_FOLDER)
    fill(house)
    listed: list[str] = []
    true = LocalStorage.list_folder
    monkeypatch.setattr(LocalStorage, "list_folder", lambda self, path: (listed.append(path), true(self, path))[1])
    scan_id = house.begin()
    submission_id = house.scan_of(scan_id).submission_id
    from dataclasses import replace

    class LaterStop(StopRequest):
        """A stop that comes at the fourth look."""

        looks = 0

        @property
        def is_asked(self) -> bool:
            self.looks += 1
            return self.looks > 3

    take_in(replace(house.context, stop=LaterStop()), submission_id)
    assert house.scan_of(scan_id).position == "a/x/y"
    assert house.submission_of(scan_id).state == SubmissionState.ACCEPTED
    listed.clear()
    scan = house.work(scan_id)
    assert sorted(listed) == ["", "a", "a/x", "a/x/y", "b", "c"]
    assert counts(scan) == {"seen": 14, "new": 14}


def test_two_that_begin_at_once_give_one_scan(house):
    """The second is told which runs."""
    from core.archives import ArchiveBusy

    first = house.begin()
    with pytest.raises(ArchiveBusy) as refusal:
        house.begin()
    assert refusal.value.scan_id == first
    with house.context.database.read() as session:
        assert len(session.exec(select(Scan)).all()) == 1
        assert len(session.exec(select(Submission)).all()) == 1


def test_a_write_that_is_repeated_counts_once(house):
    """A connection may break after the commit: the same transaction again changes nothing."""
    from core.labels import NO_LABELS
    from core.storage.protocol import Entry
    from worker.intake import _claim
    from worker.scanning.comparing import Counts, Difference, Found, Kind
    from worker.scanning.recording import Labelled, record_found, record_position

    scan_id = house.begin()
    submission = _claim(house.context, house.scan_of(scan_id).submission_id)
    found = Found("a", "1.png", Kind.NEW, Entry("a/1.png", 5, 6), 5, 6)
    difference = Difference(counts=Counts(seen=3, unchanged=3), position="a")
    for is_first in (True, False):
        with house.context.database.write() as session:
            assert record_found(session, submission, scan_id, [Labelled(found, NO_LABELS)]) is is_first
        with house.context.database.write() as session:
            record_position(session, submission, scan_id, None, difference)
    assert counts(house.scan_of(scan_id)) == {"seen": 4, "unchanged": 3, "new": 1}
    assert house.files() == {"a/1.png": (5, 6)}
