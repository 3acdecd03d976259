"""States of submissions, batches, items and scans, and every move between them.

docs/architecture.md draws MOVES and gives each arrow a meaning; core.transitions makes the moves; triggers in the
database refuse any other, whoever asks for it.
"""

from collections.abc import Mapping
from enum import StrEnum


class SubmissionState(StrEnum):
    """Where a submission stands."""

    ACCEPTED = "accepted"  # recorded; nobody looks into the folder (yet, or for the moment)
    LISTING = "listing"  # its folder is being walked; batches that are cut already run
    RUNNING = "running"  # every image is known; some have no outcome yet
    PARKED = "parked"  # its storage is away; it is tried again at retry_at
    DONE = "done"  # every image has an outcome
    CANCELLED = "cancelled"  # ended on request; images without an outcome were skipped
    FAILED = "failed"  # could not be listed; the reason is recorded


class BatchState(StrEnum):
    """Where a batch stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # one worker holds its lease
    DONE = "done"  # every image of it has an outcome
    CANCELLED = "cancelled"  # ended before a worker took it
    SPLIT = "split"  # took its workers down; two halves took its place


class ItemState(StrEnum):
    """Where an image of a submission stands."""

    PENDING = "pending"  # no outcome yet
    DONE = "done"  # classified: points to a result
    FAILED = "failed"  # cannot be classified: has a reason
    SKIPPED = "skipped"  # was not meant to be classified: has a reason


class ScanState(StrEnum):
    """Where a scan of an archive stands."""

    RUNNING = "running"  # its folders are compared, or what it found is classified
    DONE = "done"  # every file that it found new or changed has an outcome
    FAILED = "failed"  # ended before every folder was compared, or too much seems gone; nothing counts as deleted
    CANCELLED = "cancelled"  # its submission was ended on request


# What may follow each state. What nothing may follow has ended.
SUBMISSION_MOVES: Mapping[SubmissionState, frozenset[SubmissionState]] = {
    SubmissionState.ACCEPTED: frozenset({SubmissionState.LISTING, SubmissionState.PARKED, SubmissionState.CANCELLED}),
    SubmissionState.LISTING: frozenset(
        {
            SubmissionState.ACCEPTED,
            SubmissionState.RUNNING,
            SubmissionState.PARKED,
            SubmissionState.CANCELLED,
            SubmissionState.FAILED,
        }
    ),
    SubmissionState.RUNNING: frozenset({SubmissionState.DONE, SubmissionState.PARKED, SubmissionState.CANCELLED}),
    SubmissionState.PARKED: frozenset(
        {
            SubmissionState.ACCEPTED,
            SubmissionState.RUNNING,
            SubmissionState.CANCELLED,
            SubmissionState.FAILED,
        }
    ),
    SubmissionState.DONE: frozenset(),
    SubmissionState.CANCELLED: frozenset(),
    SubmissionState.FAILED: frozenset(),
}
BATCH_MOVES: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.QUEUED: frozenset({BatchState.RUNNING, BatchState.DONE, BatchState.CANCELLED}),
    BatchState.RUNNING: frozenset({BatchState.QUEUED, BatchState.DONE, BatchState.SPLIT}),
    BatchState.DONE: frozenset(),
    BatchState.CANCELLED: frozenset(),
    BatchState.SPLIT: frozenset(),
}
ITEM_MOVES: Mapping[ItemState, frozenset[ItemState]] = {
    ItemState.PENDING: frozenset({ItemState.DONE, ItemState.FAILED, ItemState.SKIPPED}),
    ItemState.DONE: frozenset(),
    ItemState.FAILED: frozenset(),
    ItemState.SKIPPED: frozenset(),
}
SCAN_MOVES: Mapping[ScanState, frozenset[ScanState]] = {
    ScanState.RUNNING: frozenset({ScanState.DONE, ScanState.FAILED, ScanState.CANCELLED}),
    ScanState.DONE: frozenset(),
    ScanState.FAILED: frozenset(),
    ScanState.CANCELLED: frozenset(),
}

OPEN_SUBMISSIONS = tuple(state for state, following in SUBMISSION_MOVES.items() if following)
OPEN_BATCHES = tuple(state for state, following in BATCH_MOVES.items() if following)
# Submissions whose batches may be classified.
LIVE_SUBMISSIONS = (SubmissionState.ACCEPTED, SubmissionState.LISTING, SubmissionState.RUNNING)
