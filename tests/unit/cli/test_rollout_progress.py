"""Waiting for a rollout: how far it is, when it is over, and which workers cannot."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from api.model_schemas import WorkerPublic
from cli import rollout_progress
from cli.rollout_progress import follow_rollout
from core.presence import WorkerState
from core.tables import utc_now

MODEL = "m@2.0.0"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(rollout_progress, "_POLL_S", 0)


def worker(name: str, state: WorkerState = WorkerState.SERVING, **values: object) -> WorkerPublic:
    now = utc_now()
    fields = {"engine": "openvino-int8", "model_version": MODEL, "wanted": MODEL, "detail": None} | values
    return WorkerPublic(name=name, state=state, started_at=now, seen_at=now, **fields)


def asking(*looks: Sequence[WorkerPublic]) -> Callable[[], Sequence[WorkerPublic]]:
    """Answer one look after the other; more are not expected."""
    coming: Iterator[Sequence[WorkerPublic]] = iter(looks)
    return lambda: next(coming)


OLD = {"model_version": "m@1.0.0", "wanted": "m@1.0.0"}
LOADING = {"state": WorkerState.LOADING, "model_version": "m@1.0.0"}


def test_it_waits_until_every_worker_serves_the_model(capsys) -> None:
    """One line a change; a worker that has not heard of it yet, or loads it, does not serve it."""
    looks = [
        [worker("a", **OLD), worker("b", **OLD)],
        [worker("a"), worker("b", **LOADING)],
        [worker("a"), worker("b", **LOADING)],
        [worker("a"), worker("b")],
    ]
    assert follow_rollout(asking(*looks), MODEL, 60)
    assert capsys.readouterr().out.splitlines() == [f"{number} of 2 workers serve {MODEL}" for number in range(3)]


def test_workers_that_classify_nothing_are_not_waited_for() -> None:
    """They stop, are away, or have no real engine."""
    look = [
        worker("a"),
        worker("b", WorkerState.STOPPING, **OLD),
        worker("c", WorkerState.AWAY, **OLD),
        worker("d", engine="fake", model_version="fake@0.0.0", wanted=None),
    ]
    assert follow_rollout(asking(look), MODEL, 60)


def test_a_worker_that_waits_for_another_model_may_serve_this_one() -> None:
    """It could not load the model before; what it says of that one is no answer."""
    stale = worker("a", WorkerState.WAITING, model_version="m@1.0.0", wanted="m@3.0.0", detail="no bundle")
    assert follow_rollout(asking([stale], [worker("a")]), MODEL, 60)


def test_workers_that_cannot_are_named(capsys) -> None:
    """Once all others serve it: nothing more comes by waiting."""
    unable = worker("b", WorkerState.WAITING, model_version="m@1.0.0", detail="it is not there")
    looks = [[worker("a", **LOADING), unable], [worker("a"), unable]]
    assert not follow_rollout(asking(*looks), MODEL, 60)
    assert capsys.readouterr().err == "b does not serve it, and tries again: it is not there\n"


def test_it_does_not_wait_for_ever(capsys) -> None:
    """A worker that neither loads the model nor says why is named when the time is over."""
    assert not follow_rollout(asking([worker("a", **OLD)]), MODEL, 0)
    assert "a does not serve it, and tries again: not in time" in capsys.readouterr().err


def test_without_workers_there_is_nothing_to_wait_for(capsys) -> None:
    """Those that start later begin with the model that is active."""
    assert follow_rollout(asking([]), MODEL, 60)
    assert capsys.readouterr().out == "no worker is present\n"
