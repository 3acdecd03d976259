"""How far the build of an engine is: TensorRT reports phases within phases."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

Listener = Callable[[float, str], None]


def ignore(_: float, __: str) -> None:
    """Listen to nothing."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns phases into one share, which never goes back. Safe to use from several threads.

    The listener is told the share that is done, 0 to 1, and the phase that goes on.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def begin(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, within another or as the first."""
        with self._lock:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(steps, 1))
            self._tell(name)

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done; steps count from 0 and come in any order."""
        with self._lock:
            if phase := self._phases.get(name):
                phase.done = max(phase.done, min(step + 1, phase.steps))
                self._tell(name)

    def finish(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None and phase.parent is None and not self._phases:
                self._share = 1.0
            self._tell(name)

    def _tell(self, name: str) -> None:
        self._share = max(self._share, min(self._done(), 1.0))
        self._listener(self._share, name)

    def _done(self) -> float:
        """The outermost phases' share; the phases within are parts of the step that comes next."""
        outermost = [name for name, phase in self._phases.items() if phase.parent is None]
        return max((self._share_of(name) for name in outermost), default=0.0)

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        within = [self._share_of(child) for child, other in self._phases.items() if other.parent == name]
        part = max(within, default=0.0) if phase.done < phase.steps else 0.0
        return (phase.done + part) / phase.steps
