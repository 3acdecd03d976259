"""A GPU engine from the bundle's graph to readiness: found or built, loaded, warmed up, let through the gate."""

from collections.abc import Callable
from time import monotonic

import structlog

from core.bundle import Bundle
from core.errors import EngineError
from core.settings import Settings
from worker.engines.build_progress import Listener
from worker.engines.cache import EngineCache, Provided
from worker.engines.device import Device, DeviceFault
from worker.engines.driver import Driver
from worker.engines.flavours import Flavour
from worker.engines.gate import pass_gate, read_canaries
from worker.engines.key import Compatibility, EngineKey
from worker.engines.place import engines_folder, gpu_profile
from worker.engines.provision import Wanted, provide_engine
from worker.engines.streams import StreamedEngine

log = structlog.get_logger()

_TELL_EVERY_S = 10.0
# Loads an engine's bytes onto the device.
Load = Callable[[Flavour, bytes, Compatibility], Device]


def open_gpu_engine(
    bundle: Bundle, settings: Settings, flavour: Flavour, driver: Driver, load: Load | None = None
) -> StreamedEngine:
    """Return an engine that may serve.

    Args:
        bundle: verified.
        settings: say where engines lie and what they are built for.
        flavour: which library.
        driver: what the driver said.
        load: loads an engine onto a device; without it the real one.

    Raises:
        EngineError: it cannot be built, does not load, or the gate refuses it.
    """
    try:
        return _open(bundle, settings, flavour, driver, load or _load_real)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        # A version that nobody has met here may have another interface: another engine can serve all the same.
        raise EngineError(f"{flavour.module} is not as expected: {type(error).__name__}: {error}") from error


def _open(bundle: Bundle, settings: Settings, flavour: Flavour, driver: Driver, load: Load) -> StreamedEngine:
    graph = bundle.file("onnx", "fp16")
    if graph is None:
        raise EngineError(f"bundle {bundle.folder} has no FP16 graph: export it again")
    wanted = Wanted(graph=graph.read_bytes(), flavour=flavour, driver=driver, profile=gpu_profile(settings))
    cache = EngineCache(engines_folder(settings), _observe)
    device, provided = _load(cache, wanted, load)
    try:
        engine = StreamedEngine(device, f"{flavour.name}-fp16", wanted.profile, settings.gpu_streams)
    except EngineError:
        device.close()
        raise
    try:
        engine.warm_up()
        pass_gate(engine, read_canaries(bundle), provided.folder)
    except EngineError:
        engine.close()
        raise
    return engine


def _load(cache: EngineCache, wanted: Wanted, load: Load) -> tuple[Device, Provided]:
    """Load the fastest engine that is there; what does not load is built anew, once."""
    keys = wanted.usable_keys()
    key = next((key for key in keys if cache.has(key)), keys[0])
    provided = _provide(cache, wanted, key)
    try:
        return load(wanted.flavour, provided.plan, key.compatibility), provided
    except DeviceFault as fault:
        if provided.why_built is not None or fault.is_sticky:
            raise
        log.warning("engine_discarded", engine=key.name, why=str(fault))
    cache.discard(key.name)
    provided = _provide(cache, wanted, keys[0])
    return load(wanted.flavour, provided.plan, keys[0].compatibility), provided


def _provide(cache: EngineCache, wanted: Wanted, key: EngineKey) -> Provided:
    start = monotonic()
    provided = provide_engine(cache, wanted, key, _telling(key))
    state = "found" if provided.why_built is None else "built"
    log.info("engine_provided", engine=key.name, state=state, seconds=round(monotonic() - start, 1))
    return provided


def _load_real(flavour: Flavour, plan: bytes, compatibility: Compatibility) -> Device:
    try:
        from worker.engines.tensorrt import TensorRtDevice  # noqa: PLC0415 - needs a driver
    except ImportError as error:
        raise EngineError(f"pycuda cannot be imported ({error}): pip install 'histobatch[gpu]'") from error
    return TensorRtDevice(flavour, plan, compatibility)


def _observe(event: str, key: EngineKey, why: str) -> None:
    log.info(event, engine=key.name, why=why)


def _telling(key: EngineKey) -> Listener:
    """Log now and then how far a build is: it may take minutes, in which the worker does nothing else."""
    told_at = monotonic()

    def listen(share: float, _: str) -> None:
        nonlocal told_at
        if monotonic() - told_at >= _TELL_EVERY_S:
            told_at = monotonic()
            log.info("engine_building", engine=key.name, percent=round(share * 100))

    return listen
