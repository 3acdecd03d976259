"""The table of reviews: what people say of what the model said."""

from datetime import datetime

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from core.tables import BIG_KEY, UtcDateTime, utc_now


class Review(SQLModel, table=True):
    """A person's sign-off of one result. Rows are only added; the newest of a result counts.

    It belongs to the result, that is to a content and a model: the same image in another submission is reviewed with
    it, and another model's opinion of it is not.

    Attributes:
        result_id: the result that was reviewed.
        item_id, submission_id: where the reviewer saw it.
        said: the model's decision at that time.
        verdict: "benign", "malignant", or "undecided" where the picture does not tell (core.reviews.Verdict).
        note: in the reviewer's words; retention takes it away with the names.
    """

    __table_args__ = (Index("ix_review_result", "result_id", "id"), Index("ix_review_submission", "submission_id"))

    id: int | None = Field(default=None, sa_column=Column(BIG_KEY, primary_key=True, autoincrement=True))
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    result_id: int = Field(sa_column=Column(BIG_KEY, nullable=False))
    item_id: int = Field(sa_column=Column(BIG_KEY, nullable=False))
    submission_id: str = Field(max_length=32)
    reviewer: str = Field(sa_type=Text)
    said: str = Field(sa_type=Text)
    verdict: str = Field(sa_type=Text)
    note: str = Field(default="", sa_type=Text)
