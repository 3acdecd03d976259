"""A worker knows at every moment what it has in hand, since when nothing happened, and what was taken away."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from core.errors import LeaseLost
from core.lanes import Lane
from tests.assets.rows import add_batch, add_submission
from worker.classify import classify_batch
from worker.context import WorkerContext
from worker.holdings import Holding, Holdings
from worker.intake import take_in


def holding_of(token: str = "t", **values: object) -> Holding:
    def nothing(*_: object) -> None:
        return

    defaults = {"kind": "batch", "id": 1, "token": token, "hand_back": nothing, "park": nothing, "blame": nothing}
    return Holding(**(defaults | values))


def test_a_lease_is_known_while_it_is_held():
    """Also beside others, and no longer than its work lasts."""
    holdings = Holdings()
    one, other = holding_of("one"), holding_of("other", kind="submission", id="s")
    with holdings.hold(one) as held:
        assert held is one
        with holdings.hold(other):
            assert holdings.all() == [one, other]
        assert holdings.all() == [one]
    assert holdings.all() == []


def test_work_that_fails_holds_nothing():
    """Its lease is no longer kept alive, so that it can be taken."""
    holdings = Holdings()
    with pytest.raises(RuntimeError), holdings.hold(holding_of()):
        raise RuntimeError
    assert holdings.all() == []


def test_who_looks_may_keep_what_it_saw():
    """The pulse goes through the leases while others come and go."""
    holdings = Holdings()
    with holdings.hold(holding_of("one")):
        seen = holdings.all()
        with holdings.hold(holding_of("other")):
            assert len(seen) == 1


def test_threads_hold_beside_each_other():
    """Eight threads with 100 leases each, under the eyes of a ninth: none fails, nothing is left."""
    holdings = Holdings()
    errors: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(100):
                with holdings.hold(holding_of(f"{name}-{number}")) as held:
                    assert held in holdings.all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert holdings.all() == []


def test_progress_is_noted():
    """A batch on which something was done just now does not stand still."""
    holding = holding_of(progress_at=0.0)
    before = time.monotonic()
    holding.progress()
    assert before <= holding.progress_at <= time.monotonic()


def test_a_new_lease_has_just_begun():
    """Nobody takes it for one that stands still."""
    before = time.monotonic()
    assert before <= holding_of().progress_at <= time.monotonic()


def test_who_lost_the_lease_learns_it_at_the_next_progress():
    """The rest of the batch is not computed in vain; the message names it."""
    holding = holding_of(id=7)
    holding.is_lost = True
    with pytest.raises(LeaseLost, match="batch 7 is not"):
        holding.progress()


def test_waiting_for_storage_shows():
    """Only while it lasts; and its end is progress."""
    holding = holding_of()
    assert not holding.waits_for_storage
    before = time.monotonic()
    with holding.waiting_for_storage():
        holding.progress_at = 0.0
        assert holding.waits_for_storage
        assert holding.progress_at == 0.0
    assert not holding.waits_for_storage
    assert holding.progress_at >= before


def test_storage_that_answers_with_an_error_has_answered():
    """The error passes, and nothing waits any more."""
    holding = holding_of()
    with pytest.raises(OSError, match="gone"), holding.waiting_for_storage():
        raise OSError("gone")
    assert not holding.waits_for_storage


class WatchedBroker:
    """Sends nothing, and notes what the worker holds while something is to be sent."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self.held: list[list[object]] = []

    def send_classify(self, _batch_id: int, _lane: Lane) -> None:
        self.held.append([holding.id for holding in self._context.holdings.all()])


def watch_sending(context: WorkerContext, work: Callable[[WorkerContext], None]) -> list[list[object]]:
    """Do work whose claim sends another batch; what was held at that moment."""
    broker = WatchedBroker(context)
    work(replace(context, queue=broker))
    return broker.held


def test_a_batch_is_held_as_soon_as_it_is_claimed(context):
    """A broker that answers slowly must not cost the lease: its heart beats from the claim on."""
    with context.database.write() as session:
        mine = add_submission(session)
        batch_id = add_batch(session, mine, ["a"])
        add_batch(session, mine, ["b"], sent_at=None)
    held = watch_sending(context, lambda watched: classify_batch(watched, batch_id))
    assert held[0] == [batch_id]


def test_a_listing_is_held_as_soon_as_it_is_claimed(context, images_root):
    """While its first batch is being sent its heart beats."""
    (images_root / "a.png").touch()
    with context.database.write() as session:
        mine = add_submission(session, images_root, state="accepted")
    held = watch_sending(context, lambda watched: take_in(watched, mine))
    assert held == [[mine]]
    assert context.holdings.all() == []
