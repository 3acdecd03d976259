"""A worker knows how many messages it has in work, and for how long it heard of none."""

import threading
from types import SimpleNamespace

import pytest

import worker.traffic
from worker.traffic import Traffic


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    turned = SimpleNamespace(now=100.0)
    monkeypatch.setattr(worker.traffic, "time", SimpleNamespace(monotonic=lambda: turned.now))
    return turned


def test_messages_in_work_are_counted():
    """Each counts from its arrival to the end of its work."""
    traffic = Traffic()
    assert traffic.in_work == 0
    with traffic.message():
        with traffic.message():
            assert traffic.in_work == 2
        assert traffic.in_work == 1
    assert traffic.in_work == 0


def test_work_that_fails_has_ended_too():
    """An exception leaves no thread busy for ever, and passes."""
    traffic = Traffic()
    with pytest.raises(RuntimeError), traffic.message():
        raise RuntimeError
    assert traffic.in_work == 0


def test_silence_counts_from_the_start_on(clock):
    """A worker that never heard anything was silent since it was made."""
    traffic = Traffic()
    clock.now += 31
    assert traffic.silent_s == 31


def test_an_arrival_breaks_the_silence(clock):
    """While its work goes on, time passes again."""
    traffic = Traffic()
    clock.now += 31
    with traffic.message():
        assert traffic.silent_s == 0
        clock.now += 12
        assert traffic.silent_s == 12


def test_the_end_of_work_breaks_the_silence(clock):
    """A long batch is no deafness: until it ended no message was asked for."""
    traffic = Traffic()
    with traffic.message():
        clock.now += 600
    assert traffic.silent_s == 0
    clock.now += 5
    assert traffic.silent_s == 5


def test_threads_do_not_lose_each_others_counts():
    """Eight threads with 200 messages each: all are in at once at first, none in the end."""
    traffic = Traffic()
    all_in = threading.Barrier(9)

    def work() -> None:
        with traffic.message():
            all_in.wait(30)
            all_in.wait(30)
        for _ in range(200):
            with traffic.message():
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    all_in.wait(30)
    assert traffic.in_work == 8
    all_in.wait(30)
    for thread in threads:
        thread.join(30)
    assert traffic.in_work == 0
