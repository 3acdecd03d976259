"""The CPU engine: OpenVINO. The only file of the worker that imports openvino."""

import queue
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from core.bundle import Bundle, Precision
from core.errors import EngineError
from core.imaging import HEIGHT, WIDTH

# CPU time an image, measured: 4.2 ms in calls of 1, 3.1 of 4, 2.8 of 8, 2.7 of 16 and of 32.
BEST_BATCH = 16


class OpenVinoEngine:
    """Runs the bundle's INT8 graph, or its ONNX graph in float32, on the CPU, one stream a core."""

    max_batch = 64
    best_batch = BEST_BATCH

    def __init__(self, bundle: Bundle, precision: Precision = "int8", threads: int = 0) -> None:
        """Compile the graph.

        Args:
            bundle: a verified bundle.
            precision: "int8" for the quantised graph, "fp32" for the ONNX graph computed in float32.
            threads: CPU threads to use; 0 takes every core this process may run on.

        Raises:
            EngineError: the bundle lacks the graph, or OpenVINO refuses it.
        """
        self.name = f"openvino-{precision}"
        graph = _graph_file(bundle, precision)
        core = openvino.Core()
        hints: dict[str, object] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads,
            # What is not INT8 is computed in float32. Left to itself, OpenVINO takes bfloat16 on processors that have
            # it: an eighth faster, but the same image would get another probability than on the machine beside.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._compiled = core.compile_model(core.read_model(graph), "CPU", hints)
            self.parallel_calls = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
            for _ in range(self.parallel_calls):
                self._idle.put(self._compiled.create_infer_request())
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile {graph}: {error}") from error

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (N,) for RGB uint8 (N, 96, 144, 3); see Engine."""
        request = self._idle.get()
        try:
            outputs = request.infer({0: images}, share_inputs=True)
            return np.array(outputs[0], dtype=np.float32).reshape(len(images))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on {len(images)} images: {error}") from error
        finally:
            self._idle.put(request)

    def warm_up(self) -> None:
        """Run every stream's shapes once."""
        self.classify(np.zeros((self.best_batch, HEIGHT, WIDTH, 3), np.uint8))

    def close(self) -> None:
        """Drop the requests and the compiled graph."""
        while not self._idle.empty():
            self._idle.get()
        del self._compiled


def _graph_file(bundle: Bundle, precision: Precision) -> Path:
    path = bundle.file("onnx", "fp16") if precision == "fp32" else bundle.file("openvino", precision)
    if path is None:
        raise EngineError(f"bundle {bundle.folder} has no graph for openvino-{precision}: export it again")
    return path
