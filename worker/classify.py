"""The work of one message: claim a batch, classify it, close it."""

import time
from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy.exc import OperationalError

from core.errors import EngineError, LeaseLost, TransientError
from worker.batches import Claim, Outcome, claim_batch, close_batch, extend_lease, give_up, hand_back, look_up_results
from worker.context import WorkerContext
from worker.dispatch import finish, send_batch
from worker.pipeline import KnownResult, Pipeline, Source

log = structlog.get_logger()


class StopOverdue(TransientError):
    """The process must end before the batch does."""


def classify_batch(context: WorkerContext, batch_id: int) -> None:
    """Classify a batch if it is still to do; a message that comes twice changes nothing.

    Raises:
        EngineError, TransientError, OSError: the batch was handed back and will be sent again.
    """
    settings = context.settings
    claim = claim_batch(context.database, batch_id, context.name, settings.lease_s)
    if claim is None:
        log.info("batch_not_claimed", batch_id=batch_id)
        return
    start = time.perf_counter()
    try:
        outcome = _work(context, claim)
        close_batch(context.database, claim, outcome, context.rule)
    except LeaseLost:
        log.warning("lease_lost", batch_id=batch_id)
        return
    except StopOverdue:
        hand_back(context.database, claim)
        send_batch(context, batch_id, claim.lane)
        log.info("batch_handed_back", batch_id=batch_id)
        return
    except (EngineError, TransientError, OperationalError):
        # The images are not at fault: the reconciler sends the batch again, after a pause. A database that is still
        # away takes no hand-back either; then the lease runs out.
        hand_back(context.database, claim)
        raise
    except Exception:
        # A fault of ours that some image may bring about: treated like a death of the worker, without the wait.
        give_up(context.database, claim)
        raise
    log.info(
        "batch_done", batch_id=batch_id, images=len(claim.items), wall_ms=round((time.perf_counter() - start) * 1000)
    )
    finish(context, claim.submission_id)


def _work(context: WorkerContext, claim: Claim) -> Outcome:
    lease = _Lease(context, claim)
    pipeline = Pipeline(
        context=context,
        source=Source(claim.folder, context.settings.roots_of(claim.source)),
        look_up=lambda hashes: _look_up(context, hashes),
        keep_going=lease.keep,
    )
    images = pipeline.run(claim.items)
    return Outcome(
        images=images, timings=pipeline.timings, engine=context.engine.name, model_version=context.model_version
    )


class _Lease:
    """Extends a batch's lease when a third of it is used up, and gives up when the process must end."""

    def __init__(self, context: WorkerContext, claim: Claim) -> None:
        self._context = context
        self._claim = claim
        self._extended_at = time.monotonic()

    def keep(self) -> None:
        if self._context.stop.is_overdue:
            raise StopOverdue(f"batch {self._claim.batch_id} does not finish before the process ends")
        lease_s = self._context.settings.lease_s
        if time.monotonic() - self._extended_at > lease_s / 3:
            extend_lease(self._context.database, self._claim, lease_s)
            self._extended_at = time.monotonic()


def _look_up(context: WorkerContext, hashes: Sequence[str]) -> Mapping[str, KnownResult]:
    with context.database.read() as session:
        return look_up_results(session, hashes, context.model_version)
