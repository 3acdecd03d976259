"""A batch that may kill the worker runs alone; the others run together, and nobody waits for ever."""

import random
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.assets.programs import wait_until
from worker.isolation import Isolation


class Visitor(threading.Thread):
    """Enters, and stays until it is told to leave."""

    def __init__(self, isolation: Isolation, *, alone: bool) -> None:
        super().__init__(daemon=True)
        self._isolation = isolation
        self._alone = alone
        self.entered = threading.Event()
        self.may_leave = threading.Event()

    def run(self) -> None:
        """Come in."""
        with self._isolation.enter(alone=self._alone):
            self.entered.set()
            self.may_leave.wait(60)

    def leave(self) -> None:
        """Go out, and be gone when this returns."""
        self.may_leave.set()
        self.join(30)

    @property
    def stands_outside(self) -> bool:
        """Whether it asked to enter and waits."""
        frame = sys._current_frames().get(self.ident or 0)
        return frame is not None and frame.f_code is threading.Condition.wait.__code__ and not self.entered.is_set()


@pytest.fixture
def come() -> Iterator[Callable[..., Visitor]]:
    """Send visitors to one isolation; all leave at the test's end."""
    isolation = Isolation()
    visitors: list[Visitor] = []

    def send(*, alone: bool = False) -> Visitor:
        visitors.append(Visitor(isolation, alone=alone))
        visitors[-1].start()
        return visitors[-1]

    yield send
    for visitor in visitors:
        visitor.may_leave.set()
    for visitor in visitors:
        visitor.join(30)


def is_in(visitor: Visitor) -> bool:
    return visitor.entered.wait(30)


def wait_outside(visitor: Visitor) -> None:
    wait_until(lambda: visitor.stands_outside, "the visitor waits outside", 30)


def test_many_run_together(come):
    """Innocent batches do not wait for each other."""
    visitors = [come() for _ in range(5)]
    assert all(is_in(visitor) for visitor in visitors)


def test_who_runs_alone_waits_for_all_others(come):
    """Also for the last of them."""
    first, last = come(), come()
    assert is_in(first)
    assert is_in(last)
    suspect = come(alone=True)
    wait_outside(suspect)
    first.leave()
    wait_outside(suspect)
    last.leave()
    assert is_in(suspect)


def test_nobody_enters_beside_one_who_runs_alone(come):
    """Neither an innocent batch nor another suspect."""
    suspect = come(alone=True)
    assert is_in(suspect)
    innocent, second = come(), come(alone=True)
    wait_outside(innocent)
    wait_outside(second)
    suspect.leave()
    assert is_in(second)
    wait_outside(innocent)
    second.leave()
    assert is_in(innocent)


def test_who_wants_to_be_alone_goes_before_those_who_come_later(come):
    """A stream of innocent batches would otherwise keep a suspect waiting for ever."""
    innocent = come()
    assert is_in(innocent)
    suspect = come(alone=True)
    wait_outside(suspect)
    later = come()
    wait_outside(later)
    innocent.leave()
    assert is_in(suspect)
    wait_outside(later)
    suspect.leave()
    assert is_in(later)


@pytest.mark.parametrize("alone", [True, False])
def test_work_that_fails_lets_the_next_in(alone):
    """An exception passes, and leaves nobody locked out."""
    isolation = Isolation()
    with pytest.raises(RuntimeError), isolation.enter(alone=alone):
        raise RuntimeError
    for next_one in (True, False):
        visitor = Visitor(isolation, alone=next_one)
        visitor.start()
        assert is_in(visitor)
        visitor.leave()


def test_in_a_crowd_who_runs_alone_is_alone():
    """Eight threads come and go 300 times each: never is anyone beside one who runs alone, and all come through."""
    isolation = Isolation()
    lock = threading.Lock()
    inside: list[bool] = []
    crowds: list[list[bool]] = []

    def visit(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(300):
            alone = dice.random() < 0.2
            with isolation.enter(alone=alone):
                with lock:
                    inside.append(alone)
                    if any(inside):
                        crowds.append(inside.copy())
                with lock:
                    inside.remove(alone)

    threads = [threading.Thread(target=visit, args=(seed,), daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(crowds) > 300
    assert {len(crowd) for crowd in crowds} == {1}
