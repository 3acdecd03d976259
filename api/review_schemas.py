"""The wire format of reviews, and of what needs one."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.schemas import ItemFound
from core.bundle import NOTICE, Decision
from core.reviews import MOST_NOTE_CHARACTERS, Verdict


def _one_kind_of_line_end(note: object) -> object:
    """Browsers send two characters for each line end, which their own limit counts as one."""
    return note.replace("\r\n", "\n").strip() if isinstance(note, str) else note


# No control characters but tab and line end: a database chokes on NUL, and terminals obey others.
Note = Annotated[
    str,
    BeforeValidator(_one_kind_of_line_end),
    Field(max_length=MOST_NOTE_CHARACTERS, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$"),
]


class ReviewCreate(BaseModel):
    """What someone says of an image's result.

    Attributes:
        verdict: undecided where the picture does not tell.
        note: in the reviewer's words, at most 2,000 characters. It may hold what identifies a patient: retention clears
            it with the names.
    """

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    note: Note = ""


class ReviewPublic(BaseModel):
    """A person's sign-off of one result: of one content as one model judged it, wherever the image lies.

    Attributes:
        item_id, submission_id: where the reviewer saw it; retention may have deleted that since.
        said: the model's decision at that time.
        superseded: whether a later review of the same result counts instead.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    result_id: int
    item_id: int
    submission_id: str
    reviewer: str
    said: Decision
    verdict: Verdict
    note: str
    superseded: bool


class ReviewStored(ReviewPublic):
    """A review that was recorded."""

    notice: str = NOTICE


class ReviewPage(BaseModel):
    """Reviews, newest first. next_cursor asks for the next page; None at the end."""

    reviews: list[ReviewPublic]
    next_cursor: str | None
    notice: str = NOTICE


class UnreviewedPage(BaseModel):
    """Images whose result needs review, newest first. next_cursor asks for the next page; None at the end.

    A page may hold fewer images than were asked for, or none, and not be the last.
    """

    items: list[ItemFound]
    next_cursor: str | None
    notice: str = NOTICE
