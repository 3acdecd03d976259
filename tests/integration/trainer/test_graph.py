"""The exported graph: what every engine may rely on."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from core.imaging import decode_rgb
from tests.conftest import SAMPLES
from trainer.calibrate import apply_temperature
from trainer.fit import predict
from trainer.graph import export_onnx, fuse_batch_norm
from trainer.network import Classifier

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A network whose BatchNorm statistics are not the trivial ones."""
    torch.manual_seed(0)
    network = Classifier("v1")
    network.freeze_all_but(("bn1", "layer1", "layer2", "layer3", "layer4"))
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(8, 3, 96, 144) * 255)
    return network.eval()


@pytest.fixture(scope="module")
def onnx_file(network: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(network, path, "fp16")
    return path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([decode_rgb(path.read_bytes()) for path in sorted(SAMPLES.glob("SOB_*"))])


def test_the_contract_of_the_graph(onnx_file: Path) -> None:
    """uint8 (N, 96, 144, 3) in, float32 (N,) out, N free, under fixed names."""
    graph = onnx.load(onnx_file).graph
    (entry,), (result,) = graph.input, graph.output
    sizes = [size.dim_value for size in entry.type.tensor_type.shape.dim]
    assert (entry.name, entry.type.tensor_type.elem_type, sizes) == ("images", onnx.TensorProto.UINT8, [0, 96, 144, 3])
    assert (result.name, result.type.tensor_type.elem_type) == ("probability", onnx.TensorProto.FLOAT)
    assert len(result.type.tensor_type.shape.dim) == 1


def test_uint8_is_cast_before_anything_else(onnx_file: Path) -> None:
    """TensorRT takes uint8 only as a network input that is cast at once."""
    graph = onnx.load(onnx_file).graph
    readers = [node.op_type for node in graph.node if "images" in node.input]
    assert readers == ["Cast"]


def test_weights_are_half_and_the_sigmoid_is_not(onnx_file: Path) -> None:
    """Convolutions hold float16, so that strongly typed engines compute in it; the sigmoid works in float32."""
    model = onnx.shape_inference.infer_shapes(onnx.load(onnx_file))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert kinds[node.input[1]] == onnx.TensorProto.FLOAT16
    (sigmoid,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert types[sigmoid.input[0]] == onnx.TensorProto.FLOAT


def test_the_file_tells_nothing_of_this_machine(onnx_file: Path) -> None:
    """The exporter notes stack traces with paths; they are not published."""
    assert str(Path.cwd()).encode() not in onnx_file.read_bytes()


@pytest.mark.parametrize("count", [1, 3, 12])
def test_half_precision_says_what_the_network_says(
    network: Classifier, onnx_file: Path, pixels: np.ndarray, count: int
) -> None:
    """Another runtime, any number of images: the probability moves by less than 0.005."""
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (actual,) = session.run(["probability"], {"images": pixels[:count]})
    assert actual.dtype == np.float32
    assert np.abs(actual - predict(network, pixels[:count])).max() < 0.005


def test_the_temperature_is_inside_the_graph(network: Classifier, pixels: np.ndarray, tmp_path: Path) -> None:
    """Logits leave divided, so that every engine gives calibrated probabilities; the network stays as it was."""
    before = predict(network, pixels)
    export_onnx(network, tmp_path / "model.onnx", "fp32", temperature=2.5)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (actual,) = session.run(["probability"], {"images": pixels})
    assert np.allclose(actual, apply_temperature(before, 2.5), atol=1e-4)
    assert np.array_equal(predict(network, pixels), before)


def test_folding_batch_norm_changes_no_answer(network: Classifier, pixels: np.ndarray) -> None:
    """The fused network is the same function, and the original is left as it was."""
    before = predict(network, pixels)
    assert np.allclose(predict(fuse_batch_norm(network), pixels), before, atol=1e-5)
    assert np.array_equal(predict(network, pixels), before)
