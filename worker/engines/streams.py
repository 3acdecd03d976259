"""Keeps a GPU busy: splits calls over several streams, so that copies of one overlap with the inference of another.

Knows neither TensorRT nor CUDA: worker.engines.tensorrt does, behind the seam of worker.engines.device.
"""

import queue
from collections import deque
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from core.errors import EngineError
from core.imaging import HEIGHT, WIDTH
from worker.engines.device import Channel, Device, DeviceFault, DeviceOutOfMemory
from worker.engines.key import Profile

log = structlog.get_logger()

# While one call is on the GPU, the thread of another stores results, so there are more callers than streams.
CALLERS_A_STREAM = 2


@dataclass
class _Call:
    """One call of classify: what is still to start, and what is on its way."""

    images: NDArray[np.uint8]
    answers: NDArray[np.float32]
    waiting: deque[slice]
    under_way: deque[tuple[Channel, slice]]


class StreamedEngine:
    """An engine over a device's streams. A call of any size is split; out of memory, calls become smaller."""

    def __init__(self, device: Device, name: str, profile: Profile, streams: int = 2) -> None:
        """Open the streams.

        Args:
            device: with the engine on it; is closed with this.
            name: stored with results.
            profile: that the engine was built for.
            streams: two let copies overlap with inference.

        Raises:
            EngineError: not even one image fits.
        """
        self.name = name
        self.max_batch = profile.max_batch
        self.best_batch = profile.opt_batch
        self.parallel_calls = CALLERS_A_STREAM * streams
        self._device = device
        self._broken: str | None = None
        self._idle: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        self._streams = streams
        with device.entered():
            for _ in range(streams):
                self._idle.put(self._open(profile.max_batch))

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (N,) for RGB uint8 (N, 96, 144, 3); see Engine."""
        if self._broken is not None:
            raise EngineError(f"the GPU is lost to this process: {self._broken}")
        call = _Call(
            images=np.ascontiguousarray(images),
            answers=np.empty(len(images), np.float32),
            waiting=deque([slice(0, len(images))] if len(images) else []),
            under_way=deque(),
        )
        with self._device.entered():
            try:
                while call.waiting or call.under_way:
                    self._advance(call)
            finally:
                self._give_back(call)
        return call.answers

    def warm_up(self) -> None:
        """Run every stream once, alone and full, so that kernels are loaded."""
        for size in (1, self.best_batch, self.max_batch * self._streams):
            self.classify(np.zeros((size, HEIGHT, WIDTH, 3), np.uint8))

    def close(self) -> None:
        """Free the streams and the device."""
        with self._device.entered():
            for _ in range(self._streams):
                try:
                    self._idle.get_nowait().close()
                except queue.Empty:
                    break
        self._device.close()

    def _advance(self, call: _Call) -> None:
        """Start the next part where a stream is free, or take in the oldest one's answers.

        A call waits for a stream only while it holds none: two calls that wait for each other's would wait forever.
        """
        channel = self._take_channel(may_wait=not call.under_way) if call.waiting else None
        if channel is None:
            channel, part = call.under_way.popleft()
            self._finish(call, channel, part)
        else:
            self._begin(call, channel)

    def _take_channel(self, *, may_wait: bool) -> Channel | None:
        try:
            channel = self._idle.get(block=may_wait)
        except queue.Empty:
            return None
        if self._broken is not None:
            self._idle.put(channel)
            raise EngineError(f"the GPU is lost to this process: {self._broken}")
        return channel

    def _begin(self, call: _Call, channel: Channel) -> None:
        part = call.waiting.popleft()
        if part.stop - part.start > channel.capacity:
            middle = part.start + channel.capacity
            call.waiting.appendleft(slice(middle, part.stop))
            part = slice(part.start, middle)
        try:
            channel.begin(call.images[part])
        except EngineError as error:
            self._recover(call, channel, part, error)
        else:
            call.under_way.append((channel, part))

    def _finish(self, call: _Call, channel: Channel, part: slice) -> None:
        try:
            call.answers[part] = channel.finish()
        except EngineError as error:
            self._recover(call, channel, part, error)
        else:
            self._idle.put(channel)

    def _recover(self, call: _Call, channel: Channel, part: slice, error: EngineError) -> None:
        """Out of memory: go on with half as many images in this stream. Anything else ends the call.

        Raises:
            EngineError: the device failed, or one image is too many.
        """
        if isinstance(error, DeviceOutOfMemory) and channel.capacity > 1:
            call.waiting.appendleft(part)
            self._idle.put(self._reopen(channel))
            return
        self._idle.put(channel)
        if isinstance(error, DeviceFault) and error.is_sticky:
            self._broken = str(error)
        raise EngineError(f"the GPU failed on {part.stop - part.start} images: {error}") from error

    def _reopen(self, channel: Channel) -> Channel:
        smaller = channel.capacity // 2
        log.warning("engine_out_of_memory", images=channel.capacity, now=smaller)
        channel.close()
        try:
            return self._open(smaller)
        except EngineError as error:
            # There is a stream less than calls count on: a fresh process has them all. Whoever waits for this one
            # gets it, closed as it is, and learns that all is over.
            self._broken = str(error)
            self._idle.put(channel)
            raise

    def _open(self, capacity: int) -> Channel:
        while True:
            try:
                return self._device.open_channel(capacity)
            except DeviceOutOfMemory as error:
                if capacity == 1:
                    raise EngineError(f"the GPU has no memory for one image: {error}") from error
                log.warning("engine_out_of_memory", images=capacity, now=capacity // 2)
                capacity //= 2

    def _give_back(self, call: _Call) -> None:
        """After a failure: wait for what else this call began, whose answers nobody takes."""
        for channel, _ in call.under_way:
            if self._broken is None:
                try:
                    channel.finish()
                except DeviceFault as error:
                    if error.is_sticky:
                        self._broken = str(error)
                except EngineError:
                    pass
            self._idle.put(channel)
