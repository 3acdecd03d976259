"""From the ONNX graph to an engine's bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.errors import EngineError
from core.imaging import HEIGHT, WIDTH
from worker.engines.build_progress import BuildProgress, Listener, ignore
from worker.engines.flavours import (
    Flavour,
    make_compatible,
    network_flags,
    read_timing_cache,
    use_timing_cache,
)
from worker.engines.key import EXACT, Compatibility, Profile


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What is built.

    Attributes:
        graph: content of the ONNX file.
        timing_cache: what earlier builds on this GPU learnt; empty for nothing.
    """

    flavour: Flavour
    graph: bytes
    profile: Profile
    compatibility: Compatibility = EXACT
    timing_cache: bytes = b""


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine's bytes, what the builder said, and what it learnt."""

    plan: bytes
    log: str
    seconds: float
    timing_cache: bytes | None = None


@dataclass
class _Interruption:
    """An exception that came up inside a callback. It must not cross the library, which would end the process."""

    error: BaseException | None = None

    def guard(self, work: Callable[[], None]) -> bool:
        """Do the work; whether the build may go on."""
        if self.error is None:
            try:
                work()
            except BaseException as error:  # a signal's SystemExit too: it is raised again after the build
                self.error = error
        return self.error is None


@dataclass
class _Callbacks:
    """What the library calls back into, and what it said."""

    trt: Any
    progress: BuildProgress
    lines: list[str] = field(default_factory=list)
    interruption: _Interruption = field(default_factory=_Interruption)

    def logger(self) -> Any:
        callbacks, base = self, self.trt.ILogger

        class BuildLog(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity != base.Severity.VERBOSE:
                    line = f"{severity.name} {message}"
                    callbacks.interruption.guard(lambda: callbacks.lines.append(line))

        return BuildLog()

    def monitor(self) -> Any:
        progress, interruption, base = self.progress, self.interruption, self.trt.IProgressMonitor

        class Monitor(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                interruption.guard(lambda: progress.begin(phase_name, parent_phase, num_steps))

            def step_complete(self, phase_name: str, step: int) -> bool:
                return interruption.guard(lambda: progress.step(phase_name, step))

            def phase_finish(self, phase_name: str) -> None:
                interruption.guard(lambda: progress.finish(phase_name))

        return Monitor()

    def worst_lines(self) -> str:
        """What the library complained of, last."""
        complaints = [line for line in self.lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
        return "; ".join(complaints[-3:]) or "it does not say why"


def build_engine(request: BuildRequest, listener: Listener = ignore) -> BuiltEngine:
    """Build an engine; takes seconds (TensorRT-RTX) to minutes (TensorRT).

    Raises:
        EngineError: the library is missing, refuses the graph, or fails.
    """
    start = time.monotonic()
    trt = request.flavour.load()
    callbacks = _Callbacks(trt, BuildProgress(listener))
    logger, monitor = callbacks.logger(), callbacks.monitor()
    builder = trt.Builder(logger)
    if builder is None:
        raise EngineError(f"{request.flavour.name} cannot build here: {callbacks.worst_lines()}")
    network = builder.create_network(network_flags(trt))
    _parse(trt, network, logger, request.graph)
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    make_compatible(request.flavour, trt, config, request.compatibility)
    keeps_timing = use_timing_cache(request.flavour, config, request.timing_cache)
    _add_profile(builder, config, network.get_input(0).name, request.profile)
    plan = builder.build_serialized_network(network, config)
    if callbacks.interruption.error is not None:
        raise callbacks.interruption.error
    if plan is None:
        raise EngineError(f"{request.flavour.name} built no engine: {callbacks.worst_lines()}")
    return BuiltEngine(
        plan=bytes(memoryview(plan)),
        log="\n".join(callbacks.lines) + "\n",
        seconds=time.monotonic() - start,
        timing_cache=read_timing_cache(config) if keeps_timing else None,
    )


def _parse(trt: Any, network: Any, logger: Any, graph: bytes) -> None:
    """Read the graph, and see that it takes our images and gives our probabilities."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        first = parser.get_error(0).desc() if parser.num_errors else "it does not say why"
        raise EngineError(f"the ONNX graph cannot be compiled: {first}")
    images = network.get_input(0) if network.num_inputs == 1 else None
    answer = network.get_output(0) if network.num_outputs == 1 else None
    if (
        images is None
        or answer is None
        or (images.dtype, tuple(images.shape)) != (trt.DataType.UINT8, (-1, HEIGHT, WIDTH, 3))
        or (answer.dtype, tuple(answer.shape)) != (trt.DataType.FLOAT, (-1,))
    ):
        raise EngineError(
            f"this graph is none of ours: one input uint8 (N, {HEIGHT}, {WIDTH}, 3) and one output float32 (N,) are "
            "needed; `histobatch export` writes them"
        )


def _add_profile(builder: Any, config: Any, name: str, profile: Profile) -> None:
    bounds = builder.create_optimization_profile()
    sizes = (1, profile.opt_batch, profile.max_batch)
    bounds.set_shape(name, *((size, HEIGHT, WIDTH, 3) for size in sizes))
    if config.add_optimization_profile(bounds) < 0:
        raise EngineError(f"the batch sizes {sizes} were refused")
