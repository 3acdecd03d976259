"""A report as one HTML file that needs nothing else: style and small pictures are inside, and nothing is asked for."""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from api.problems import ApiError
from api.rendering import TEMPLATES
from api.thumbnails import Picture, Thumbnails
from core.report import SubmissionReport
from core.report_images import ReportImage
from core.scan_report import ScanReport
from core.tables import Item, Submission

# Of each of the two lists. A picture is 5 to 10 kB.
MOST_PICTURES = 24
# After this time pictures that would have to be made are left out: storage may be slow, or away.
_MAKING_S = 20.0

_STYLE = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8").strip()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# The same in the file itself, for who opens it from a disk.
POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Shown:
    """An image as the page shows it; uri is None where there is no picture, and why says why."""

    image: ReportImage
    uri: str | None
    why: str


class PictureBook:
    """The pictures of one report, by image; gives up making them where that takes too long."""

    def __init__(self, session: Session, report: SubmissionReport, thumbnails: Thumbnails) -> None:
        self._pictures = _find_pictures(session, report)
        self._thumbnails = thumbnails
        self._until = time.monotonic() + _MAKING_S
        self._why = "making pictures took too long"

    def illustrate(self, images: Sequence[ReportImage]) -> list[Shown]:
        """Put pictures to the first images of a list."""
        return [self._show(image) for image in images[:MOST_PICTURES]]

    def _show(self, image: ReportImage) -> Shown:
        picture = self._pictures.get(image.item_id)
        if picture is None:
            return Shown(image, None, "the image was deleted")
        data = self._thumbnails.find(picture)
        if data is None and time.monotonic() > self._until:
            return Shown(image, None, self._why)
        try:
            data = data or self._thumbnails.show(picture)
        except ApiError as error:
            if error.retry_after_s is not None:
                # The storage is away, or the API is busy: nothing else is tried.
                self._until, self._why = 0.0, error.detail
            return Shown(image, None, error.detail)
        return Shown(image, f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", "")


def render_submission_report(report: SubmissionReport, book: PictureBook) -> str:
    """Write a submission's report."""
    return _render(report, book, scan=None, comparison=None)


def render_scan_report(report: ScanReport, book: PictureBook) -> str:
    """Write a scan's report."""
    return _render(report.submission, book, scan=report.scan, comparison=report.comparison)


def _render(report: SubmissionReport, book: PictureBook, **values: Any) -> str:
    lists: Mapping[str, list[Shown]] = {
        "positives": book.illustrate(report.positives.shown),
        "uncertain": book.illustrate(report.uncertain.shown),
    }
    return TEMPLATES.get_template("report.html").render(
        report=report, pictures=lists, style=_STYLE, policy=POLICY, most_pictures=MOST_PICTURES, **values
    )


def _find_pictures(session: Session, report: SubmissionReport) -> dict[int, Picture]:
    submission = session.get_one(Submission, report.id)
    shown = [*report.positives.shown[:MOST_PICTURES], *report.uncertain.shown[:MOST_PICTURES]]
    rows = session.execute(
        select(col(Item.id), col(Item.path), col(Item.content_hash)).where(
            col(Item.id).in_([image.item_id for image in shown])
        )
    )
    return {
        row.id: Picture(
            folder=submission.folder, source=submission.source, path=row.path, content_hash=row.content_hash
        )
        for row in rows
        if row.content_hash is not None
    }
