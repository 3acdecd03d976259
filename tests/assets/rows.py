"""Rows of the database for tests that start in the middle of a submission's life."""

from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import Session, col, select

from core.database import Database
from core.lanes import Lane
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now

LONG_AGO = timedelta(minutes=5)


def add_submission(session: Session, folder: object = "/nowhere", **values: object) -> str:
    """Add a submission that runs, unless values say otherwise; its id."""
    row = Submission(**({"source": "folder", "folder": str(folder), "state": SubmissionState.RUNNING} | values))
    session.add(row)
    session.flush()
    return row.id


def add_batch(
    session: Session, submission_id: str, paths: Sequence[str], settled: Sequence[ItemState] = (), **values: object
) -> int:
    """Add a batch long committed and sent: a pending item for each path, and items settled at listing; its id."""
    defaults = {
        "lane": Lane.BULK,
        "images": len(paths) + len(settled),
        "failed": sum(state == ItemState.FAILED for state in settled),
        "skipped": sum(state == ItemState.SKIPPED for state in settled),
        "created_at": utc_now() - LONG_AGO,
        "sent_at": utc_now() - LONG_AGO,
    }
    batch = Batch(submission_id=submission_id, **(defaults | values))
    session.add(batch)
    session.flush()
    for path in paths:
        session.add(Item(submission_id=submission_id, batch_id=batch.id, path=path))
    for number, state in enumerate(settled):
        name = f"settled-{batch.id}-{number}"
        session.add(Item(submission_id=submission_id, batch_id=batch.id, path=name, state=state, reason="sidecar_file"))
    session.flush()
    return batch.id


def submission_of(database: Database, submission_id: str) -> Submission:
    """The submission as it is now."""
    with database.read() as session:
        return session.get_one(Submission, submission_id)


def batches_of(database: Database, submission_id: str) -> list[Batch]:
    """The submission's batches as they are now, by id."""
    with database.read() as session:
        return list(session.exec(select(Batch).where(Batch.submission_id == submission_id).order_by(col(Batch.id))))


def items_of(database: Database, submission_id: str) -> dict[str, Item]:
    """The submission's items as they are now, by path."""
    with database.read() as session:
        return {item.path: item for item in session.exec(select(Item).where(Item.submission_id == submission_id))}


def assert_counters_are_exact(database: Database, submission_id: str) -> None:
    """Every closed batch's counters say what its items say, and every item is counted once."""
    items = items_of(database, submission_id).values()
    for batch in batches_of(database, submission_id):
        own = [item for item in items if item.batch_id == batch.id]
        assert batch.images == len(own), f"batch {batch.id} ({batch.state})"
        if batch.state not in (BatchState.DONE, BatchState.CANCELLED):
            continue
        counted = {
            "benign": sum(item.decision == "benign" for item in own),
            "malignant": sum(item.decision == "malignant" for item in own),
            "uncertain": sum(item.decision == "uncertain" for item in own),
            "failed": sum(item.state == ItemState.FAILED for item in own),
            "skipped": sum(item.state == ItemState.SKIPPED for item in own),
        }
        assert {name: getattr(batch, name) for name in counted} == counted, f"batch {batch.id} ({batch.state})"
        assert sum(counted.values()) == batch.images
