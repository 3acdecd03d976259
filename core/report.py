"""The report of a submission: what came of it, what a person should look at first, and what went wrong."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import func, select
from sqlmodel import Session, col

from core.bundle import NOTICE, Decision, DecisionRule
from core.lanes import Lane
from core.paths import readable
from core.progress import measure_progress
from core.report_images import FailureGroup, ImageList, list_failures, list_images
from core.rollup import Extent, Key, Rollup, read_rollups
from core.states import SubmissionState
from core.tables import Item, Result, Submission, utc_now

_CHUNK = 500
# Longer lists are no report; the API's pages have the rest.
MOST_PATIENTS = 100


class OutcomeCounts(BaseModel):
    """Images by outcome."""

    total: int
    pending: int
    benign: int
    malignant: int
    uncertain: int
    failed: int
    skipped: int


class ModelCount(BaseModel):
    """How many images have their result from a model."""

    model_version: str
    images: int


class PatientList(BaseModel):
    """Patients of one decision, those with the highest mean probability first.

    Attributes:
        total: of which shown holds the first.
        without_patient: images of which nobody knows the patient; they are in no patient's decision.
    """

    total: int
    shown: list[Rollup]
    patients: int
    without_patient: int


class SubmissionReport(BaseModel):
    """What came of a submission. Lists are bounded; each says how many there are.

    Attributes:
        positives: malignant images, those whose content had no result before first, then the most probable.
        uncertain: images that a person must look at, the most probable first.
        images_per_s: of late while it runs, on the whole after it ended.
        wall_s: from when it was handed in to its end; null while it runs.
        malignant_patients: whose mean probability is judged malignant.
    """

    notice: str = NOTICE
    id: str
    state: SubmissionState
    reason: str | None
    detail: str | None
    lane: Lane
    source: str
    folder: str
    submitter: str
    created_at: datetime
    finished_at: datetime | None
    counts: OutcomeCounts
    models: list[ModelCount]
    images_per_s: float | None
    wall_s: float | None
    positives: ImageList
    uncertain: ImageList
    failures: list[FailureGroup]
    malignant_patients: PatientList


def submission_report(
    session: Session, submission_id: str, rules: Mapping[str, DecisionRule] | None = None
) -> SubmissionReport:
    """Report on a submission, also while it runs.

    Args:
        rules: of the models at hand, by name@version; without its model's, patients are judged by majority.

    Raises:
        NoResultFound: there is no such submission.
    """
    submission = session.get_one(Submission, submission_id)
    progress = measure_progress(session, submission, utc_now())
    ended = submission.finished_at
    return SubmissionReport(
        id=submission.id,
        state=submission.state,
        reason=submission.reason,
        detail=submission.detail,
        lane=submission.lane,
        source=submission.source,
        folder=readable(submission.folder),
        submitter=submission.submitter,
        created_at=submission.created_at,
        finished_at=ended,
        counts=OutcomeCounts(**asdict(progress.counts), pending=progress.counts.pending),
        models=_count_models(session, submission_id),
        images_per_s=progress.images_per_s,
        wall_s=(ended - submission.created_at).total_seconds() if ended else None,
        positives=list_images(session, submission_id, "malignant", progress.counts.malignant),
        uncertain=list_images(session, submission_id, "uncertain", progress.counts.uncertain),
        failures=list_failures(session, submission_id, progress.failures),
        malignant_patients=_list_patients(session, submission_id, rules or {}),
    )


def _count_models(session: Session, submission_id: str) -> list[ModelCount]:
    rows = session.execute(
        select(col(Result.model_version), func.count())
        .join(Item, col(Item.result_id) == col(Result.id))
        .where(col(Item.submission_id) == submission_id)
        .group_by(col(Result.model_version))
        .order_by(col(Result.model_version))
    )
    return [ModelCount(model_version=model, images=images) for model, images in rows]


def _list_patients(session: Session, submission_id: str, rules: Mapping[str, DecisionRule]) -> PatientList:
    wanted: Decision = "malignant"
    extent = Extent(submission_id=submission_id)
    shown: list[Rollup] = []
    total = patients = without = 0
    after: Key | None = None
    while True:
        groups, after = read_rollups(session, extent, rules, after, _CHUNK)
        named = [group for group in groups if group.patient is not None]
        patients += len(named)
        without += sum(group.images for group in groups if group.patient is None)
        found = [group for group in named if group.decision == wanted]
        total += len(found)
        shown = sorted(shown + found, key=_by_probability)[:MOST_PATIENTS]
        if after is None:
            return PatientList(total=total, shown=shown, patients=patients, without_patient=without)


def _by_probability(group: Rollup) -> tuple[float, str]:
    return -(group.mean_probability or 0.0), group.patient or ""
