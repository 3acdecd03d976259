"""States of submissions, batches and items. docs/architecture.md draws the moves between them."""

from enum import StrEnum


class SubmissionState(StrEnum):
    """Where a submission stands."""

    ACCEPTED = "accepted"  # recorded; nobody has looked into the folder yet
    LISTING = "listing"  # its folder is being walked; batches that are cut already run
    RUNNING = "running"  # every image is known; some have no outcome yet
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


OPEN_SUBMISSIONS = (SubmissionState.ACCEPTED, SubmissionState.LISTING, SubmissionState.RUNNING)
OPEN_BATCHES = (BatchState.QUEUED, BatchState.RUNNING)
