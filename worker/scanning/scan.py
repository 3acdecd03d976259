"""Look through an archive: list its folders, compare them with what is stored, record what differs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from core.archive_tables import Archive, Scan
from core.database import execute_dml
from core.errors import FolderError, Reason, StorageAway
from core.labels import Labeller, open_labeller
from core.lanes import Lane
from core.states import SubmissionState
from core.storage.opening import open_storage
from core.storage.protocol import Storage
from core.tables import Submission, utc_now
from worker.context import WorkerContext
from worker.dispatch import top_up
from worker.holdings import Holding
from worker.listing_lease import hand_on_when_stopped, hold, insist, wait_for_room
from worker.scanning.comparing import Comparer, Difference, Found
from worker.scanning.known import Known, count_below, count_files, has_files, read_known, read_recorded
from worker.scanning.patterns import compile_patterns
from worker.scanning.recording import Labelled, record_found, record_position
from worker.scanning.walking import Listing, walk

log = structlog.get_logger()

# More missing files than this share, and than this number, are rather storage that shows too little than deleted. In
# few files a person sees at a glance what happened, and what counts as deleted by mistake comes back by itself.
_MOST_MISSING = 0.5
_FEW_MISSING = 100

_CONFIRM = ": is all storage mounted? Where they are deleted indeed, scan again and accept that they are missing"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much is done at once.

    Attributes:
        files: that are compared at once, in as many folders as hold them, or in one that holds more.
        folders: that are compared at once, however few files they hold.
        position_s: time between two notes of how far the scan came, which a repeat after an interruption goes on from.
    """

    files: int = 2000
    folders: int = 200
    position_s: float = 2.0


PACE = Pace()


@dataclass
class _Progress:
    """How far the scan came, and what is compared and not written yet."""

    position: str | None
    waiting: Difference = field(default_factory=Difference)
    noted_at: float = field(default_factory=time.monotonic)

    def add(self, difference: Difference) -> None:
        self.waiting.found += difference.found
        self.waiting.gone += difference.gone
        self.waiting.gone_folders += difference.gone_folders
        self.waiting.counts.add(difference.counts)
        self.waiting.position = difference.position

    def noted(self) -> None:
        self.position = self.waiting.position
        self.waiting = Difference()
        self.noted_at = time.monotonic()


def scan_archive(context: WorkerContext, submission: Submission, holding: Holding) -> int:
    """Do what is left of a submission's scan; how many files were looked at in all.

    Raises:
        FolderError: the archive cannot be scanned, or shows so little that rather its storage is not mounted.
        StorageAway: its storage went away meanwhile.
        ListingEnded, LeaseLost: another decides over the submission now.
    """
    with context.database.read() as session:
        scan = session.exec(select(Scan).where(Scan.submission_id == submission.id)).one()
        archive = session.get_one(Archive, scan.archive_id)
        recorded = read_recorded(session, submission.id, scan.position)
    storage = open_storage(submission.folder, context.settings, submission.source)
    with holding.waiting_for_storage():
        labeller = open_labeller(storage, archive.name_pattern, archive.manifest)
    return _Scanner(
        context=context,
        submission=submission,
        holding=holding,
        scan=scan,
        archive=archive,
        storage=storage,
        labeller=labeller,
        recorded=recorded,
        pace=PACE,
    ).run()


@dataclass(frozen=True, kw_only=True)
class _Scanner:
    """One worker's part in a scan.

    Attributes:
        recorded: paths that were recorded behind the scan's position before.
    """

    context: WorkerContext
    submission: Submission
    holding: Holding
    scan: Scan
    archive: Archive
    storage: Storage
    labeller: Labeller
    recorded: frozenset[str]
    pace: Pace

    def run(self) -> int:
        progress = _Progress(self.scan.position)
        comparer = Comparer(
            settle_s=self.archive.settle_s,
            accepts_missing=self.scan.accepts_missing,
            recorded=self.recorded,
            count_below=self._count_below,
        )
        size = self.context.settings.batch_size
        for group in self._gather(self._listings()):
            progress.add(comparer.compare(group, self._read_known(group)))
            while len(progress.waiting.found) >= size:
                self._record(progress, size)
            if time.monotonic() - progress.noted_at >= self.pace.position_s:
                self._note_position(progress)
            self.holding.progress()
            hand_on_when_stopped(self.context, self.submission)
        self._note_position(progress)
        return insist(self.context, self._end)

    def _listings(self) -> Iterator[Listing]:
        """The folders that are still to compare."""
        patterns = compile_patterns(self.archive.include, self.archive.exclude)
        walking = walk(self.storage, patterns, self.scan.position)
        try:
            with self.holding.waiting_for_storage():
                root = next(walking)
        except StorageAway as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise self._missing_root() from error
            raise
        if root.is_empty:
            self._refuse_empty()
        if self.scan.position is None:
            yield root
        while True:
            with self.holding.waiting_for_storage():
                listing = next(walking, None)
            if listing is None:
                return
            yield listing

    def _missing_root(self) -> FolderError:
        # Nobody may confirm this one: a root that is not there says nothing of its files.
        reason = Reason.ROOT_EMPTY if self._held_files() else Reason.FOLDER_MISSING
        return FolderError(reason, "the archive's root is not there: is its storage mounted on the worker?")

    def _refuse_empty(self) -> None:
        if not self.scan.accepts_missing and self._held_files():
            raise FolderError(Reason.ROOT_EMPTY, f"the archive's root lies there empty, and held files{_CONFIRM}")

    def _held_files(self) -> bool:
        with self.context.database.read() as session:
            return has_files(session, self.archive.id)

    def _gather(self, listings: Iterator[Listing]) -> Iterator[list[Listing]]:
        """Put folders together until they are worth a question."""
        group: list[Listing] = []
        files = 0
        for listing in listings:
            group.append(listing)
            files += len(listing.files)
            if files >= self.pace.files or len(group) >= self.pace.folders:
                yield group
                group, files = [], 0
        if group:
            yield group

    def _read_known(self, group: list[Listing]) -> Known:
        def work() -> Known:
            with self.context.database.read() as session:
                return read_known(session, self.archive.id, group)

        return insist(self.context, work)

    def _record(self, progress: _Progress, number: int) -> None:
        """Record the next files that were found, as one batch."""
        wait_for_room(self.context, self.submission)
        waiting = progress.waiting
        files = [self._label(found) for found in waiting.found[:number]]

        def work() -> None:
            with self.context.database.write() as session:
                record_found(session, self.submission, self.scan.id, files)

        insist(self.context, work)
        del waiting.found[:number]
        top_up(self.context, Lane(self.submission.lane))
        self.holding.progress()

    def _label(self, found: Found) -> Labelled:
        return Labelled(found, self.labeller.of(found.entry.path))

    def _note_position(self, progress: _Progress) -> None:
        """Write all that waits, and how far the scan came."""
        if progress.waiting.position is None:
            return
        if progress.waiting.found:
            self._record(progress, len(progress.waiting.found))

        def work() -> None:
            with self.context.database.write() as session:
                record_position(session, self.submission, self.scan.id, progress.position, progress.waiting)

        insist(self.context, work)
        progress.noted()

    def _count_below(self, folder_ids: Sequence[int]) -> tuple[int, int]:
        def work() -> tuple[int, int]:
            with self.context.database.read() as session:
                return count_below(session, folder_ids)

        return insist(self.context, work)

    def _end(self) -> int:
        """Say that the whole archive was looked through, unless too much of it seems gone."""
        with self.context.database.write() as session:
            scan = session.get_one(Scan, self.scan.id)
            self._refuse_missing(session, scan)
            now = utc_now()
            hold(session, self.submission, SubmissionState.RUNNING, lease_token=None, listed_at=now)
            execute_dml(session, update(Scan).where(col(Scan.id) == scan.id).values(walked_at=now))
            return scan.seen

    def _refuse_missing(self, session: Session, scan: Scan) -> None:
        if scan.accepts_missing or scan.deleted <= _FEW_MISSING:
            return
        known = count_files(session, scan.archive_id) - scan.new + scan.deleted
        if scan.deleted > _MOST_MISSING * known:
            raise FolderError(Reason.TOO_MANY_MISSING, f"{scan.deleted} of {known} files seem gone{_CONFIRM}")
