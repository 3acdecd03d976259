"""What differs between TensorRT 10, TensorRT 11 and TensorRT-RTX. Everything else is one code for all three."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from core.errors import EngineError
from worker.engines.key import Compatibility, FlavourName


@dataclass(frozen=True)
class Flavour:
    """One of NVIDIA's two libraries.

    Attributes:
        module: what is imported.
        is_portable: it builds without a GPU, and its engines run on every GPU that it supports; kernels are made when
            the engine is loaded. TensorRT-RTX refuses timing caches there: they make it ask for a GPU.
        install: what to say to whoever lacks it.
    """

    name: FlavourName
    module: str
    is_portable: bool
    install: str

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported; does not import it."""
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> Any:  # the two modules have no common type
        """Import the library.

        Raises:
            EngineError: it is missing or broken.
        """
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(f"{self.module} cannot be imported ({error}): {self.install}") from error


TENSORRT = Flavour("tensorrt", "tensorrt", is_portable=False, install="pip install 'histobatch[gpu]'")
TENSORRT_RTX = Flavour("tensorrt-rtx", "tensorrt_rtx", is_portable=True, install="pip install tensorrt_rtx")
# In the order of preference where both are installed.
FLAVOURS = (TENSORRT, TENSORRT_RTX)


def find_flavour(name: str) -> Flavour:
    """Return the flavour of this name.

    Raises:
        EngineError: there is none.
    """
    for flavour in FLAVOURS:
        if flavour.name == name:
            return flavour
    raise EngineError(f"no target {name!r}: choose {' or '.join(flavour.name for flavour in FLAVOURS)}")


def network_flags(trt: Any) -> int:
    """Ask for types as the graph has them; TensorRT 11 knows nothing else and may drop the flag one day."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def make_compatible(flavour: Flavour, trt: Any, config: Any, wanted: Compatibility) -> None:
    """Have the engine run on more than this GPU and this version.

    Raises:
        EngineError: the flavour knows no such builds.
    """
    if flavour.is_portable and (wanted.hardware or wanted.version):
        raise EngineError(
            f"{flavour.name} engines run on every supported GPU as they are, and on no other version: "
            "leave out --hardware-compatible and --version-compatible"
        )
    if wanted.hardware:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if wanted.version:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def use_timing_cache(flavour: Flavour, config: Any, known: bytes) -> bool:
    """Have the builder use and extend what it learnt before; whether there will be something to keep."""
    if flavour.is_portable:
        return False
    for content in dict.fromkeys((known, b"")):  # what does not load is replaced by an empty one
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    return False


def read_timing_cache(config: Any) -> bytes | None:
    """Return what the builder learnt, if anything."""
    cache = config.get_timing_cache()
    return None if cache is None else bytes(memoryview(cache.serialize()))


def new_runtime(trt: Any, logger: Any, compatibility: Compatibility) -> Any:
    """Make what loads engines. A version-compatible engine brings code of its own, which must be allowed."""
    runtime = trt.Runtime(logger)
    if compatibility.version:
        runtime.engine_host_code_allowed = True
    return runtime


def new_execution_context(trt: Any, engine: Any) -> Any:
    """Make a context whose memory we bring, so that fewer images need less of it; None where it cannot be made."""
    return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
