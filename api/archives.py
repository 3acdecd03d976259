"""Reading archives and their scans into the wire format."""

import re
from collections.abc import Iterable

from pydantic import ValidationError
from sqlmodel import Session, col, func, select

from api.archive_schemas import ArchiveList, ArchivePublic, ScanPage, ScanPublic
from api.problems import not_found
from core.archive_definitions import NEWEST, ArchiveDefinition, definition_of, describe_faults, find_doubts
from core.archive_file import ArchiveFileError, read_archive_file
from core.archive_tables import Archive, Scan
from core.archives import find_archive, read_roots
from core.paths import readable
from core.schedule import is_open, window_of
from core.settings import Settings
from core.states import ScanState
from core.tables import Submission, utc_now

_ID = re.compile("[0-9a-f]{32}")
_NAME = re.compile("[a-z0-9_-]{1,63}")
_AS_STORED = (
    "name",
    "include",
    "exclude",
    "schedule",
    "time_zone",
    "lane",
    "name_pattern",
    "manifest",
    "settle_s",
    "webhook_url",
    "enabled",
    "defined_by",
    "next_at",
    "created_at",
)
_COUNTS = (
    "seen",
    "unchanged",
    "new",
    "changed",
    "settling",
    "unreadable",
    "deleted",
    "withheld",
    "moved",
    "duplicates",
)


def get_archive(session: Session, name: str) -> Archive:
    """Find an archive by its name.

    Raises:
        ApiError: there is none (404).
    """
    archive = find_archive(session, name) if _NAME.fullmatch(name) else None
    if archive is None:
        raise not_found("archive")
    return archive


def get_scan(session: Session, scan_id: str) -> Scan:
    """Find a scan by its id.

    Raises:
        ApiError: there is none (404).
    """
    scan = session.get(Scan, scan_id) if _ID.fullmatch(scan_id) else None
    if scan is None:
        raise not_found("scan")
    return scan


def read_archives(session: Session, settings: Settings, cursor: str, limit: int) -> ArchiveList:
    """Read one page of archives, by name."""
    query = select(Archive).where(col(Archive.name) > cursor).order_by(col(Archive.name)).limit(limit + 1)
    rows = session.exec(query).all()
    shown = rows[:limit]
    roots = read_roots(session)
    last = _last_scans(session, shown)
    return ArchiveList(
        archives=[_describe(archive, roots, last.get(archive.id)) for archive in shown],
        file_faults=_file_faults(settings),
        next_cursor=shown[-1].name if len(rows) > limit else None,
    )


def describe_archive(session: Session, archive: Archive) -> ArchivePublic:
    """Put an archive into the wire format."""
    last = _last_scans(session, [archive])
    return _describe(archive, read_roots(session), last.get(archive.id))


def read_scans(session: Session, archive: Archive, cursor: str | None, limit: int) -> ScanPage:
    """Read one page of an archive's scans, newest first: their ids sort by time."""
    query = select(Scan).where(col(Scan.archive_id) == archive.id).order_by(col(Scan.id).desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(col(Scan.id) < cursor)
    rows = session.exec(query).all()
    shown = rows[:limit]
    return ScanPage(scans=_describe_scans(session, shown), next_cursor=shown[-1].id if len(rows) > limit else None)


def describe_scan(session: Session, scan: Scan) -> ScanPublic:
    """Put a scan into the wire format."""
    (described,) = _describe_scans(session, [scan])
    return described


def _last_scans(session: Session, archives: Iterable[Archive]) -> dict[str, ScanPublic]:
    ids = [archive.id for archive in archives]
    newest = select(func.max(Scan.id)).where(col(Scan.archive_id).in_(ids)).group_by(col(Scan.archive_id))
    scans = session.exec(select(Scan).where(col(Scan.id).in_(newest))).all()
    described = _describe_scans(session, scans)
    return {scan.archive_id: public for scan, public in zip(scans, described, strict=True)}


def _describe_scans(session: Session, scans: Iterable[Scan]) -> list[ScanPublic]:
    scans = list(scans)
    archives = {scan.archive_id for scan in scans}
    names = dict(session.exec(select(Archive.id, Archive.name).where(col(Archive.id).in_(archives))).all())
    running = [scan.submission_id for scan in scans if scan.state == ScanState.RUNNING]
    waiting = {
        submission.id: submission
        for submission in session.exec(select(Submission).where(col(Submission.id).in_(running)))
        if submission.retry_at is not None
    }
    return [_describe_scan(scan, names[scan.archive_id], waiting.get(scan.submission_id)) for scan in scans]


def _describe_scan(scan: Scan, archive: str, waiting: Submission | None) -> ScanPublic:
    return ScanPublic(
        id=scan.id,
        archive=archive,
        submission_id=scan.submission_id,
        previous_id=scan.previous_id,
        state=scan.state,
        reason=waiting.reason if waiting else scan.reason,
        detail=waiting.detail if waiting else scan.detail,
        waits_until=waiting.retry_at if waiting else None,
        asked_by=scan.asked_by,
        accepts_missing=scan.accepts_missing,
        started_at=scan.started_at,
        walked_at=scan.walked_at,
        finished_at=scan.finished_at,
        **{name: getattr(scan, name) for name in _COUNTS},
    )


def _describe(archive: Archive, roots: dict[str, str], last_scan: ScanPublic | None) -> ArchivePublic:
    return ArchivePublic(
        **{name: getattr(archive, name) for name in _AS_STORED},
        root=readable(archive.root),
        window=f"{archive.window_start}-{archive.window_stop}" if archive.window_start else None,
        model=archive.model or NEWEST,
        window_open=_is_window_open(archive),
        last_scan=last_scan,
        doubts=_doubts(archive, roots),
    )


def _is_window_open(archive: Archive) -> bool:
    try:
        return is_open(window_of(archive), utc_now())
    except ValueError:
        # Its doubts say why.
        return False


def _doubts(archive: Archive, roots: dict[str, str]) -> list[str]:
    try:
        return find_doubts(ArchiveDefinition.model_validate(definition_of(archive)), roots)
    except ValidationError as error:
        # It was right when it was stored; a time zone, for instance, may have been abolished since.
        return describe_faults(error)


def _file_faults(settings: Settings) -> list[str]:
    if settings.archives_file is None:
        return []
    try:
        read_archive_file(settings.archives_file, settings)
    except ArchiveFileError as error:
        return error.faults
    return []
