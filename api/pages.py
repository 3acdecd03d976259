"""Pages for people: what waits and runs, and each submission with its images. Rendered here, no build step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from api.context import ContextDep, DatabaseDep
from api.items import ItemFilter, read_items
from api.problems import ApiError
from api.progress import OUTCOMES, measure_lanes, measure_rate
from api.routes.submissions import describe, find_submission, read_submissions
from api.schemas import CountsPublic
from api.serving import list_models
from core.bundle import NOTICE
from core.states import OPEN_SUBMISSIONS, ItemState
from core.tables import utc_now

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

_NEWEST = 12
_ROWS = 100
_LAST_ID = 2**63 - 1
# What the filter offers.
_SHOWN = {
    "all": ItemFilter(),
    "malignant": ItemFilter(decision="malignant"),
    "uncertain": ItemFilter(decision="uncertain"),
    "benign": ItemFilter(decision="benign"),
    "failed": ItemFilter(state=ItemState.FAILED),
    "skipped": ItemFilter(state=ItemState.SKIPPED),
    "pending": ItemFilter(state=ItemState.PENDING),
}


@dataclass(frozen=True)
class Segment:
    """A stretch of a progress bar: an outcome's share, in percent of the bar's width."""

    outcome: str
    start: float
    width: float


@router.get("/")
def overview(request: Request, context: ContextDep) -> HTMLResponse:
    """Show the lanes, the newest submissions, and the model that serves."""
    now = utc_now()
    with context.database.read() as session:
        lanes = measure_lanes(session, now)
        rate = measure_rate(session, now)
        page = read_submissions(session, state=None, lane=None, cursor=None, limit=_NEWEST)
    models = list_models(context.settings)
    return _render(
        request,
        "overview.html",
        lanes=lanes,
        images_per_s=rate,
        submissions=page.submissions,
        more=page.next_cursor is not None,
        model=models[0] if models and models[0].serves else None,
    )


@router.get("/submissions/{submission_id}")
def submission_page(
    *,
    submission_id: str,
    request: Request,
    database: DatabaseDep,
    show: Annotated[str, Query(max_length=20)] = "all",
    reason: Annotated[str, Query(max_length=100)] = "",
    cursor: Annotated[int, Query(ge=0, le=_LAST_ID)] = 0,
) -> HTMLResponse:
    """Show one submission, its progress, and its images page by page."""
    which = replace(_SHOWN.get(show, ItemFilter()), reason=reason.replace("\0", "") or None)
    try:
        with database.read() as session:
            submission = describe(session, find_submission(session, submission_id))
            rows = read_items(session, submission_id, which, cursor, _ROWS + 1)
    except ApiError as error:
        return _render(request, "problem.html", HTTPStatus(error.status), detail=error.detail)
    items = rows[:_ROWS]
    query = {"show": show, "reason": reason}
    return _render(
        request,
        "submission.html",
        submission=submission,
        is_open=submission.state in OPEN_SUBMISSIONS,
        items=items,
        filters=list(_SHOWN),
        show=show,
        reason=reason,
        is_first=cursor == 0,
        first_query=urlencode(query),
        next_query=urlencode({**query, "cursor": items[-1].id}) if len(rows) > _ROWS else None,
        export_query=urlencode({name: value for name, value in vars(which).items() if value is not None}),
    )


def split_bar(counts: CountsPublic) -> list[Segment]:
    """Cut a progress bar into its outcomes."""
    segments = []
    start = 0.0
    for outcome in OUTCOMES:
        width = 100 * getattr(counts, outcome) / counts.total if counts.total else 0.0
        if width:
            segments.append(Segment(outcome, round(start, 3), round(width, 3)))
        start += width
    return segments


def name_outcomes(counts: CountsPublic) -> str:
    """Say a progress bar in words, for those who do not see it."""
    parts = [f"{getattr(counts, outcome):,} {outcome}" for outcome in OUTCOMES if getattr(counts, outcome)]
    return f"{counts.total - counts.pending:,} of {counts.total:,} images: {', '.join(parts) or 'no outcome yet'}"


def say_duration(seconds: float | None) -> str:
    """Say seconds as people do, coarsely."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def say_moment(moment: datetime | None) -> str:
    """Say a moment in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "–"


def _make_templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(duration=say_duration, moment=say_moment, bar=split_bar, words=name_outcomes)
    templates.globals["notice"] = NOTICE
    templates.globals["outcomes"] = OUTCOMES
    return templates


_TEMPLATES = _make_templates()


def _render(request: Request, name: str, status: HTTPStatus = HTTPStatus.OK, /, **values: object) -> HTMLResponse:
    root: Mapping[str, str] = {"root": request.scope.get("root_path", "")}
    return HTMLResponse(_TEMPLATES.get_template(name).render({**values, **root}), status_code=status)
