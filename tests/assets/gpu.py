"""A device that stands behind the real seam of the GPU engine: it keeps its rules, and breaks when told to."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
from numpy.typing import NDArray

from core.errors import EngineError
from worker.engines.device import DeviceOutOfMemory

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def redness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of the red channel over 255."""
    answer: NDArray[np.float32] = images[..., 0].mean(axis=(1, 2), dtype=np.float32) / np.float32(255)
    return answer


class FakeDevice:
    """Answers like a network, with memory for so many images over all its channels.

    Attributes:
        memory: shrinks when a test says so, as when another process takes it.
        calls: the number of images of each call, in order.
        most_under_way: the most channels that were busy at one moment.
        begin_errors, finish_errors: raised by the next calls, in turn; None lets one pass.
    """

    def __init__(self, answer: Answer = redness, memory: int = 10**6) -> None:
        self.answer = answer
        self.memory = memory
        self.calls: list[int] = []
        self.open: list[FakeChannel] = []
        self.most_under_way = 0
        self.begin_errors: deque[EngineError | None] = deque()
        self.finish_errors: deque[EngineError | None] = deque()
        self.is_closed = False
        self.lock = threading.Lock()
        self._numbers = count()
        self._thread = threading.local()

    @contextmanager
    def entered(self) -> Iterator[None]:
        assert not self.is_closed
        self._thread.depth = getattr(self._thread, "depth", 0) + 1
        try:
            yield
        finally:
            self._thread.depth -= 1

    def open_channel(self, capacity: int) -> "FakeChannel":
        self.check_thread()
        if capacity + sum(channel.capacity for channel in self.open) > self.memory:
            raise DeviceOutOfMemory(f"cuMemAlloc failed: out of memory for {capacity} images")
        channel = FakeChannel(self, capacity, next(self._numbers))
        self.open.append(channel)
        return channel

    def close(self) -> None:
        assert not self.open, "a channel is open still"
        self.is_closed = True

    def check_thread(self) -> None:
        """The context must be the calling thread's."""
        assert getattr(self._thread, "depth", 0) > 0, "the device was used outside of its context"

    def note_call(self, images: int) -> None:
        """Count a call that began."""
        with self.lock:
            self.calls.append(images)
            self.most_under_way = max(self.most_under_way, sum(channel.under_way is not None for channel in self.open))


class FakeChannel:
    """See worker.engines.device.Channel."""

    def __init__(self, device: FakeDevice, capacity: int, number: int) -> None:
        self.capacity = capacity
        self.number = number
        self.under_way: NDArray[np.uint8] | None = None
        self._device = device

    def begin(self, images: NDArray[np.uint8]) -> None:
        self._device.check_thread()
        assert self.under_way is None, "two calls in one channel"
        assert 0 < len(images) <= self.capacity
        _raise_next(self._device.begin_errors)
        self.under_way = images
        self._device.note_call(len(images))

    def finish(self) -> NDArray[np.float32]:
        self._device.check_thread()
        assert self.under_way is not None, "nothing was begun"
        images, self.under_way = self.under_way, None
        _raise_next(self._device.finish_errors)
        return self._device.answer(images)

    def close(self) -> None:
        self._device.check_thread()
        if self in self._device.open:
            self._device.open.remove(self)


def _raise_next(errors: deque[EngineError | None]) -> None:
    error = errors.popleft() if errors else None
    if error is not None:
        raise error
