"""Images that are there twice: the same pixels under several names."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Doubles:
    """Groups of positions whose images have equal pixels, each group in rising order.

    Attributes:
        agreeing: of one class. The first of each group is used, the others are not.
        contradictory: of both classes. None is used, because nothing says which name is right.
    """

    agreeing: tuple[tuple[int, ...], ...]
    contradictory: tuple[tuple[int, ...], ...]

    @property
    def left_out(self) -> frozenset[int]:
        """Positions that take no part."""
        return frozenset(position for group in self.agreeing for position in group[1:]).union(*self.contradictory)


def find_doubles(digests: Sequence[str], labels: Sequence[int]) -> Doubles:
    """Group positions by the digest of their pixels; "" is the digest of nothing and equals nothing."""
    groups: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        if digest:
            groups.setdefault(digest, []).append(position)
    several = [tuple(group) for group in groups.values() if len(group) > 1]
    agree = {group: len({labels[position] for position in group}) == 1 for group in several}
    return Doubles(
        agreeing=tuple(group for group in several if agree[group]),
        contradictory=tuple(group for group in several if not agree[group]),
    )
