"""What needs review, and what was signed off."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import select
from sqlmodel import Session, col

from api.context import ContextDep, DatabaseDep, ReaderDep
from api.pages.page_route import make_router
from api.rendering import render
from api.reviews import make_filter, read_reviews, read_unreviewed
from api.schemas import ItemFound
from api.serving import read_rules
from core.archive_tables import Archive, Scan
from core.paths import readable
from core.tables import Submission
from core.unreviewed import Kind, UnreviewedFilter, count_unreviewed

router = make_router()

_IMAGES = 24
_REVIEWS = 50
_MOST_ARCHIVES = 200
_Cursor = Annotated[int | None, Query(ge=0, lt=2**63)]


@dataclass(frozen=True)
class Needed:
    """Which images are shown, as the address says it."""

    kind: Literal["", "malignant", "uncertain"] = ""
    archive: Annotated[str, Query(max_length=63, pattern=r"^[^\x00]*$")] = ""
    submission: Annotated[str, Query(max_length=32, pattern=r"^[^\x00]*$")] = ""
    patient: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = ""

    def find(self, session: Session) -> UnreviewedFilter:
        """The same as a filter."""
        kind: Kind | None = self.kind or None
        return make_filter(session, kind, self.submission, self.archive, self.patient)

    def write_query(self, **changes: object) -> str:
        """Write the query of an address that shows the same but for some changes."""
        return urlencode({name: value for name, value in {**vars(self), **changes}.items() if value not in ("", None)})


NeededDep = Annotated[Needed, Depends()]


@router.get("/reviews")
def reviews_page(
    request: Request, context: ContextDep, reader: ReaderDep, needed: NeededDep, cursor: _Cursor = None
) -> HTMLResponse:
    """Show the images whose result needs review, newest first."""
    with context.database.read() as session:
        which = needed.find(session)
        page = read_unreviewed(session, which, cursor, _IMAGES)
        amount = count_unreviewed(session, which)
        origins = _find_origins(session, page.items)
        names = session.scalars(select(col(Archive.name)).order_by(col(Archive.name)).limit(_MOST_ARCHIVES)).all()
    reader.sees("page", *(item.submission_id for item in page.items))
    return render(
        request,
        "reviews.html",
        items=page.items,
        amount=amount,
        origins=origins,
        archives=names,
        needed=needed,
        kinds={kind: needed.write_query(kind=kind) for kind in ("", "malignant", "uncertain")},
        rules=read_rules(context.settings),
        is_first=cursor is None,
        first_query=needed.write_query(),
        next_query=needed.write_query(cursor=page.next_cursor) if page.next_cursor else None,
    )


@router.get("/reviews/next")
def next_page(request: Request, database: DatabaseDep, needed: NeededDep, before: _Cursor = None) -> RedirectResponse:
    """Lead to the next older image that needs review, from the oldest to the newest, or back to the list."""
    with database.read() as session:
        which = needed.find(session)
        items = read_unreviewed(session, which, before, 1).items or read_unreviewed(session, which, None, 1).items
    if not items:
        return RedirectResponse(request.url_for("reviews_page").path, HTTPStatus.SEE_OTHER)
    item = items[0]
    address = request.url_for("image_page", submission_id=item.submission_id, item_id=item.id).path
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)


@router.get("/reviews/signed")
def signed_page(
    request: Request,
    database: DatabaseDep,
    reader: ReaderDep,
    submission: Annotated[str, Query(max_length=32, pattern=r"^[^\x00]*$")] = "",
    cursor: _Cursor = None,
) -> HTMLResponse:
    """Show what was signed off, newest first, with what a later review supersedes."""
    with database.read() as session:
        page = read_reviews(session, submission or None, cursor, _REVIEWS)
    reader.sees("page", *(review.submission_id for review in page.reviews))
    query = {"submission": submission} if submission else {}
    return render(
        request,
        "reviews_signed.html",
        reviews=page.reviews,
        is_first=cursor is None,
        first_query=urlencode(query),
        next_query=urlencode({**query, "cursor": page.next_cursor}) if page.next_cursor else None,
    )


def _find_origins(session: Session, items: list[ItemFound]) -> dict[str, tuple[str, str]]:
    """Where images come from, by submission: "archive" or "folder", and its name."""
    ids = {item.submission_id for item in items}
    rows = session.execute(
        select(col(Submission.id), col(Submission.folder), col(Submission.source), col(Archive.name))
        .outerjoin(Scan, col(Scan.submission_id) == col(Submission.id))
        .outerjoin(Archive, col(Archive.id) == col(Scan.archive_id))
        .where(col(Submission.id).in_(ids))
    )
    return {
        row.id: ("archive", row.name)
        if row.name
        else ("folder", "upload" if row.source == "upload" else readable(row.folder))
        for row in rows
    }
