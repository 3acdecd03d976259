"""Files of an archive that changed, and whose outcome changed with them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select, select
from sqlmodel import Session, col

from core.archive_tables import Scan
from core.index_walk import walk
from core.paths import readable
from core.progress import count_images
from core.tables import Item

_CHUNK = 1000
_MOST_SHOWN = 100
# How far back what a file was before is looked for. A file that changed less often is not compared, and counted so.
_MOST_SCANS = 30


class ChangedOutcome(BaseModel):
    """A file whose content changed, and with it what came of it: a decision, or a reason."""

    item_id: int
    path: str
    before: str
    now: str


class ChangedOutcomes(BaseModel):
    """Files whose outcome changed.

    Attributes:
        total: of which shown holds some, files that became malignant first.
        by_kind: how many went from what to what, as "benign → malignant".
        not_compared: changed files whose outcome before was not found in the last 30 scans.
    """

    total: int
    by_kind: dict[str, int]
    shown: list[ChangedOutcome]
    not_compared: int


def find_changed_outcomes(session: Session, scan: Scan) -> ChangedOutcomes:
    """Compare the outcomes of a scan's changed files with those that they had before.

    What a file was before is in the submission of an earlier scan under the same path. The smaller of two submissions
    is read and looked up in the other, so that a first scan of a million files costs a later one nothing.
    """
    compared: set[int] = set()
    kinds: Counter[str] = Counter()
    shown: list[ChangedOutcome] = []
    for earlier in _earlier_submissions(session, scan) if scan.changed else ():
        for item_id, path, before, now in _shared(session, scan.submission_id, earlier):
            if item_id in compared:
                continue
            compared.add(item_id)
            if now not in (before, "pending"):
                kinds[f"{before} → {now}"] += 1
                shown.append(ChangedOutcome(item_id=item_id, path=readable(path), before=before, now=now))
                shown = shown if len(shown) < _CHUNK else _first(shown)
        if len(compared) >= scan.changed:
            break
    missing = max(0, scan.changed - len(compared))
    return ChangedOutcomes(
        total=kinds.total(), by_kind=dict(kinds.most_common()), shown=_first(shown), not_compared=missing
    )


def _first(changes: list[ChangedOutcome]) -> list[ChangedOutcome]:
    return sorted(changes, key=lambda change: (change.now != "malignant", change.path))[:_MOST_SHOWN]


def _earlier_submissions(session: Session, scan: Scan) -> list[str]:
    """Submissions of the archive's scans before this one, newest first; what failed may have classified some, too."""
    query = select(col(Scan.submission_id)).where(col(Scan.archive_id) == scan.archive_id, col(Scan.id) < scan.id)
    return list(session.scalars(query.order_by(col(Scan.id).desc()).limit(_MOST_SCANS)))


def _shared(session: Session, mine: str, other: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield the images whose path both submissions have: id of mine, path, outcome in the other and in mine."""
    counts = count_images(session, [mine, other])
    read, looked_up = (mine, other) if counts[mine].total <= counts[other].total else (other, mine)
    after = 0
    while True:
        rows = _outcomes(session, read, after)
        if not rows:
            return
        after = rows[-1][0]
        found = _find(session, looked_up, [path for _, path, _ in rows])
        for item_id, path, outcome in rows:
            if path in found:
                other_id, other_outcome = found[path]
                if read == mine:
                    yield item_id, path, other_outcome, outcome
                else:
                    yield other_id, path, outcome, other_outcome


def _outcomes(session: Session, submission_id: str, after: int) -> list[tuple[int, str, str]]:
    query = walk(_select_outcomes(), [(col(Item.submission_id), submission_id)], col(Item.id), above=after)
    rows = session.execute(query.limit(_CHUNK))
    return [(row.id, row.path, row.decision or row.reason or row.state) for row in rows]


def _find(session: Session, submission_id: str, paths: list[str]) -> dict[str, tuple[int, str]]:
    query = _select_outcomes().where(col(Item.submission_id) == submission_id, col(Item.path).in_(paths))
    return {row.path: (row.id, row.decision or row.reason or row.state) for row in session.execute(query)}


def _select_outcomes() -> Select[Any]:
    columns: list[Any] = [col(Item.id), col(Item.path), col(Item.decision), col(Item.reason), col(Item.state)]
    return select(*columns)
