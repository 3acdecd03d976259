"""The promise of the nightly scan: of 5,000 files exactly the 100 new or changed contents are classified again."""

import os
import random
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import func, select

from core.archive_tables import Archive, Scan
from core.bundle import NOTICE
from core.database import Database
from core.paths import path_to_text
from core.queue import WorkQueue
from core.scan_report import scan_report
from core.scans import begin_scan
from core.settings import Settings
from core.states import BatchState, ItemState, ScanState
from core.tables import Batch, Item, Result
from tests.assets.programs import Program, stands_still, wait_until

FILES, FOLDERS = 5000, 50
CHANGED, ADDED, DELETED, MOVED = 50, 50, 20, 30
SIDE = 32
LONG_AGO_S = 3600


def write(path: Path, number: int) -> None:
    """Write a small image of its own content, changed an hour ago."""
    size = SIDE * SIDE * 3
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + size, 0, 0, 54, 40, SIDE, SIDE, 1, 24, 0, size, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + random.Random(number).randbytes(16) + b"\x7f" * (size - 16))
    moment = time.time() - LONG_AGO_S + number / 1000
    os.utime(path, (moment, moment))


def fill(root: Path) -> list[Path]:
    """Write the archive; its files."""
    paths = [root / f"case-{number % FOLDERS:02}/slide-{number}.bmp" for number in range(FILES)]
    for number, path in enumerate(paths):
        write(path, number)
    return paths


def disturb(root: Path, paths: list[Path]) -> None:
    """What happens in a hospital by day."""
    chosen = random.Random(1).sample(paths, CHANGED + DELETED + MOVED)
    for number, path in enumerate(chosen[:CHANGED]):
        write(path, FILES + number)
    for number in range(ADDED):
        write(root / f"case-new/slide-{number}.bmp", 2 * FILES + number)
    for path in chosen[CHANGED : CHANGED + DELETED]:
        path.unlink()
    for number, path in enumerate(chosen[CHANGED + DELETED :]):
        os.rename(path, root / f"case-{number % 10:02}/moved-{number}.bmp")


class Hospital:
    """One archive and the programs that scan it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.database = Database(settings.database)
        self.database.migrate()
        self.queue = WorkQueue(settings)
        self.started = 0
        self.worker = self.start("worker")
        self.beat = self.start("beat")
        with self.database.write() as session:
            root = path_to_text(os.fsencode(settings.roots[0]))
            archive = Archive(name="slides", root=root, name_pattern="none")
            session.add(archive)
            session.flush()
            self.archive_id = archive.id

    def start(self, name: str) -> Program:
        self.started += 1
        log = self.folder / f"{name}-{self.started}.log"
        return Program(name, self.settings, log, lease_s=1, reconcile_every_s=0.5)

    def begin(self) -> Scan:
        """Begin a scan as the API does."""
        with self.database.write() as session:
            scan = begin_scan(session, session.get_one(Archive, self.archive_id), "night")
        self.queue.send_intake(scan.submission_id)
        return scan

    def kill_worker(self, scan: Scan, when: Callable[[], bool], what: str) -> None:
        """Kill the worker in the middle of a scan, and start another."""
        wait_until(lambda: self._stop_if(lambda: when() and self.scan_of(scan.id).state == ScanState.RUNNING), what)
        self.worker.stop(signal.SIGKILL)
        assert self.scan_of(scan.id).state == ScanState.RUNNING
        self.worker = self.start("worker")

    def _stop_if(self, condition: Callable[[], bool]) -> bool:
        """Have the worker stand still, and go on unless a condition holds: what is seen then cannot pass meanwhile."""
        process = self.worker.process
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: stands_still(process.pid), "the worker stands still")
        if condition():
            return True
        process.send_signal(signal.SIGCONT)
        return False

    def wait_for_end(self, scan: Scan) -> Scan:
        wait_until(lambda: self.scan_of(scan.id).state != ScanState.RUNNING, "the scan has ended", 100)
        return self.scan_of(scan.id)

    def scan_of(self, scan_id: str) -> Scan:
        with self.database.read() as session:
            return session.get_one(Scan, scan_id)

    def has_batch_in_hand(self, scan: Scan) -> bool:
        return self.count(Batch, Batch.submission_id == scan.submission_id, Batch.state == BatchState.RUNNING) > 0

    def outcomes(self, scan: Scan) -> int:
        return self.count(Item, Item.submission_id == scan.submission_id, Item.state == ItemState.DONE)

    def count(self, table: type, *conditions: object) -> int:
        with self.database.read() as session:
            return session.exec(select(func.count()).select_from(table).where(*conditions)).one()

    def close(self) -> None:
        for program in (self.worker, self.beat):
            program.process.kill()
        self.queue.close()
        self.database.close()


@pytest.fixture
def hospital(settings: Settings, tmp_path: Path) -> Iterator[Hospital]:
    """Real programs on SQLite and a real broker."""
    opened = Hospital(settings.model_copy(update={"batch_size": 100, "worker_concurrency": 1}), tmp_path)
    yield opened
    opened.close()


@pytest.mark.timeout(180)
def test_a_night_classifies_what_is_new_or_changed(hospital, images_root):
    """5,000 files, then 50 changed, 50 added, 20 deleted, 30 moved: 100 contents are classified, not one more.

    The worker is killed while it lists and while it classifies, in the first scan and in the second.
    """
    paths = fill(images_root)
    first = hospital.begin()
    hospital.kill_worker(first, lambda: hospital.scan_of(first.id).seen > 0, "folders are compared")
    hospital.kill_worker(first, lambda: hospital.outcomes(first) >= 1000, "images are classified")
    first = hospital.wait_for_end(first)
    assert (first.state, first.seen, first.new, first.unchanged) == (ScanState.DONE, FILES, FILES, 0)
    assert hospital.count(Result) == FILES
    disturb(images_root, paths)
    second = hospital.begin()
    hospital.kill_worker(second, lambda: hospital.has_batch_in_hand(second), "images are classified again")
    second = hospital.wait_for_end(second)
    assert (second.state, second.previous_id) == (ScanState.DONE, first.id)
    assert (second.changed, second.new, second.deleted) == (CHANGED, ADDED + MOVED, DELETED + MOVED)
    assert (second.moved, second.duplicates) == (MOVED, 0)
    assert second.unchanged == FILES - CHANGED - DELETED - MOVED
    assert second.seen == second.unchanged + second.changed + second.new
    assert hospital.count(Result) == FILES + CHANGED + ADDED, "the wrong contents were classified"
    mine = Item.submission_id == second.submission_id
    assert hospital.count(Item, mine) == hospital.count(Item, mine, Item.state == ItemState.DONE) == 130
    assert_reported(hospital, second)
    assert hospital.worker.stop() == 0


def assert_reported(hospital: Hospital, scan: Scan) -> None:
    """The morning's report says what happened, beside the night before."""
    with hospital.database.read() as session:
        report = scan_report(session, scan.id)
    told = report.scan
    assert (told.changed, told.new, told.deleted, told.moved) == (CHANGED, ADDED + MOVED, DELETED + MOVED, MOVED)
    assert told.counts.total == CHANGED + ADDED + MOVED
    assert told.counts.failed == told.counts.pending == 0
    assert report.comparison.previous.seen == FILES
    assert NOTICE in report.model_dump_json()
