"""The work of one message: claim a batch, classify it, close it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import structlog
from sqlalchemy.exc import OperationalError

from core.errors import EngineError, LeaseLost, Reason, StorageAway, TransientError
from core.imaging import HEIGHT, WIDTH
from core.lanes import Lane
from core.storage.opening import open_storage
from core.transitions import park_submission
from worker.batches import (
    Claim,
    Outcome,
    Stamp,
    claim_batch,
    close_batch,
    hand_back,
    look_up_results,
    peek,
    store_results,
)
from worker.context import WorkerContext
from worker.dispatch import finish, put_back, top_up
from worker.holdings import Holding
from worker.pipeline import Classified, KnownResult, Pipeline
from worker.recovery import expire_batch
from worker.serving import Serving

log = structlog.get_logger()
T = TypeVar("T")

# How long a batch waits for a model that is being loaded before it is left to others; less than the grace of a stop.
_SWAP_S = 4.0


class StopOverdue(TransientError):
    """The process must end before the batch does."""


class _ModelAway(TransientError):
    """The model that must classify the batch does not serve here."""


class EngineBroken(EngineError):
    """The engine fails whatever it is given: this process is of no use any more."""


def classify_batch(context: WorkerContext, batch_id: int) -> None:
    """Classify a batch if it is still to do; a message that comes twice changes nothing.

    Raises:
        EngineBroken, TransientError, OperationalError: the batch was handed back and will be sent again.
    """
    waiting = _insist(context, lambda: peek(context.database, batch_id))
    if waiting is None:
        log.warning("batch_unknown", batch_id=batch_id)
        return
    with context.isolation.enter(alone=waiting.is_suspect):
        _insist(context, context.rollout.look)
        with context.slot.lend(_patience_s(context)) as serving:
            if serving is None:
                # Another worker gets it at its next turn. This one has waited meanwhile: it would take, and let go of,
                # every message that comes while others work.
                _insist(context, lambda: put_back(context, [batch_id]))
                log.info("batch_left", batch_id=batch_id, why=context.slot.state)
                return
            _classify(context, serving, batch_id, waiting.lane)


def _patience_s(context: WorkerContext) -> float:
    return 0 if context.stop.is_asked else min(_SWAP_S, context.settings.lease_s)


def _classify(context: WorkerContext, serving: Serving, batch_id: int, lane: Lane) -> None:
    claim = _insist(context, lambda: claim_batch(context.database, batch_id, context.name))
    if claim is None:
        log.info("batch_not_claimed", batch_id=batch_id)
        # Where it is parked, its place at the broker is another's.
        top_up(context, lane)
        return
    with context.holdings.hold(_holding(context, claim)) as holding:
        _take_care(context, serving, claim, holding)


def _holding(context: WorkerContext, claim: Claim) -> Holding:
    return Holding(
        kind="batch",
        id=claim.batch_id,
        token=claim.token,
        hand_back=lambda: _return(context, claim),
        park=lambda why: _park(context, claim, why),
        blame=lambda: _blame(context, claim),
    )


def _take_care(context: WorkerContext, serving: Serving, claim: Claim, holding: Holding) -> None:
    """Classify and close a batch, or leave it in a state from which someone goes on."""
    start = time.perf_counter()
    try:
        _check_model(serving, claim)
        # In its place another goes to the broker, so that the next thread that is free need not wait for one.
        top_up(context, claim.lane)
        outcome = _work(context, serving, claim, holding)
        _insist(context, lambda: close_batch(context.database, claim, outcome))
    except LeaseLost:
        log.warning("lease_lost", batch_id=claim.batch_id)
        return
    except StopOverdue:
        _return(context, claim)
        log.info("batch_handed_back", batch_id=claim.batch_id)
        return
    except StorageAway as error:
        _park(context, claim, str(error))
        return
    except _ModelAway as error:
        _park(context, claim, str(error), Reason.MODEL_AWAY)
        return
    except EngineError as error:
        _test_engine(context, serving, claim, error)
        raise
    except (TransientError, OperationalError):
        # The images are not at fault. A database that is still away takes no hand-back either; then the lease is
        # taken away when it is back.
        _return(context, claim)
        raise
    except Exception:
        # A fault of ours that some image may bring about: treated like a death of the worker, without the wait.
        _blame(context, claim)
        raise
    wall_ms = round((time.perf_counter() - start) * 1000)
    log.info("batch_done", batch_id=claim.batch_id, images=len(claim.items), wall_ms=wall_ms)
    finish(context, claim.submission_id)


def _work(context: WorkerContext, serving: Serving, claim: Claim, holding: Holding) -> Outcome:
    stamp = Stamp(engine=serving.engine.name, model_version=serving.model_version, rule=serving.rule)

    def keep_going() -> None:
        if context.stop.is_overdue:
            raise StopOverdue(f"batch {claim.batch_id} does not finish before the process ends")
        holding.progress()

    def store(images: Sequence[Classified]) -> Mapping[str, KnownResult]:
        stored = _insist(context, lambda: store_results(context.database, claim, images, stamp))
        holding.progress()
        return stored

    pipeline = Pipeline(
        context=context,
        serving=serving,
        storage=open_storage(claim.folder, context.settings, claim.source),
        look_up=lambda hashes: _insist(context, lambda: _look_up(context, serving, hashes)),
        store=store,
        keep_going=keep_going,
        waiting_for_storage=holding.waiting_for_storage,
    )
    return Outcome(images=pipeline.run(claim.items), timings=pipeline.timings, engine=serving.engine.name)


def _return(context: WorkerContext, claim: Claim) -> None:
    if hand_back(context.database, claim):
        top_up(context, claim.lane)


def _check_model(serving: Serving, claim: Claim) -> None:
    if claim.model not in (None, serving.model_version):
        raise _ModelAway(f"{claim.model} must classify it, and {serving.model_version} serves: serve that, or wait")


def _park(context: WorkerContext, claim: Claim, why: str, reason: Reason = Reason.STORAGE_AWAY) -> None:
    """Put the submission aside until what it needs is there again; its batches wait with it."""
    with context.database.write() as session:
        parked = park_submission(session, claim.submission_id, why, context.settings.storage_retry_s, reason=reason)
    _return(context, claim)
    if parked:
        log.warning("submission_parked", submission_id=claim.submission_id)


def _blame(context: WorkerContext, claim: Claim) -> None:
    """Treat the batch as if this process had died of it."""
    if expire_batch(context, claim.token):
        top_up(context, claim.lane)


def _test_engine(context: WorkerContext, serving: Serving, claim: Claim, error: EngineError) -> None:
    """Find out by an experiment whether the engine is broken, or these images break it."""
    try:
        serving.engine.classify(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
    except EngineError:
        hand_back(context.database, claim)
        raise EngineBroken(f"the engine fails on an empty image, too: {error}") from error
    _blame(context, claim)


def _insist(context: WorkerContext, work: Callable[[], T]) -> T:
    return context.database.insist(work, context.settings.database_patience_s)


def _look_up(context: WorkerContext, serving: Serving, hashes: Sequence[str]) -> Mapping[str, KnownResult]:
    with context.database.read() as session:
        return look_up_results(session, hashes, serving.model_version)
