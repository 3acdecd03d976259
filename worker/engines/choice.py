"""Which engine classifies on this machine, and why."""

import importlib.util
from dataclasses import dataclass

from core.bundle import Bundle
from core.errors import EngineError
from core.settings import Settings
from worker.engines.fake import FakeEngine
from worker.engines.protocol import Engine


@dataclass(frozen=True)
class EngineChoice:
    """An engine's kind and the sentence that says why it was picked."""

    kind: str
    why: str


def choose_engine(settings: Settings) -> EngineChoice:
    """Pick the kind of engine without loading it.

    Raises:
        EngineError: the engine that the settings name, or every engine, is out of reach here.
    """
    if settings.engine == "fake":
        return EngineChoice("fake", "HISTOBATCH_ENGINE names it; its results mean nothing")
    gpu_obstacle = _tensorrt_obstacle()
    if settings.engine == "tensorrt":
        raise EngineError(f"HISTOBATCH_ENGINE names tensorrt, but {gpu_obstacle}")
    if importlib.util.find_spec("openvino") is None:
        raise EngineError("no engine can run here: install histobatch[cpu] for OpenVINO")
    if settings.engine == "openvino":
        return EngineChoice("openvino", "HISTOBATCH_ENGINE names it")
    return EngineChoice("openvino", f"the CPU serves because {gpu_obstacle}")


def load_engine(choice: EngineChoice, bundle: Bundle | None, settings: Settings) -> Engine:
    """Load the engine and run it once.

    Raises:
        EngineError: the engine does not load; says why.
    """
    if choice.kind == "fake":
        return FakeEngine()
    if bundle is None:
        raise EngineError(f"engine {choice.kind} needs a model bundle")
    from worker.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - heavy, and an extra

    engine = OpenVinoEngine(bundle, settings.precision)
    engine.warm_up()
    return engine


def _tensorrt_obstacle() -> str:
    """Say what keeps TensorRT from serving."""
    missing = [name for name in ("tensorrt", "pycuda") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be imported (histobatch[gpu])"
    return "this version has no TensorRT engine yet"
