"""The report of a scan: its submission's, what the scan counted, and the scan before it beside it."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session

from core.archive_tables import Archive, Scan
from core.bundle import NOTICE, DecisionRule
from core.progress import count_images
from core.report import OutcomeCounts, SubmissionReport, submission_report
from core.scan_comparison import ChangedOutcomes, find_changed_outcomes
from core.states import ScanState


class ScanSummary(BaseModel):
    """A scan and what it counted (core.archive_tables.Scan says what each count means).

    Attributes:
        counts: images of its submission, so what was new, changed or unreadable, by outcome.
    """

    id: str
    archive: str
    state: ScanState
    reason: str | None
    detail: str | None
    asked_by: str
    started_at: datetime
    walked_at: datetime | None
    finished_at: datetime | None
    seen: int
    unchanged: int
    new: int
    changed: int
    moved: int
    duplicates: int
    settling: int
    unreadable: int
    deleted: int
    withheld: int
    counts: OutcomeCounts


class Comparison(BaseModel):
    """A scan beside the archive's last scan before it that was done.

    Attributes:
        new_positives: malignant images whose content had no result before.
        changed_outcomes: of files that changed, whose decision or reason is another than before.
    """

    previous: ScanSummary
    new_positives: int
    changed_outcomes: ChangedOutcomes


class ScanReport(BaseModel):
    """What came of a scan. comparison is null for an archive's first scan that was done."""

    notice: str = NOTICE
    scan: ScanSummary
    submission: SubmissionReport
    comparison: Comparison | None


def scan_report(session: Session, scan_id: str, rules: Mapping[str, DecisionRule] | None = None) -> ScanReport:
    """Report on a scan, also while it runs.

    Args:
        rules: as for a submission's report.

    Raises:
        NoResultFound: there is no such scan.
    """
    scan = session.get_one(Scan, scan_id)
    report = submission_report(session, scan.submission_id, rules)
    previous = session.get(Scan, scan.previous_id) if scan.previous_id else None
    comparison = None
    if previous is not None:
        comparison = Comparison(
            previous=_summarise(session, previous),
            new_positives=report.positives.new,
            changed_outcomes=find_changed_outcomes(session, scan),
        )
    return ScanReport(scan=_summarise(session, scan), submission=report, comparison=comparison)


def _summarise(session: Session, scan: Scan) -> ScanSummary:
    archive = session.get_one(Archive, scan.archive_id)
    counts = count_images(session, [scan.submission_id])[scan.submission_id]
    outcomes = OutcomeCounts(**vars(counts), pending=counts.pending)
    counted = {name: getattr(scan, name) for name in ScanSummary.model_fields if name not in ("archive", "counts")}
    return ScanSummary(archive=archive.name, counts=outcomes, **counted)
