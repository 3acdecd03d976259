"""Reports of submissions and scans, for programs (JSON) and for people (one HTML file)."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from api.context import ContextDep, ReaderDep
from api.etags import tagged, tagged_bytes
from api.problems import Problem, not_found
from api.report_page import POLICY, PictureBook, render_scan_report, render_submission_report
from api.rights import needs
from api.serving import read_rules
from api.submissions import find_submission, is_id
from core.access import Scope
from core.archive_tables import Scan
from core.report import SubmissionReport, submission_report
from core.scan_report import ScanReport, scan_report

router = APIRouter(
    prefix="/v1", tags=["results"], responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)]
)

_HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}}}


@router.get("/submissions/{submission_id}/report.json", response_model=SubmissionReport)
def report_submission(submission_id: str, request: Request, context: ContextDep, reader: ReaderDep) -> Response:
    """Report on a submission: counts, malignant images with new ones first, uncertain ones, failures, patients."""
    rules = read_rules(context.settings)
    with context.database.read() as session:
        report = submission_report(session, find_submission(session, submission_id).id, rules)
    reader.sees("report", submission_id)
    return tagged(request, report, passing=("images_per_s",))


@router.get("/submissions/{submission_id}/report.html", response_class=HTMLResponse, responses=_HTML)
def show_submission_report(submission_id: str, request: Request, context: ContextDep, reader: ReaderDep) -> Response:
    """Show a submission's report: one file with its pictures inside, to be kept, sent or printed."""
    rules = read_rules(context.settings)
    with context.database.read() as session:
        report = submission_report(session, find_submission(session, submission_id).id, rules)
        book = PictureBook(session, report, context.thumbnails)
    reader.sees("report", submission_id)
    return _page(request, render_submission_report(report, book))


@router.get("/scans/{scan_id}/report.json", response_model=ScanReport)
def report_scan(scan_id: str, request: Request, context: ContextDep, reader: ReaderDep) -> Response:
    """Report on a scan: what its submission's report has, what the scan counted, and the scan before it."""
    rules = read_rules(context.settings)
    with context.database.read() as session:
        report = scan_report(session, _find_scan(session, scan_id), rules)
    reader.sees("report", report.submission.id)
    return tagged(request, report)


@router.get("/scans/{scan_id}/report.html", response_class=HTMLResponse, responses=_HTML)
def show_scan_report(scan_id: str, request: Request, context: ContextDep, reader: ReaderDep) -> Response:
    """Show a scan's report: one file with its pictures inside, to be kept, sent or printed."""
    rules = read_rules(context.settings)
    with context.database.read() as session:
        report = scan_report(session, _find_scan(session, scan_id), rules)
        book = PictureBook(session, report.submission, context.thumbnails)
    reader.sees("report", report.submission.id)
    return _page(request, render_scan_report(report, book))


def _find_scan(session: Session, scan_id: str) -> str:
    if not is_id(scan_id) or session.get(Scan, scan_id) is None:
        raise not_found("scan")
    return scan_id


def _page(request: Request, page: str) -> Response:
    policy = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
    return tagged_bytes(request, page.encode(), "text/html; charset=utf-8", policy)
