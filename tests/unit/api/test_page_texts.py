"""What pages say of numbers."""

import pytest

from api.rendering import name_outcomes, say_duration, split_bar
from api.schemas import CountsPublic


def _counts(total: int, **values: int) -> CountsPublic:
    outcomes = {"benign": 0, "malignant": 0, "uncertain": 0, "failed": 0, "skipped": 0} | values
    return CountsPublic(total=total, pending=total - sum(outcomes.values()), **outcomes)


def test_bar_shows_each_outcome_after_the_one_before() -> None:
    """Segments touch, do not overlap, and leave the pending share free."""
    segments = split_bar(_counts(200, benign=100, uncertain=50))
    assert [(part.outcome, part.start, part.width) for part in segments] == [
        ("benign", 0, 50),
        ("uncertain", 50, 25),
    ]


def test_bar_of_nothing_is_empty() -> None:
    """A submission that nobody has listed yet divides nothing by zero."""
    assert split_bar(_counts(0)) == []
    assert name_outcomes(_counts(0)) == "0 of 0 images: no outcome yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.2, "< 1 s"), (42, "42 s"), (600, "10 min"), (9000, "2.5 h"), (260_000, "3.0 days")],
)
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    """Coarser with length."""
    assert say_duration(seconds) == text
