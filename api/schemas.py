"""The wire format of /v1. Table rows never leave the API; these do."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from core.bundle import NOTICE, Decision, DecisionRule, Metrics
from core.lanes import Lane
from core.reviews import Verdict
from core.states import ItemState, SubmissionState


class SubmissionCreate(BaseModel):
    """A folder that someone wants classified.

    Attributes:
        folder: absolute path, below one of the roots that the server allows, as the server's machines see it;
            bytes that are not UTF-8 as in path_exact.
        lane: urgent before bulk before nightly.
    """

    model_config = ConfigDict(extra="forbid")

    folder: Annotated[str, Field(min_length=1, max_length=4096)]
    lane: Lane = Lane.BULK


class CountsPublic(BaseModel):
    """Images of a submission by outcome. While it is listed, total and pending still grow."""

    total: int
    pending: int
    benign: int
    malignant: int
    uncertain: int
    failed: int
    skipped: int


class SubmissionSummary(BaseModel):
    """A submission as lists show it.

    Attributes:
        folder: readable form of the path; odd bytes and control characters are escaped.
        reason, detail: why state is failed or parked, why an accepted submission waits until retry_at, or why all
            images failed that were left when storage was given up.
        retry_at: a parked submission, or one that waits for room, is tried again then; null where nothing waits.
    """

    id: str
    state: SubmissionState
    lane: Lane
    source: str
    folder: str
    submitter: str
    created_at: datetime
    finished_at: datetime | None
    reason: str | None
    detail: str | None
    retry_at: datetime | None
    counts: CountsPublic


class SubmissionPublic(SubmissionSummary):
    """A submission and how far it is.

    Attributes:
        listed: whether every image is known, so that counts.total is final. A submission that is parked, or was
            ended early, may be listed or not.
        failures: how many images failed or were skipped, by reason code.
        images_per_s: images with an outcome a second: of late while it runs, on the whole after it ended; None
            where nothing was finished (of late).
        eta_s: seconds until the known images have an outcome, if that rate stays and no other work comes before;
            None before every image is known, while nothing finishes, and after the end.
    """

    listed: bool
    failures: dict[str, int]
    images_per_s: float | None
    eta_s: float | None
    notice: str = NOTICE


class SubmissionPage(BaseModel):
    """Submissions, newest first. next_cursor asks for the next page; None at the end."""

    submissions: list[SubmissionSummary]
    next_cursor: str | None
    notice: str = NOTICE


class ItemPublic(BaseModel):
    """One image of a submission and its outcome.

    Attributes:
        path: relative to the submission's folder, readable: odd bytes as \\xNN, control characters escaped.
        path_exact: the same, exact: bytes that are not UTF-8 are characters U+F780 to U+F7FF (core.paths).
        probability: of malignancy, in [0, 1].
        patient, slide, magnification: by the manifest or the file's name; null where neither says.
        elapsed_ms: reading, decoding and this image's share of inference, when it was first classified.
        classified_at: when its result was made; a content that was known has the older result.
        verdict: of the newest review of its result; null where nobody reviewed it.
    """

    id: int
    path: str
    path_exact: str
    size: int
    state: ItemState
    decision: Decision | None
    probability: float | None
    reason: str | None
    detail: str | None
    patient: str | None
    slide: str | None
    magnification: str | None
    model_version: str | None
    engine: str | None
    elapsed_ms: float | None
    content_hash: str | None
    classified_at: datetime | None
    verdict: Verdict | None


class ItemPage(BaseModel):
    """Images in the order in which they were listed. next_cursor asks for the next page; None at the end.

    A page may hold fewer images than were asked for, or none, and not be the last.
    """

    items: list[ItemPublic]
    next_cursor: str | None
    notice: str = NOTICE


class ItemFound(ItemPublic):
    """An image that a search over all submissions found."""

    submission_id: str


class ItemSearchPage(BaseModel):
    """Images of any submission. next_cursor asks for the next page of the same search; None at the end."""

    items: list[ItemFound]
    next_cursor: str | None
    notice: str = NOTICE


class ResultPublic(BaseModel):
    """What one model says of one image content."""

    content_hash: str
    model_version: str
    probability: float
    decision: Decision
    engine: str
    elapsed_ms: float
    created_at: datetime


class ResultList(BaseModel):
    """What all models say of one image content, newest first."""

    results: list[ResultPublic]
    notice: str = NOTICE


class ModelPublic(BaseModel):
    """A model bundle.

    Attributes:
        serves: whether it was activated last, or, where none was, whether workers that start now classify with it.
    """

    name: str
    version: str
    model_version: str
    serves: bool
    created_at: datetime
    classes: tuple[str, str]
    decision: DecisionRule
    metrics: tuple[Metrics, ...]
    dataset: str
    licence: str
    attribution: str
