"""A scan takes what is new or changed, and nothing else; what it found is counted and stored."""

import os
import time

import pytest
from sqlmodel import func, select

from core.errors import Reason
from core.states import ItemState, ScanState, SubmissionState
from core.tables import Result
from tests.assets.rows import assert_counters_are_exact

COUNTS = ("seen", "unchanged", "new", "changed", "settling", "unreadable", "deleted", "withheld", "moved", "duplicates")


def counts(scan) -> dict[str, int]:
    """The counters that are not zero."""
    return {name: getattr(scan, name) for name in COUNTS if getattr(scan, name)}


def results(house) -> int:
    with house.context.database.read() as session:
        return session.exec(select(func.count()).select_from(Result)).one()


@pytest.fixture
def night(house):
    """An archive of eleven files in four folders that was scanned once."""
    house.write("top.png")
    for number in range(10):
        house.write(f"case-{number % 3}/deep/{number}.png")
    house.scan()
    return house


def test_a_first_scan_takes_every_file(house):
    """Each file becomes an item and a result, and is stored as it was."""
    house.write("top.png")
    for number in range(10):
        house.write(f"case-{number % 3}/deep/{number}.png")
    scan = house.scan()
    assert (scan.state, counts(scan)) == (ScanState.DONE, {"seen": 11, "new": 11})
    assert {item.state for item in house.items(scan.id).values()} == {ItemState.DONE}
    assert house.files().keys() == house.items(scan.id).keys()
    assert results(house) == 11
    assert scan.walked_at <= scan.finished_at
    assert_counters_are_exact(house.context.database, scan.submission_id)


def test_nothing_changed_is_done_with_an_empty_submission(night):
    """No item, no row written, and no failure for being empty."""
    before = night.files()
    scan = night.scan()
    assert (scan.state, counts(scan)) == (ScanState.DONE, {"seen": 11, "unchanged": 11})
    assert night.submission_of(scan.id).state == SubmissionState.DONE
    assert (night.items(scan.id), night.files()) == ({}, before)
    assert scan.previous_id is not None


def test_only_what_differs_is_taken(night):
    """New, changed, deleted, moved and doubled files are each counted; only new contents are classified."""
    night.write("case-0/deep/new.png")
    night.write("case-1/deep/1.png")
    (night.root / "top.png").unlink()
    os.rename(night.root / "case-2/deep/2.png", night.root / "moved.png")
    night.write("case-1/double.png", (night.root / "case-0/deep/0.png").read_bytes())
    scan = night.scan()
    expected = {"seen": 12, "unchanged": 8, "new": 3, "changed": 1, "deleted": 2, "moved": 1, "duplicates": 1}
    assert counts(scan) == expected
    assert set(night.items(scan.id)) == {"case-0/deep/new.png", "case-1/deep/1.png", "moved.png", "case-1/double.png"}
    assert results(night) == 13, "a moved file and a double were classified again"
    assert counts(night.scan()) == {"seen": 12, "unchanged": 12}


def test_a_folder_that_is_gone_takes_all_below_it_along(night):
    """Its subtree counts as deleted once, and comes back as new."""
    os.rename(night.root / "case-0", night.root.parent / "aside")
    assert counts(night.scan()) == {"seen": 7, "unchanged": 7, "deleted": 4}
    assert counts(night.scan()) == {"seen": 7, "unchanged": 7}
    os.rename(night.root.parent / "aside", night.root / "case-0")
    assert counts(night.scan()) == {"seen": 11, "unchanged": 7, "new": 4}
    assert results(night) == 11


def test_young_files_wait_for_the_next_scan(night):
    """Someone may still write them; also where a clock is a little ahead. One far ahead says nothing."""
    night.write("young.png", age_s=1)
    night.write("ahead.png", age_s=-100)
    night.write("next-year.png", age_s=-86400 * 365)
    night.write("top.png", age_s=1)
    scan = night.scan()
    assert counts(scan) == {"seen": 14, "unchanged": 10, "settling": 3, "new": 1}
    assert set(night.items(scan.id)) == {"next-year.png"}
    for name in ("young.png", "ahead.png", "top.png"):
        os.utime(night.root / name, (time.time() - 1000, time.time() - 1000))
    assert counts(night.scan()) == {"seen": 14, "unchanged": 11, "new": 2, "changed": 1}


def test_a_file_that_changes_before_it_is_read_is_taken_by_the_next_scan(night):
    """The worker sees that it is not what was listed: no result of half a file."""
    from worker.classify import classify_batch
    from worker.intake import take_in

    night.write("new.png")
    scan_id = night.begin()
    take_in(night.context, night.scan_of(scan_id).submission_id)
    night.write("new.png", age_s=1000)
    with night.context.database.read() as session:
        from core.tables import Batch

        batch_id = session.exec(select(Batch.id).order_by(Batch.id.desc())).first()
    classify_batch(night.context, batch_id)
    assert night.items(scan_id)["new.png"].reason == Reason.STILL_CHANGING
    assert night.scan_of(scan_id).state == ScanState.DONE
    again = night.scan()
    assert counts(again) == {"seen": 12, "unchanged": 11, "changed": 1}
    assert night.items(again.id)["new.png"].state == ItemState.DONE
