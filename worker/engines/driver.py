"""What NVIDIA's driver says of this machine, asked without a library of CUDA and without making a context."""

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

_VERSION_FILE = Path("/proc/driver/nvidia/version")
_NAME_BYTES = 256
# Of CUdevice_attribute.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one, that this process may use."""

    name: str
    capability: tuple[int, int]

    @property
    def label(self) -> str:
        """Compute capability and name, such as "sm_90 NVIDIA H200"."""
        return f"sm_{self.capability[0]}{self.capability[1]} {self.name}"


@dataclass(frozen=True)
class Driver:
    """What the driver says.

    Attributes:
        version: of the driver; empty where there is none.
        gpus: those that CUDA_VISIBLE_DEVICES leaves to this process; it takes the first.
        obstacle: why there are none.
    """

    version: str = ""
    gpus: tuple[Gpu, ...] = ()
    obstacle: str = ""


def ask_driver(library: str = "libcuda.so.1") -> Driver:
    """Ask the driver which GPUs this process may use.

    Args:
        library: the driver's own, which is there where the driver is.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Driver(obstacle=f"no NVIDIA driver is here ({library} does not load)")
    if status := cuda.cuInit(0):
        return Driver(version=_version(cuda), obstacle=f"the NVIDIA driver finds no GPU ({_error_name(cuda, status)})")
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_describe(cuda, ordinal) for ordinal in range(count.value))
    return Driver(_version(cuda), gpus, "" if gpus else "CUDA_VISIBLE_DEVICES leaves this process no GPU")


def _describe(cuda: ctypes.CDLL, ordinal: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def _version(cuda: ctypes.CDLL) -> str:
    """The driver's own version, or that of CUDA which it brings where the kernel module tells nothing (WSL)."""
    try:
        text = _VERSION_FILE.read_text()
    except OSError:
        text = ""
    if found := re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text):
        return found[1]
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    return f"cuda-{number.value // 1000}.{number.value % 1000 // 10}"


def _error_name(cuda: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorName(status, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {status}"
