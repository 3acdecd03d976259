"""The GPU: TensorRT (or TensorRT-RTX) on CUDA streams by PyCUDA. The only file that imports them to run an engine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from core.errors import EngineError
from core.imaging import HEIGHT, WIDTH
from worker.engines.device import fault_of
from worker.engines.flavours import Flavour, new_execution_context, new_runtime
from worker.engines.key import Compatibility

_LEAST_BYTES = 256


class TensorRtDevice:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves to this process, with an engine on it.

    The context is the device's primary one, which CUDA's runtime inside TensorRT uses too. It is made here, so in the
    process that uses it, and each thread that calls pushes it for as long as it calls (`entered`).
    """

    def __init__(self, flavour: Flavour, plan: bytes, compatibility: Compatibility) -> None:
        """Make the context and load the engine.

        Raises:
            DeviceFault, DeviceOutOfMemory: naming what failed.
        """
        self.trt = flavour.load()
        self._complaints = _Complaints()
        self._logger = _make_logger(self.trt, self._complaints)
        with _translated():
            cuda.init()
            self._context = cuda.Device(0).retain_primary_context()
        try:
            with self.entered():
                self._runtime = new_runtime(self.trt, self._logger, compatibility)
                self.engine = self.answer_of(self._runtime.deserialize_cuda_engine(plan), "loading the engine")
        except EngineError:
            self._context.detach()
            raise
        self.input, self.output = (self.engine.get_tensor_name(number) for number in (0, 1))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make the context this thread's; see Device."""
        with _translated():
            self._context.push()
        try:
            yield
        finally:
            with _translated():
                cuda.Context.pop()

    def open_channel(self, capacity: int) -> "TensorRtChannel":
        """See Device."""
        with _translated():
            return TensorRtChannel(self, capacity)

    def close(self) -> None:
        """Free the engine, then the context."""
        with self.entered():
            del self.engine, self._runtime
        self._context.detach()

    def answer_of(self, answer: Any, what: str) -> Any:
        """Return what TensorRT returned, or raise what it complained of: it returns None or False and logs why.

        Raises:
            DeviceFault, DeviceOutOfMemory
        """
        complaints = self._complaints.take()
        if answer is None or answer is False:
            raise fault_of(f"{what} failed: {complaints or 'TensorRT does not say why'}")
        return answer


class TensorRtChannel:
    """A stream, an execution context, and pinned and device memory for `capacity` images; see Channel."""

    def __init__(self, device: TensorRtDevice, capacity: int) -> None:
        self.capacity = capacity
        self._device = device
        self._owned: list[Any] = []
        self._stream: Any = None
        self._done: Any = None
        self._execution: Any = None
        self._memory: Any = None
        self._memory_bytes = 0
        self._count = 0
        try:
            self._allocate()
        except BaseException:
            self.close()
            raise

    def begin(self, images: NDArray[np.uint8]) -> None:
        """See Channel."""
        count = len(images)
        self._pinned_images[:count] = images
        try:
            with _translated():
                self._set_count(count)
                cuda.memcpy_htod_async(self._device_images, self._pinned_images[:count], self._stream)
                self._device.answer_of(self._execution.execute_async_v3(self._stream.handle), "inference")
                cuda.memcpy_dtoh_async(self._pinned_answers[:count], self._device_answers, self._stream)
                self._done.record(self._stream)
        except EngineError:
            # What did begin still uses the buffers.
            with suppress(cuda.Error):
                self._stream.synchronize()
            raise

    def finish(self) -> NDArray[np.float32]:
        """See Channel. The event blocks, so that a waiting thread leaves its core to those that decode."""
        with _translated():
            self._done.synchronize()
        return np.array(self._pinned_answers[: self._count])

    def close(self) -> None:
        """Free everything, the execution context first: it uses the memory."""
        self._execution = None
        self._pinned_images = self._pinned_answers = np.empty(0)
        if self._memory is not None:
            self._owned.append(self._memory)
            self._memory = None
        while self._owned:
            self._owned.pop().free()
        self._stream = self._done = None

    def _allocate(self) -> None:
        device = self._device
        self._stream = cuda.Stream()
        self._done = cuda.Event(cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING)
        self._pinned_images = self._pinned((self.capacity, HEIGHT, WIDTH, 3), np.uint8)
        self._pinned_answers = self._pinned((self.capacity,), np.float32)
        self._device_images = self._on_device(self._pinned_images.nbytes)
        self._device_answers = self._on_device(self._pinned_answers.nbytes)
        self._execution = device.answer_of(new_execution_context(device.trt, device.engine), "making a context")
        self._set_count(self.capacity)
        addresses = {device.input: self._device_images, device.output: self._device_answers}
        for name, memory in addresses.items():
            device.answer_of(self._execution.set_tensor_address(name, int(memory)), "binding memory")

    def _set_count(self, count: int) -> None:
        """Prepare for so many images, with the memory that layers need for them, not for the most the engine takes."""
        if count == self._count:
            return
        shape = (count, HEIGHT, WIDTH, 3)
        self._device.answer_of(self._execution.set_input_shape(self._device.input, shape), "setting the batch size")
        self._count = 0
        # Never nothing: a context that needs memory for some shapes wants some for all.
        needed = max(_LEAST_BYTES, int(self._execution.update_device_memory_size_for_shapes()))
        if needed > self._memory_bytes:  # fewer images need more memory now and then
            if self._memory is not None:
                self._memory.free()
            self._memory, self._memory_bytes = None, 0
            self._memory = cuda.mem_alloc(needed)
            self._memory_bytes = needed
            self._execution.set_device_memory(int(self._memory), needed)
        self._count = count

    def _pinned(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Page-locked memory, which the GPU copies from and to by itself."""
        array: NDArray[Any] = cuda.pagelocked_empty(shape, dtype)
        self._owned.append(array.base)
        return array

    def _on_device(self, size: int) -> Any:
        memory = cuda.mem_alloc(size)
        self._owned.append(memory)
        return memory


@contextmanager
def _translated() -> Iterator[None]:
    """Raise PyCUDA's errors as ours."""
    try:
        yield
    except cuda.Error as error:
        raise fault_of(str(error)) from error


class _Complaints(threading.local):
    """What TensorRT logged as errors in this thread: calls of other threads have complaints of their own."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Keep an error."""
        self._lines.append(line)

    def take(self) -> str:
        """Return what was kept since the last time, and forget it."""
        lines, self._lines = self._lines, []
        return "; ".join(lines)


def _make_logger(trt: Any, complaints: _Complaints) -> Any:
    """Make a logger that keeps errors; nothing may be raised out of it."""
    base = trt.ILogger

    class Complaining(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.Severity.ERROR, base.Severity.INTERNAL_ERROR):
                complaints.add(message)

    return Complaining()
