"""Write listed files as the items of a batch."""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from core.labels import Labels
from core.states import BatchState, ItemState
from core.storage.protocol import Entry
from core.tables import Batch, Submission, utc_now


def add_batch(session: Session, submission: Submission, entries: Sequence[Entry]) -> Batch:
    """Add the batch of some files; one in which nothing is left to classify is done."""
    failed = sum(entry.state == ItemState.FAILED for entry in entries)
    skipped = sum(entry.state == ItemState.SKIPPED for entry in entries)
    is_done = failed + skipped == len(entries)
    batch = Batch(
        submission_id=submission.id,
        lane=submission.lane,
        images=len(entries),
        failed=failed,
        skipped=skipped,
        state=BatchState.DONE if is_done else BatchState.QUEUED,
        finished_at=utc_now() if is_done else None,
    )
    session.add(batch)
    session.flush()
    return batch


def item_row(batch: Batch, entry: Entry, labels: Labels) -> dict[str, Any]:
    """The columns of a file's item."""
    return {
        "submission_id": batch.submission_id,
        "batch_id": batch.id,
        "path": entry.path,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "state": entry.state,
        "reason": entry.reason,
        "detail": entry.detail,
        "patient": labels.patient,
        "slide": labels.slide,
        "magnification": labels.magnification,
    }
