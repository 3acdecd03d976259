"""An archive in a folder, and scans of it within the test's own process."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlmodel import col, select

from core.archive_tables import Archive, ArchiveFile, ArchiveFolder, Scan
from core.paths import path_to_text
from core.scans import begin_scan
from core.states import BatchState, SubmissionState
from core.tables import Item, Submission
from tests.assets import images
from tests.assets.rows import batches_of, submission_of
from tests.unit.worker.conftest import *  # noqa: F403 - the worker's parts
from worker.classify import classify_batch
from worker.context import WorkerContext
from worker.intake import take_in

LONG_AGO_S = 3600


class House:
    """An archive, and what a test asks of it."""

    def __init__(self, context: WorkerContext, root: Path, **definition: object) -> None:
        self.context = context
        self.root = root
        self._seed = 0
        with context.database.write() as session:
            archive = Archive(**({"name": "slides", "root": path_to_text(os.fsencode(root))} | definition))
            session.add(archive)
            session.flush()
            self.archive_id = archive.id

    def write(self, path: str, data: bytes | None = None, age_s: float = LONG_AGO_S) -> None:
        """Write a file, by default an image of its own, changed long ago."""
        self._seed += 1
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images.plain(self._seed) if data is None else data)
        moment = time.time() - age_s + self._seed / 1000
        os.utime(file, (moment, moment))

    def begin(self, asked_by: str = "me", **values: object) -> str:
        """Begin a scan; its id."""
        with self.context.database.write() as session:
            archive = session.get_one(Archive, self.archive_id)
            return begin_scan(session, archive, asked_by, **values).id

    def work(self, scan_id: str) -> Scan:
        """List and classify until nothing of a scan is left; the scan as it is then."""
        submission_id = self.scan_of(scan_id).submission_id
        take_in(self.context, submission_id)
        for batch in batches_of(self.context.database, submission_id):
            if batch.state == BatchState.QUEUED:
                classify_batch(self.context, batch.id)
        return self.scan_of(scan_id)

    def scan(self, **values: object) -> Scan:
        """Begin a scan and do all of it."""
        return self.work(self.begin(**values))

    def scan_of(self, scan_id: str) -> Scan:
        with self.context.database.read() as session:
            return session.get_one(Scan, scan_id)

    def submission_of(self, scan_id: str) -> Submission:
        return submission_of(self.context.database, self.scan_of(scan_id).submission_id)

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that is stored as there, by path."""
        with self.context.database.read() as session:
            rows = session.exec(
                select(ArchiveFolder.path, ArchiveFile)
                .join(ArchiveFile, col(ArchiveFile.folder_id) == col(ArchiveFolder.id))
                .where(ArchiveFile.archive_id == self.archive_id, col(ArchiveFile.deleted_at).is_(None))
            )
            return {f"{path}/{file.name}".lstrip("/"): (file.size, file.mtime_ns) for path, file in rows}

    def items(self, scan_id: str) -> dict[str, Item]:
        with self.context.database.read() as session:
            mine = Item.submission_id == self.scan_of(scan_id).submission_id
            return {item.path: item for item in session.exec(select(Item).where(mine))}

    def cancel_all(self) -> None:
        from core.transitions import cancel_submission

        with self.context.database.write() as session:
            for submission_id in session.exec(select(Submission.id).where(Submission.state != SubmissionState.DONE)):
                cancel_submission(session, submission_id)


@pytest.fixture
def open_house(context: WorkerContext, images_root: Path) -> Callable[..., House]:
    """Define an archive."""
    return lambda **definition: House(context, images_root, **definition)


@pytest.fixture
def house(open_house) -> House:
    """An archive with its default definition."""
    return open_house()
