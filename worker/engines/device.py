"""The seam between what the GPU engine decides and the libraries that drive a GPU."""

import re
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import EngineError


class DeviceFault(EngineError):
    """The device, its driver or its library failed.

    Attributes:
        is_sticky: the context is lost: every call after this one fails too, until the process ends.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.is_sticky = bool(_STICKY.search(message))


class DeviceOutOfMemory(EngineError):
    """The device's memory does not suffice; less may."""


# CUDA's errors after which a context is of no use, as cuGetErrorString and cudaGetErrorName put them. Where the text
# says nothing, the worker finds out by an empty image whether the engine is broken.
_STICKY = re.compile(
    r"illegal memory access|illegal instruction|illegal address|misaligned address|invalid program counter|"
    r"address space|hardware stack|unspecified launch failure|launch failed|launch timed out|launch timeout|"
    r"device-side assert|uncorrectable|unknown error|context is destroyed|device lost|fallen off the bus|MPS|"
    r"cudaErrorIllegalAddress|cudaErrorLaunchFailure|cudaErrorLaunchTimeout|cudaErrorAssert|"
    r"cudaErrorMisalignedAddress|cudaErrorIllegalInstruction|cudaErrorInvalidPc|cudaErrorECCUncorrectable|"
    r"cudaErrorHardwareStackError|cudaErrorInvalidAddressSpace|cudaErrorUnknown|cudaErrorContextIsDestroyed",
    re.IGNORECASE,
)
_MEMORY = re.compile(r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|memory allocation", re.IGNORECASE)


def fault_of(message: str) -> DeviceFault | DeviceOutOfMemory:
    """Sort what a library said of its failure."""
    if _MEMORY.search(message) and not _STICKY.search(message):
        return DeviceOutOfMemory(message)
    return DeviceFault(message)


class Channel(Protocol):
    """One stream with its buffers: at most one call is on its way in it.

    Attributes:
        capacity: the most images of a call.
    """

    capacity: int

    def begin(self, images: NDArray[np.uint8]) -> None:
        """Start copying in, inference and copying out; return before they are done.

        Raises:
            DeviceFault, DeviceOutOfMemory: nothing is on its way then.
        """
        ...

    def finish(self) -> NDArray[np.float32]:
        """Wait for what was begun; return float32 (N,), the caller's own.

        Raises:
            DeviceFault, DeviceOutOfMemory: the answers are lost.
        """
        ...

    def close(self) -> None:
        """Free the stream and its buffers; a second time does nothing."""
        ...


class Device(Protocol):
    """A GPU with an engine on it."""

    def entered(self) -> AbstractContextManager[None]:
        """Make the device's context this thread's; everything below, and every channel, needs it."""
        ...

    def open_channel(self, capacity: int) -> Channel:
        """Make a stream with buffers for so many images.

        Raises:
            DeviceFault, DeviceOutOfMemory
        """
        ...

    def close(self) -> None:
        """Free the device. Every channel must be closed."""
        ...
