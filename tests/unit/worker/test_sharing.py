"""Submitters share a lane by their weights, counted in images; nobody waits for the past of others."""

from collections import defaultdict, deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sharing import Turns, WaitingBatch, take_turns


class Lane:
    """A lane as the database keeps it: who waits, what each was served, the virtual time."""

    def __init__(self, **weights: float) -> None:
        self.weights = weights
        self.waiting: dict[str, deque[WaitingBatch]] = defaultdict(deque)
        self.owners: list[str] = []
        self.served: dict[str, float] = {}
        self.virtual_time = 0.0
        self.images: dict[str, int] = defaultdict(int)

    def hand_in(self, name: str, *images: int) -> None:
        """Have a submitter's batches wait: one for each number of images."""
        for number in images:
            self.waiting[name].append(WaitingBatch(len(self.owners), number))
            self.owners.append(name)

    def give(self, number: int) -> list[str]:
        """Give out turns; the submitters who had them, in order."""
        waiting = {name: list(batches) for name, batches in self.waiting.items()}
        turns = take_turns(waiting, self.served, self.virtual_time, self.weights, number)
        self.served |= turns.served
        self.virtual_time = turns.virtual_time
        for batch_id in turns.batch_ids:
            batch = self.waiting[self.owners[batch_id]].popleft()
            assert batch.id == batch_id, "first come, first served"
            self.images[self.owners[batch_id]] += batch.images
        return [self.owners[batch_id] for batch_id in turns.batch_ids]


def test_equal_submitters_take_turns():
    """With equal weights and batches nobody is served twice in a row."""
    lane = Lane()
    for name in ("ann", "ben", "cem"):
        lane.hand_in(name, *[100] * 20)
    order = lane.give(60)
    assert lane.images == {"ann": 2000, "ben": 2000, "cem": 2000}
    assert all(one != other for one, other in pairwise(order))


def test_a_weight_of_three_is_served_three_times_as_much():
    """Over 400 turns 300 to 100; and in every stretch of four turns, not only in the end."""
    lane = Lane(ann=3)
    lane.hand_in("ann", *[256] * 400)
    lane.hand_in("ben", *[256] * 400)
    order = lane.give(400)
    assert lane.images == {"ann": 300 * 256, "ben": 100 * 256}
    assert {order[first : first + 4].count("ben") for first in range(0, 400, 4)} == {1}


def test_weights_below_one_are_served_less():
    """Half a weight is half a share."""
    lane = Lane(ben=0.5)
    lane.hand_in("ann", *[10] * 90)
    lane.hand_in("ben", *[10] * 90)
    assert lane.give(90).count("ben") == 30


def test_images_count_and_not_batches():
    """Who hands in large batches has fewer turns, for the same number of images."""
    lane = Lane()
    lane.hand_in("large", *[256] * 20)
    lane.hand_in("small", *[16] * 320)
    order = lane.give(170)
    assert order.count("large") == 10
    assert lane.images == {"large": 2560, "small": 2560}


def test_a_newcomer_goes_within_the_next_two_turns():
    """400 batches wait since long ago: one batch of someone else does not wait for them."""
    lane = Lane()
    lane.hand_in("old", *[256] * 400)
    lane.give(150)
    lane.hand_in("new", 256)
    assert "new" in lane.give(2)


def test_a_newcomer_does_not_catch_up_for_the_past():
    """Who comes shares from now on: the turns before were not his. The first turn may be."""
    lane = Lane()
    lane.hand_in("old", *[256] * 400)
    lane.give(150)
    lane.hand_in("new", *[256] * 100)
    assert lane.give(100).count("new") in (50, 51)


def test_nobody_waits_for_a_past_that_was_his_alone():
    """Who had the lane to himself goes on at once beside a newcomer: he took nothing from anybody."""
    lane = Lane()
    lane.hand_in("old", *[256] * 400)
    lane.give(150)
    lane.hand_in("new", *[256] * 100)
    assert "old" in lane.give(3)


def test_who_comes_back_saved_no_turns():
    """Away for 100 turns of the others, back again: an equal share from now on, and no more."""
    lane = Lane()
    lane.hand_in("ann", *[256] * 300)
    lane.hand_in("ben", *[256] * 5)
    lane.give(10)
    lane.give(100)
    lane.hand_in("ben", *[256] * 100)
    assert lane.give(100).count("ben") in (50, 51)


def test_who_comes_back_at_once_pays_for_what_was_served():
    """Handing in batch by batch is no way to the front: what was served a moment ago still counts."""
    lane = Lane()
    lane.hand_in("ann", *[256] * 100)
    order = []
    for _ in range(40):
        if not lane.waiting["ben"]:
            lane.hand_in("ben", 256)
        order += lane.give(1)
    assert order.count("ben") == 20


def test_who_waits_alone_has_every_turn():
    """Weights limit nobody while no one else waits."""
    lane = Lane(ann=0.001)
    lane.hand_in("ann", *[256] * 30)
    assert lane.give(30) == ["ann"] * 30


@pytest.mark.parametrize("waiting", [{}, {"ann": []}])
def test_where_nothing_waits_nothing_changes(waiting):
    """No turn is given, and the lane's time stands still."""
    assert take_turns(waiting, {"ann": 700.0}, 500.0, {}, 4) == Turns([], {}, 500.0)


def test_no_turns_are_given_where_none_are_asked_for():
    """A lane without room keeps everybody where he stands."""
    turns = take_turns({"ann": [WaitingBatch(1, 10)]}, {}, 0.0, {}, 0)
    assert (turns.batch_ids, turns.virtual_time) == ([], 0.0)


def test_a_submitters_batches_go_in_the_order_in_which_they_came():
    """Turns are for submitters; within one, first come, first served, whatever the sizes."""
    waiting = [WaitingBatch(7, 500), WaitingBatch(3, 1), WaitingBatch(5, 80)]
    assert take_turns({"ann": waiting}, {}, 0.0, {}, 9).batch_ids == [7, 3, 5]


def test_every_batch_goes_once():
    """With more turns than batches all of them go, and none twice."""
    lane = Lane(ann=2)
    lane.hand_in("ann", *[5] * 7)
    lane.hand_in("ben", *[9] * 4)
    assert sorted(lane.give(100)) == ["ann"] * 7 + ["ben"] * 4
    assert lane.give(100) == []


_SIZES = st.lists(st.integers(1, 500), max_size=30)
_WEIGHTS = st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 10))


@given(_WEIGHTS, st.dictionaries(st.sampled_from("abcd"), _SIZES), st.lists(st.integers(1, 5), max_size=30))
def test_turns_are_the_same_one_by_one_or_many_at_once(weights, sizes, portions):
    """What is remembered between two calls is all that counts: room at the broker decides when, never who."""
    lanes = Lane(**weights), Lane(**weights)
    for lane in lanes:
        for name, images in sizes.items():
            lane.hand_in(name, *images)
    at_once, in_portions = lanes
    portioned = [name for number in portions for name in in_portions.give(number)]
    assert portioned == at_once.give(sum(portions))


@given(
    _WEIGHTS,
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(1, 500), min_size=1, max_size=30), min_size=2),
    st.dictionaries(st.integers(0, 60), st.tuples(st.sampled_from("xyz"), _SIZES)),
)
def test_shares_never_differ_by_more_than_a_batch(weights, founders, comers):
    """Between submitters who wait throughout, images by weight differ at most by the largest batch by its weight."""
    lane = Lane(**weights)
    for name, images in founders.items():
        lane.hand_in(name, *images)
    largest = max(max(images) / weights.get(name, 1) for name, images in founders.items())
    for turn in range(120):
        if turn in comers:
            name, images = comers[turn]
            lane.hand_in(name, *images)
        lane.give(1)
        shares = [lane.images[name] / weights.get(name, 1) for name in founders if lane.waiting[name]]
        if shares:
            assert max(shares) - min(shares) <= largest * (1 + 1e-9)
