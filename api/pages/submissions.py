"""A submission: how far it is, its images page by page, and its patients and slides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session, col, select

from api.context import ContextDep, DatabaseDep, ReaderDep
from api.cursors import cursor_of, key_of
from api.item_filter import ItemFilter
from api.items import read_items
from api.pages.page_route import make_router
from api.rendering import render
from api.serving import read_rules
from api.submissions import describe, find_submission, read_submissions
from core.archive_tables import Archive, Scan
from core.rollup import Extent, Grouping, read_rollups
from core.states import OPEN_SUBMISSIONS, ItemState
from core.tables import Item, utc_now

router = make_router()

_ROWS = 100
_GROUPS = 50
_SUBMISSIONS = 50
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
class Shown:
    """Which images a page shows, as its address says it; what means nothing means all."""

    show: Annotated[str, Query(max_length=20)] = "all"
    reason: Annotated[str, Query(max_length=100)] = ""
    patient: Annotated[str, Query(max_length=200)] = ""
    slide: Annotated[str, Query(max_length=200)] = ""
    pictures: bool = True

    def as_filter(self) -> ItemFilter:
        """The same as a filter."""
        texts = {name: getattr(self, name).replace("\0", "") or None for name in ("reason", "patient", "slide")}
        return replace(_SHOWN.get(self.show, ItemFilter()), **texts)

    def write_query(self, **changes: object) -> str:
        """Write the query of an address that shows the same but for some changes."""
        values = {**vars(self), **changes}
        plain = vars(Shown())
        return urlencode({name: str(value) for name, value in values.items() if value != plain.get(name)})


@router.get("/submissions")
def submissions_page(
    request: Request, database: DatabaseDep, cursor: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None
) -> HTMLResponse:
    """List submissions, newest first."""
    with database.read() as session:
        found = read_submissions(session, state=None, lane=None, cursor=cursor, limit=_SUBMISSIONS)
    return render(
        request,
        "submissions.html",
        submissions=found.submissions,
        next_cursor=found.next_cursor,
        is_first=cursor is None,
        now=utc_now(),
    )


@router.get("/submissions/{submission_id}")
def submission_page(
    *,
    submission_id: str,
    request: Request,
    context: ContextDep,
    reader: ReaderDep,
    shown: Annotated[Shown, Depends()],
    cursor: Annotated[int, Query(ge=0, le=_LAST_ID)] = 0,
) -> HTMLResponse:
    """Show one submission, its progress, and its images page by page, with their pictures unless they are not asked."""
    which = shown.as_filter()
    with context.database.read() as session:
        head = _read_head(session, submission_id)
        found = read_items(session, submission_id, which, cursor, _ROWS)
    reader.sees("page", submission_id)
    narrowed = {name: getattr(which, name) for name in ("reason", "patient", "slide") if getattr(which, name)}
    return render(
        request,
        "submission.html",
        **head,
        view="images",
        items=found.items,
        rules=read_rules(context.settings),
        filters={name: shown.write_query(show=name, reason="") for name in _SHOWN},
        shown=shown,
        narrowed={name: (value, shown.write_query(**{name: ""})) for name, value in narrowed.items()},
        is_first=cursor == 0,
        pictures_query=shown.write_query(pictures=not shown.pictures),
        first_query=shown.write_query(),
        next_query=shown.write_query(cursor=found.next_after) if found.next_after is not None else None,
        export_query=urlencode({name: value for name, value in vars(which).items() if value is not None}),
    )


@router.get("/submissions/{submission_id}/patients")
def patients_page(
    *,
    submission_id: str,
    request: Request,
    context: ContextDep,
    reader: ReaderDep,
    cursor: Annotated[str, Query(max_length=4000)] = "",
) -> HTMLResponse:
    """Show a submission's images taken together by patient."""
    page = _show_groups(request, context, submission_id, Grouping.PATIENT, cursor)
    reader.sees("page", submission_id)
    return page


@router.get("/submissions/{submission_id}/slides")
def slides_page(
    *,
    submission_id: str,
    request: Request,
    context: ContextDep,
    reader: ReaderDep,
    cursor: Annotated[str, Query(max_length=4000)] = "",
) -> HTMLResponse:
    """Show a submission's images taken together by slide."""
    page = _show_groups(request, context, submission_id, Grouping.SLIDE, cursor)
    reader.sees("page", submission_id)
    return page


def _show_groups(
    request: Request, context: ContextDep, submission_id: str, grouping: Grouping, cursor: str
) -> HTMLResponse:
    rules = read_rules(context.settings)
    with context.database.read() as session:
        head = _read_head(session, submission_id)
        after = key_of(cursor, grouping) if cursor else None
        # Where nobody's name is known, summing all images up as one group would tell little and take long.
        if _has_patients(session, submission_id):
            extent = Extent(submission_id=submission_id, grouping=grouping)
            groups, last = read_rollups(session, extent, rules, after, _GROUPS, with_rest=False)
        else:
            groups, last = [], None
    return render(
        request,
        "submission_groups.html",
        **head,
        view=f"{grouping}s",
        groups=groups,
        is_first=not cursor,
        next_query=None if last is None else urlencode({"cursor": cursor_of(last)}),
    )


def _read_head(session: Session, submission_id: str) -> Mapping[str, object]:
    """What every page of a submission shows above."""
    submission = describe(session, find_submission(session, submission_id))
    archive = (
        select(Archive.name, Scan.id)
        .join(Scan, col(Scan.archive_id) == col(Archive.id))
        .where(Scan.submission_id == submission_id)
    )
    return {
        "submission": submission,
        "is_open": submission.state in OPEN_SUBMISSIONS,
        "scan": session.exec(archive).one_or_none(),
    }


def _has_patients(session: Session, submission_id: str) -> bool:
    known = select(Item.id).where(Item.submission_id == submission_id, col(Item.patient).is_not(None)).limit(1)
    return session.exec(known).first() is not None
