"""Which images are meant: what the query of an address says, and the same as conditions of SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy import ColumnElement
from sqlmodel import col

from api.moments import Moment
from core.bundle import Decision
from core.states import ItemState
from core.tables import Item, Result

_Label = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
_Probability = Annotated[float | None, Query(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class ItemFilter:
    """Which images are meant; None means any.

    Attributes:
        model: name@version of the model whose result they have.
        min_probability, max_probability: both included.
        after, before: when the result was made; after is included, before is not. An image whose content was known
            has the older result.
    """

    state: ItemState | None = None
    decision: Decision | None = None
    reason: str | None = None
    patient: str | None = None
    slide: str | None = None
    magnification: str | None = None
    model: str | None = None
    min_probability: float | None = None
    max_probability: float | None = None
    after: datetime | None = None
    before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Say the filter in SQL, on Item and the Result that it points to."""
        return self.item_conditions() + self.result_conditions()

    def item_conditions(self) -> list[ColumnElement[bool]]:
        """Say what is asked of Item."""
        equal = {
            Item.state: self.state,
            Item.decision: self.decision,
            Item.reason: self.reason,
            Item.patient: self.patient,
            Item.slide: self.slide,
            Item.magnification: self.magnification,
        }
        return [col(column) == value for column, value in equal.items() if value is not None]

    def result_conditions(self) -> list[ColumnElement[bool]]:
        """Say what is asked of Result."""
        conditions = []
        if self.model is not None:
            conditions.append(col(Result.model_version) == self.model)
        if self.min_probability is not None:
            conditions.append(col(Result.probability) >= self.min_probability)
        if self.max_probability is not None:
            conditions.append(col(Result.probability) <= self.max_probability)
        if self.after is not None:
            conditions.append(col(Result.created_at) >= self.after)
        if self.before is not None:
            conditions.append(col(Result.created_at) < self.before)
        return conditions


def get_filter(
    *,
    state: ItemState | None = None,
    decision: Decision | None = None,
    reason: Annotated[str | None, Query(max_length=100, pattern="^[a-z_]*$")] = None,
    patient: _Label = None,
    slide: _Label = None,
    magnification: _Label = None,
    model: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="name@version")] = None,
    min_probability: _Probability = None,
    max_probability: _Probability = None,
    after: Annotated[Moment | None, Query(description="result made at or after, with a time zone")] = None,
    before: Annotated[Moment | None, Query(description="result made before, with a time zone")] = None,
) -> ItemFilter:
    """Read which images are meant from the query; empty text means any."""
    return ItemFilter(
        state=state,
        decision=decision,
        reason=reason or None,
        patient=patient or None,
        slide=slide or None,
        magnification=magnification or None,
        model=model or None,
        min_probability=min_probability,
        max_probability=max_probability,
        after=after,
        before=before,
    )


FilterDep = Annotated[ItemFilter, Depends(get_filter)]
