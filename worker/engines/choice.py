"""Which engine classifies on this machine, and why."""

import importlib.util
from dataclasses import dataclass

import structlog

from core.bundle import Bundle, Precision
from core.errors import EngineError
from core.settings import Settings
from worker.engines.driver import Driver, ask_driver
from worker.engines.fake import FakeEngine
from worker.engines.flavours import FLAVOURS, find_flavour
from worker.engines.gate import pass_gate, read_canaries
from worker.engines.place import engines_folder
from worker.engines.protocol import Engine
from worker.engines.refusals import clear_refusal, note_refusal

log = structlog.get_logger()

_FP32 = "openvino-fp32"


@dataclass(frozen=True)
class EngineChoice:
    """An engine's kind and the sentence that says why it was picked."""

    kind: str
    why: str


@dataclass(frozen=True)
class Machine:
    """What decides: the driver's answer, and which packages can be imported."""

    driver: Driver
    packages: frozenset[str]

    @property
    def gpu_obstacle(self) -> str:
        """What keeps a GPU engine from serving; empty where nothing does."""
        obstacles = [self.driver.obstacle] if self.driver.obstacle else []
        if not self.packages & {flavour.module for flavour in FLAVOURS}:
            obstacles.append("tensorrt cannot be imported (pip install 'histobatch[gpu]')")
        if "pycuda" not in self.packages:
            obstacles.append("pycuda cannot be imported (pip install 'histobatch[gpu]')")
        return ", and ".join(obstacles)


def look_at_machine() -> Machine:
    """Ask the driver, and look for packages without importing them."""
    names = ("openvino", "pycuda", *(flavour.module for flavour in FLAVOURS))
    return Machine(ask_driver(), frozenset(name for name in names if importlib.util.find_spec(name) is not None))


def choose_engine(settings: Settings, machine: Machine | None = None) -> EngineChoice:
    """Pick the kind of engine without loading it.

    Raises:
        EngineError: the engine that the settings name, or every engine, is out of reach here.
    """
    return candidates(settings, machine)[0]


def candidates(settings: Settings, machine: Machine | None = None) -> list[EngineChoice]:
    """Name every engine that the settings allow and that may run here, the best first; loads none.

    Raises:
        EngineError: there is none.
    """
    if settings.engine == "fake":
        return [EngineChoice("fake", "HISTOBATCH_ENGINE names it; its results mean nothing")]
    machine = machine or look_at_machine()
    obstacle = machine.gpu_obstacle
    if settings.engine == "tensorrt" and obstacle:
        raise EngineError(f"HISTOBATCH_ENGINE names tensorrt, but {obstacle}")
    found = [] if settings.engine == "openvino" else _gpu_candidates(machine)
    if settings.engine != "tensorrt" and "openvino" in machine.packages:
        named = settings.engine == "openvino"
        found.append(EngineChoice("openvino", "HISTOBATCH_ENGINE names it" if named else _why_cpu(obstacle)))
        if not named and settings.precision != "fp32":
            # Where a processor computes eight bits otherwise than the one that recorded them.
            found.append(EngineChoice(_FP32, "it serves where eight bits do not"))
    if not found:
        raise EngineError("no engine can run here: install histobatch[cpu] for OpenVINO")
    return found


def load_engine(choice: EngineChoice, bundle: Bundle | None, settings: Settings) -> Engine:
    """Load the engine, run it once, and let it through the parity gate.

    Raises:
        EngineError: the engine does not load, or the gate refuses it; says why.
    """
    if choice.kind == "fake":
        return FakeEngine()
    if bundle is None:
        raise EngineError(f"engine {choice.kind} needs a model bundle")
    if choice.kind in ("openvino", _FP32):
        return _load_openvino(bundle, "fp32" if choice.kind == _FP32 else settings.precision)
    from worker.engines.gpu import open_gpu_engine  # noqa: PLC0415 - only where there is a GPU

    engine = open_gpu_engine(bundle, settings, find_flavour(choice.kind), ask_driver())
    clear_refusal(engines_folder(settings))
    return engine


def fall_back(
    refused: EngineChoice, error: EngineError, settings: Settings, machine: Machine | None = None
) -> EngineChoice:
    """Name the next engine that may serve instead of one that does not load, and say so where people look.

    Raises:
        EngineError: the settings allow no other.
    """
    log.error("engine_refused", engine=refused.kind, why=str(error))
    if refused.kind in {flavour.name for flavour in FLAVOURS}:
        note_refusal(engines_folder(settings), refused.kind, str(error))
    allowed = candidates(settings, machine)
    kinds = [choice.kind for choice in allowed]
    following = allowed[kinds.index(refused.kind) + 1 :] if refused.kind in kinds else allowed
    if not following:
        raise error
    return EngineChoice(following[0].kind, f"{refused.kind} was refused: {error}")


def _gpu_candidates(machine: Machine) -> list[EngineChoice]:
    if machine.gpu_obstacle:
        return []
    gpu = machine.driver.gpus[0]
    why = f"driver {machine.driver.version} offers {gpu.label}"
    return [EngineChoice(flavour.name, why) for flavour in FLAVOURS if flavour.module in machine.packages]


def _why_cpu(obstacle: str) -> str:
    return f"the CPU serves because {obstacle}" if obstacle else "it serves where no GPU engine can"


def _load_openvino(bundle: Bundle, precision: Precision) -> Engine:
    from worker.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - heavy, and an extra

    engine = OpenVinoEngine(bundle, precision)
    engine.warm_up()
    # Rounding to eight bits is in the bundle's own record, so that is what the canaries are compared with.
    reference = "openvino_int8" if precision == "int8" else "torch_fp32"
    canaries = read_canaries(bundle, reference)
    if canaries is None:
        log.warning("engine_not_judged", engine=engine.name, why="the bundle has no canaries for it")
        return engine
    try:
        pass_gate(engine, canaries)
    except EngineError:
        engine.close()
        raise
    return engine
