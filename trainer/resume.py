"""The state of an unfinished fit on disk, so that a run goes on where it was killed."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from trainer.checkpoint import read_metadata, write_tensors
from trainer.errors import RunError, StoppedError, WeightsError
from trainer.network import read_tensors
from trainer.parallel import Ranks
from trainer.recipe import Recipe
from trainer.state import FitState

SAVE_EVERY_S = 120.0


class StopRequest:
    """Whether SIGTERM or Ctrl-C asked the run to stop; the step at hand is finished and saved first."""

    def __init__(self) -> None:
        self.received = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGTERM or Ctrl-C into a request; the second one ends the program at once."""
    request = StopRequest()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in signals}

    def receive(number: int, frame: FrameType | None) -> None:
        request.received = True
        for each in signals:
            signal.signal(each, before[each])

    for number in signals:
        signal.signal(number, receive)
    try:
        yield request
    finally:
        for number in signals:
            signal.signal(number, before[number])


@dataclass(kw_only=True)
class Keeper:
    """Saves the state of one fit now and then, and gives it back to a resumed one.

    Attributes:
        path: the file, replaced at each save.
        fit: "0", "1", ... or "all".
        plan: digest of all that decides the run; a state of another plan is refused.
        every_steps: steps between saves; None saves every SAVE_EVERY_S seconds.
        stop: a request saves and ends the run.
        ranks: the first process writes.
    """

    path: Path
    fit: str
    plan: str
    stop: StopRequest
    ranks: Ranks
    every_steps: int | None = None
    _saved_at: float = 0.0

    def restore(self, state: FitState[Any]) -> None:
        """Take over the state on disk, if it is one of this fit.

        Raises:
            RunError: it belongs to another plan.
            WeightsError: it cannot be read.
        """
        self._saved_at = time.monotonic()
        if not self.path.exists():
            return
        metadata = read_metadata(self.path)
        if metadata.get("plan") != self.plan:
            raise RunError(f"{self.path} belongs to another run: remove it, and the fit starts again")
        if metadata.get("fit") == self.fit:
            state.restore(read_tensors(self.path), metadata["progress"])

    def after_step(self, state: FitState[Any], stop: bool) -> None:
        """Save if it is time to, or if any process was asked to stop.

        Raises:
            StoppedError: the run was asked to stop, and its state is saved.
            WeightsError: the state cannot be written; the one before is as it was.
        """
        if stop or self._is_due(state.progress.step):
            if self.ranks.first:
                self._save(state)
            self._saved_at = time.monotonic()
        if stop:
            self.ranks.wait()
            raise StoppedError(
                f"stopped as asked at step {state.progress.step} of fit {self.fit}; all is saved: "
                "the same command with --resume goes on there"
            )

    def forget(self) -> None:
        """Remove the state once the fit's weights are saved."""
        if self.ranks.first:
            self.path.unlink(missing_ok=True)

    def _is_due(self, step: int) -> bool:
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return time.monotonic() - self._saved_at >= SAVE_EVERY_S

    def _save(self, state: FitState[Any]) -> None:
        metadata = {"plan": self.plan, "fit": self.fit, "progress": state.numbers()}
        try:
            write_tensors(self.path, state.tensors(), metadata)
        except WeightsError as error:
            raise WeightsError(f"{error} Free some space; --resume then goes on at the last saved step") from error


def saved_step(path: Path, recipe: Recipe) -> tuple[str | None, int]:
    """Return the fit whose state a file holds and its steps over all fits of the soup; None and 0 without a file.

    Raises:
        WeightsError: the file is damaged.
    """
    if not path.exists():
        return None, 0
    try:
        metadata = read_metadata(path)
    except WeightsError as error:
        raise WeightsError(f"{error}. Remove it, and the fit that it belongs to starts again") from error
    progress = json.loads(metadata.get("progress", "{}"))
    return metadata.get("fit"), progress.get("member", 0) * recipe.steps + progress.get("step", 0)
