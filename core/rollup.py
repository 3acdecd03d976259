"""Patients and slides: what models said of their images, taken together.

The database sums; what is in memory is one page. A page of patients reads their images only, by an index.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, func, not_, select, tuple_
from sqlmodel import Session, col

from core.archive_tables import ArchiveFile
from core.bundle import Decision, DecisionRule
from core.database import Database
from core.tables import Item, Result

_CHUNK = 500
_DECISIONS: tuple[Decision, ...] = ("benign", "malignant", "uncertain")


class Grouping(StrEnum):
    """What images are taken together."""

    PATIENT = "patient"
    SLIDE = "slide"


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Which images are taken together, and by what: a submission's, or those of the files that an archive holds now."""

    grouping: Grouping = Grouping.PATIENT
    submission_id: str | None = None
    archive_id: str | None = None

    def restrict(self, query: Select[Any]) -> Select[Any]:
        """Restrict a query on Item to these images."""
        if self.archive_id is None:
            return query.where(col(Item.submission_id) == self.submission_id)
        return query.join(ArchiveFile, col(ArchiveFile.item_id) == col(Item.id)).where(*self._is_there())

    def restrict_named(self, query: Select[Any]) -> Select[Any]:
        """Restrict a query that goes through Item by name: a join would have SQLite begin with the archive's files."""
        if self.archive_id is None:
            return self.restrict(query)
        return query.where(exists().where(col(ArchiveFile.item_id) == col(Item.id), *self._is_there()))

    def _is_there(self) -> list[ColumnElement[bool]]:
        return [col(ArchiveFile.archive_id) == self.archive_id, col(ArchiveFile.deleted_at).is_(None)]


class Rollup(BaseModel):
    """Images of one patient, or of one slide, taken together.

    Attributes:
        patient: null for the group of all images that lack what is grouped by; it comes last.
        slide: null where patients are grouped.
        images: all; classified: those with a result.
        share_malignant: of the classified ones.
        decision: of the mean probability by the model's rule (threshold and abstain band), decided_by "rule". Where
            several models classified the images, or the model's bundle is not on this machine, the most frequent
            decision of the images, uncertain where two are as frequent: decided_by "majority".
        deviation: standard deviation of the images' probabilities.
        dissent: share of the classified images whose own decision is another than the group's.
        model_version: null where there is none, or more than one.
    """

    patient: str | None
    slide: str | None
    images: int
    classified: int
    benign: int
    malignant: int
    uncertain: int
    share_malignant: float | None
    mean_probability: float | None
    decision: Decision | None
    decided_by: Literal["rule", "majority"] | None
    deviation: float | None
    dissent: float | None
    model_version: str | None


Key = tuple[str, ...]


def read_rollups(
    session: Session,
    extent: Extent,
    rules: Mapping[str, DecisionRule],
    after: Key | None,
    limit: int,
    *,
    with_rest: bool = True,
) -> tuple[list[Rollup], Key | None]:
    """Read up to limit groups behind the key after, in the order of their names; and the key for the next page.

    The last page has the group without a name on top.

    Args:
        rules: of the models whose bundles are at hand, by name@version.
        with_rest: whether the group without a name is read, which takes long where it is large.
    """
    keys = _keys(extent.grouping)
    query = extent.restrict_named(_summed(keys)).where(*(key.is_not(None) for key in keys))
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    rows = session.execute(query.group_by(*keys).order_by(*keys).limit(limit + 1)).all()
    groups = [_roll_up(row, rules) for row in rows[:limit]]
    if len(rows) > limit:
        return groups, tuple(rows[limit - 1][: len(keys)])
    return groups + (_read_rest(session, extent, keys, rules) if with_rest else []), None


def iter_rollups(database: Database, extent: Extent, rules: Mapping[str, DecisionRule]) -> Iterator[Sequence[Rollup]]:
    """Yield all groups in chunks, each read in a transaction of its own."""
    after: Key | None = None
    while True:
        with database.read() as session:
            groups, after = read_rollups(session, extent, rules, after, _CHUNK)
        yield groups
        if after is None:
            return


def _keys(grouping: Grouping) -> list[ColumnElement[Any]]:
    columns: list[Any] = [col(Item.patient), col(Item.slide)]
    return columns[:1] if grouping == Grouping.PATIENT else columns


def _summed(keys: Sequence[ColumnElement[Any]]) -> Select[Any]:
    outcomes: list[Any] = [func.count(case((col(Item.decision) == name, 1))).label(name) for name in _DECISIONS]
    probability = col(Result.probability)
    return (
        select(
            *keys,
            *outcomes,
            func.count().label("images"),
            func.sum(probability).label("total"),
            func.sum(probability * probability).label("squares"),
            func.min(col(Result.model_version)).label("first_model"),
            func.max(col(Result.model_version)).label("last_model"),
        )
        .select_from(Item)
        .outerjoin(Result, col(Result.id) == col(Item.result_id))
    )


def _read_rest(
    session: Session, extent: Extent, keys: Sequence[ColumnElement[Any]], rules: Mapping[str, DecisionRule]
) -> list[Rollup]:
    """All images that lack what is grouped by, as one group; none where there are none."""
    is_known = [key.is_not(None) for key in keys]
    counted = extent.restrict(select(func.count()).select_from(Item))
    # Both counts come from indexes; reading the images to find that each has a patient would take a second.
    if session.execute(counted).scalar_one() == session.execute(counted.where(*is_known)).scalar_one():
        return []
    query = extent.restrict(_summed([])).where(not_(and_(*is_known)))
    return [_roll_up(session.execute(query).one(), rules)]


def _roll_up(row: Row[Any], rules: Mapping[str, DecisionRule]) -> Rollup:
    by_decision: dict[Decision, int] = {name: int(getattr(row, name)) for name in _DECISIONS}
    classified = sum(by_decision.values())
    model = row.first_model if row.first_model == row.last_model else None
    found = row._mapping
    known: dict[str, Any] = {
        "patient": found.get("patient"),
        "slide": found.get("slide"),
        "images": row.images,
        "classified": classified,
        **{name: int(getattr(row, name)) for name in _DECISIONS},
        "model_version": model,
    }
    if not classified or row.total is None:
        nothing = ("share_malignant", "mean_probability", "decision", "decided_by", "deviation", "dissent")
        return Rollup(**known, **dict.fromkeys(nothing))
    mean = min(max(float(row.total) / classified, 0.0), 1.0)
    rule = rules.get(model) if model else None
    decision = rule.decide(mean) if rule else _most_frequent(by_decision)
    return Rollup(
        **known,
        share_malignant=by_decision["malignant"] / classified,
        mean_probability=mean,
        decision=decision,
        decided_by="rule" if rule else "majority",
        deviation=math.sqrt(max(float(row.squares) / classified - mean * mean, 0.0)),
        dissent=1 - by_decision[decision] / classified,
    )


def _most_frequent(by_decision: Mapping[Decision, int]) -> Decision:
    most = max(by_decision.values())
    first, *others = [name for name, images in by_decision.items() if images == most]
    return "uncertain" if others else first
