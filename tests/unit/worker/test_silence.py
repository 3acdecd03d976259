"""A lease is silent when its heartbeats stood still for a whole lease under the eyes of one observer."""

from collections.abc import Iterable

from worker.silence import SilenceWatch

LEASE_S = 8.0


def watch(watch: SilenceWatch, moments: Iterable[float], heartbeats: int = 5, token: str = "a") -> list[list[str]]:
    """Look at one lease at these moments; what each look found silent."""
    return [watch.look({token: heartbeats}, now) for now in moments]


def test_who_is_not_heard_for_a_lease_is_silent():
    """Four looks in a lease, and at its end: found at the last, not before."""
    assert watch(SilenceWatch(LEASE_S), [0, 2, 4, 6, 7.9, 8]) == [[], [], [], [], [], ["a"]]


def test_many_looks_do_not_make_a_lease_shorter():
    """An observer in a hurry waits as long as any other."""
    assert watch(SilenceWatch(LEASE_S), [number / 100 for number in range(799)]) == [[]] * 799


def test_time_alone_proves_nothing():
    """A lease has passed, but nobody looked in between: three looks must find the heartbeats unchanged."""
    assert watch(SilenceWatch(LEASE_S), [0, 8, 8.1, 8.2]) == [[], [], [], ["a"]]


def test_a_heart_that_beats_is_never_silent():
    """However seldom it beats within a lease, and whatever the number is."""
    silence = SilenceWatch(LEASE_S)
    for beat in range(50):
        assert watch(silence, [beat * 7.0 + pause for pause in (0, 2, 4, 6)], heartbeats=beat) == [[]] * 4


def test_one_beat_begins_a_new_lease():
    """Silence counts from the last beat."""
    silence = SilenceWatch(LEASE_S)
    assert watch(silence, [0, 2, 4, 6], heartbeats=1) == [[]] * 4
    assert watch(silence, [7, 9, 11, 13, 14.9, 15], heartbeats=2) == [[], [], [], [], [], ["a"]]


def test_a_count_that_goes_back_is_a_beat():
    """A batch that is claimed again counts from zero."""
    silence = SilenceWatch(LEASE_S)
    watch(silence, [0, 2, 4, 6], heartbeats=9)
    assert watch(silence, [8], heartbeats=0) == [[]]


def test_a_new_holder_begins_anew():
    """Another token is another lease, although its heart beat as often."""
    silence = SilenceWatch(LEASE_S)
    watch(silence, [0, 2, 4, 6], token="a")
    assert watch(silence, [8, 10, 12, 14], token="b") == [[]] * 4
    assert watch(silence, [16], token="b") == [["b"]]


def test_a_lease_that_was_gone_is_forgotten():
    """What was seen of a token before it was given up says nothing later."""
    silence = SilenceWatch(LEASE_S)
    watch(silence, [0, 2, 4], token="a")
    silence.look({}, 6)
    assert watch(silence, [8, 10, 12, 14, 16], token="a") == [[], [], [], [], ["a"]]


def test_a_pause_of_the_observer_begins_anew():
    """A machine that slept, or a database that was away, hides heartbeats: nobody is silent because of that."""
    silence = SilenceWatch(LEASE_S)
    watch(silence, [0, 2, 4, 6])
    assert watch(silence, [14.1, 16, 18, 20, 22]) == [[], [], [], [], []]
    assert watch(silence, [22.1]) == [["a"]]


def test_a_pause_shorter_than_a_lease_does_not():
    """A slow look costs no more than its own time."""
    silence = SilenceWatch(LEASE_S)
    assert watch(silence, [0, 1, 2, 9.9]) == [[], [], [], ["a"]]


def test_who_is_silent_is_named_until_taken():
    """The database may refuse the taking: the next look names it again."""
    assert watch(SilenceWatch(LEASE_S), [0, 2, 4, 6, 8, 10, 12])[-3:] == [["a"], ["a"], ["a"]]


def test_each_lease_is_judged_by_its_own_heart():
    """The dead one is named, the living and the new ones beside it are not."""
    silence = SilenceWatch(LEASE_S)
    for now in (0, 2, 4, 6):
        assert silence.look({"dead": 3, "alive": now}, now) == []
    assert silence.look({"dead": 3, "alive": 8, "new": 3}, 8) == ["dead"]
