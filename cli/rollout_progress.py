"""Watch the workers come to serve a model."""

import time
from collections.abc import Callable, Sequence

import typer

from api.model_schemas import WorkerPublic
from core.presence import WorkerState

_POLL_S = 0.5
# Neither of them will classify anything.
_GONE = (WorkerState.STOPPING, WorkerState.AWAY)


def follow_rollout(ask: Callable[[], Sequence[WorkerPublic]], model: str, timeout_s: float) -> bool:
    """Print a line whenever another worker serves the model, until all present ones do or cannot; whether all do.

    Args:
        ask: looks at the workers.
        timeout_s: after which it is given up.
    """
    deadline = time.monotonic() + timeout_s
    said = ""
    while True:
        # Workers with the fake engine classify nothing that counts, and no model concerns them.
        workers = [worker for worker in ask() if worker.state not in _GONE and worker.engine != "fake"]
        serving = [worker for worker in workers if _serves(worker, model)]
        unable = [worker for worker in workers if _cannot(worker, model)]
        progress = f"{len(serving)} of {len(workers)} workers serve {model}" if workers else "no worker is present"
        if progress != said:
            typer.echo(progress)
            said = progress
        is_late = time.monotonic() >= deadline
        if len(serving) + len(unable) == len(workers) or is_late:
            _name_missing(workers, serving, is_late=is_late)
            return len(serving) == len(workers)
        time.sleep(_POLL_S)


def _serves(worker: WorkerPublic, model: str) -> bool:
    return worker.state is WorkerState.SERVING and worker.model_version == model and worker.wanted == model


def _cannot(worker: WorkerPublic, model: str) -> bool:
    return worker.state is WorkerState.WAITING and worker.wanted == model


def _name_missing(workers: Sequence[WorkerPublic], serving: Sequence[WorkerPublic], *, is_late: bool) -> None:
    for worker in workers:
        if worker not in serving:
            why = worker.detail or ("not in time" if is_late else worker.state)
            typer.echo(f"{worker.name} does not serve it, and tries again: {why}", err=True)
