"""Whatever can run the network on this machine, behind one call; what cannot says why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.errors import EngineError
from core.settings import Settings

Classify = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Missing(Exception):
    """Why a contender cannot run here."""


@dataclass(frozen=True)
class Contender:
    """A way to run the network; `callers` threads keep it busy."""

    name: str
    classify: Classify
    callers: int


@contextmanager
def open_contender(name: str, bundle: Bundle, settings: Settings) -> Iterator[Contender]:
    """Open one.

    Raises:
        Missing: it cannot run here; says why.
    """
    if name in ("tensorrt", "tensorrt-rtx", "openvino"):
        yield from _ours(name, bundle, settings)
    elif name == "onnxruntime-cuda":
        yield Contender(name, _onnxruntime(bundle), 1)
    else:
        yield Contender(name, _torch(compiled=name == "torch-compiled"), 1)


def _ours(name: str, bundle: Bundle, settings: Settings) -> Iterator[Contender]:
    from worker.engines.choice import EngineChoice, load_engine, look_at_machine
    from worker.engines.flavours import find_flavour

    if name != "openvino":
        obstacle = look_at_machine().gpu_obstacle
        if obstacle or not find_flavour(name).is_installed:
            raise Missing(obstacle or f"{find_flavour(name).module} is not installed")
    try:
        engine = load_engine(EngineChoice(name, "benchmark"), bundle, settings)
    except EngineError as error:
        raise Missing(str(error)) from error
    yield Contender(name, engine.classify, engine.parallel_calls)
    engine.close()


def _onnxruntime(bundle: Bundle) -> Classify:
    if find_spec("onnxruntime") is None:
        raise Missing("onnxruntime is not installed")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Missing("this onnxruntime has no CUDA (onnxruntime-gpu has)")
    session = onnxruntime.InferenceSession(bundle.file("onnx", "fp16"), providers=["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise Missing("onnxruntime cannot use CUDA here")
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _torch(*, compiled: bool) -> Classify:
    """The same body with random weights: it takes as long."""
    if find_spec("torch") is None:
        raise Missing("torch is not installed")
    import torch
    from torchvision import models

    if not torch.cuda.is_available():
        raise Missing("torch sees no GPU")
    network = models.resnet50(weights=None, num_classes=1).eval().half().cuda().to(memory_format=torch.channels_last)
    run = torch.compile(network, dynamic=False) if compiled else network

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).cuda(non_blocking=True).permute(0, 3, 1, 2)
            answers = torch.sigmoid(run(pixels.half() / 255).float()).squeeze(1)
        return np.asarray(answers.cpu())

    return classify
