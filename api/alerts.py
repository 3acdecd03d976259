"""What alerts are raised from: workers, storage that is away, scans, webhooks, the audit; each a handful of rows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlmodel import Session, col

from core.activation import read_active
from core.archive_tables import Archive, Delivery, Scan
from core.bundle import find_serving_folder, read_manifest
from core.errors import BundleError, Reason
from core.presence import PresentWorker
from core.schedule import next_fire
from core.settings import Settings
from core.states import ScanState, SubmissionState
from core.tables import AuditChain, Submission

log = structlog.get_logger(__name__)

PARKED_REASONS = (Reason.STORAGE_AWAY, Reason.OUTSIDE_WINDOW)
# What was given up longer ago is history.
_RECENT = timedelta(days=1)
# A scan that was cancelled says nothing of its archive.
_ENDED = (ScanState.DONE, ScanState.FAILED)


@dataclass(frozen=True)
class ArchiveWatch:
    """How an archive's scans go.

    Attributes:
        ended_at: when its last scan was done or failed; None where none was.
        has_failed: whether that one failed.
        overdue_s: seconds since its schedule should have begun a scan, while no scan begun since is done; else 0.
    """

    name: str
    ended_at: datetime | None
    has_failed: bool
    overdue_s: float


def count_serving(workers: Iterable[PresentWorker]) -> Counter[tuple[str, str]]:
    """Count the workers that serve, by engine and model."""
    return Counter((worker.engine, worker.model_version) for worker in workers if worker.is_serving)


def name_active_model(session: Session, settings: Settings) -> str | None:
    """Name the model that serves, as name@version; None where this machine has none."""
    active = read_active(session)
    if active is not None:
        return active.model_version
    try:
        return read_manifest(find_serving_folder(settings)).model_version
    except BundleError:
        # /ready says so, and workers that have no model, either.
        return None


def count_parked(session: Session) -> dict[str, int]:
    """Count submissions that are parked, by the reason for which they wait."""
    rows = session.execute(
        select(col(Submission.reason), func.count())
        .where(col(Submission.state) == SubmissionState.PARKED)
        .group_by(col(Submission.reason))
    )
    found: dict[str | None, int] = {row[0]: row[1] for row in rows}
    return {reason.value: found.get(reason, 0) for reason in PARKED_REASONS}


def watch_archives(session: Session, now: datetime) -> list[ArchiveWatch]:
    """Find out of each archive that is switched on how its last scan ended, and whether one should have been."""
    archives = session.scalars(select(Archive).where(col(Archive.enabled)).order_by(col(Archive.name))).all()
    ended = _newest(session, *_ENDED)
    done = _newest(session, ScanState.DONE)
    return [_watch(archive, ended.get(archive.id), done.get(archive.id), now) for archive in archives]


def count_given_up(session: Session, now: datetime) -> int:
    """Count the webhooks that were given up in the last day."""
    query = select(func.count()).where(col(Delivery.ended_at) >= now - _RECENT, col(Delivery.delivered_at).is_(None))
    return int(session.execute(query).scalar_one())


def audit_length(session: Session) -> int:
    """The number of rows in the audit, by the end of its chain."""
    return int(session.execute(select(col(AuditChain.length))).scalar() or 0)


def _watch(archive: Archive, ended: Scan | None, done: Scan | None, now: datetime) -> ArchiveWatch:
    since = done.started_at if done else archive.created_at
    return ArchiveWatch(
        name=archive.name,
        ended_at=ended.finished_at if ended else None,
        has_failed=ended is not None and ended.state == ScanState.FAILED,
        overdue_s=_overdue_s(archive, since, now),
    )


def _overdue_s(archive: Archive, since: datetime, now: datetime) -> float:
    if archive.schedule is None:
        return 0.0
    try:
        due = next_fire(archive.schedule, archive.time_zone, since)
    except ValueError:
        # Its doubts say why; a scrape must not fail over it.
        log.warning("archive_schedule_invalid", archive_id=archive.id)
        return 0.0
    return max(0.0, (now - due).total_seconds()) if due is not None else 0.0


def _newest(session: Session, *states: ScanState) -> dict[str, Scan]:
    """The newest scan in one of the states, by its archive's id."""
    newest = select(func.max(col(Scan.id))).where(col(Scan.state).in_(states)).group_by(col(Scan.archive_id))
    return {scan.archive_id: scan for scan in session.scalars(select(Scan).where(col(Scan.id).in_(newest)))}
