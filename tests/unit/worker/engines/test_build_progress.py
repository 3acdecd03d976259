"""Phases within phases become one share that never goes back."""

from worker.engines.build_progress import BuildProgress


def test_nested_phases_are_parts_of_the_next_step() -> None:
    """Half of the second of four steps is three eighths."""
    told: list[float] = []
    progress = BuildProgress(lambda share, _: told.append(share))
    progress.begin("build", None, 4)
    progress.step("build", 0)
    progress.begin("time", "build", 2)
    progress.step("time", 0)
    assert told[-1] == 0.375
    progress.finish("time")
    progress.step("build", 1)
    assert told[-1] == 0.5
    progress.finish("build")
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_what_was_never_begun_changes_nothing() -> None:
    """Libraries report phases in any order, and may leave one out."""
    told: list[float] = []
    progress = BuildProgress(lambda share, _: told.append(share))
    progress.step("unknown", 3)
    progress.finish("unknown")
    progress.begin("build", "unknown", 0)
    progress.step("build", 5)
    assert told[-1] == 1.0
