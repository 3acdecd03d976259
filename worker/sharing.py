"""Whose batch is next in a lane: stride scheduling, so that submitters share it by their weights.

Each submitter has a number: the images it was served, divided by its weight. Who has the smallest goes next. The
lane's virtual time is the smallest number of the last turn; who comes, or comes back, starts from there, so that
nobody saves turns up while away, and nobody waits for the past of others.

Source: C. A. Waldspurger, W. E. Weihl: Stride Scheduling, MIT/LCS/TM-528, 1995.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WaitingBatch:
    """A batch that waits for its turn."""

    id: int
    images: int


@dataclass(frozen=True)
class Turns:
    """Who goes next.

    Attributes:
        batch_ids: in the order of their turns.
        served: images by weight of each submitter who waited, afterwards.
        virtual_time: of the lane, afterwards.
    """

    batch_ids: Sequence[int]
    served: Mapping[str, float]
    virtual_time: float


def take_turns(
    waiting: Mapping[str, Sequence[WaitingBatch]],
    served: Mapping[str, float],
    virtual_time: float,
    weights: Mapping[str, float],
    number: int,
) -> Turns:
    """Give out a number of turns.

    Args:
        waiting: each submitter's batches, first come first.
        served: what each was served so far; who is new has nothing.
        weights: of submitters; who is not named has 1.
    """
    queues = {name: deque(batches) for name, batches in waiting.items() if batches}
    now_served = {name: max(served.get(name, virtual_time), virtual_time) for name in queues}
    batch_ids: list[int] = []
    while queues and len(batch_ids) < number:
        name = min(queues, key=lambda name: (now_served[name], name))
        batch = queues[name].popleft()
        if not queues[name]:
            del queues[name]
        batch_ids.append(batch.id)
        virtual_time = now_served[name]
        now_served[name] += batch.images / weights.get(name, 1.0)
    return Turns(batch_ids, now_served, virtual_time)
