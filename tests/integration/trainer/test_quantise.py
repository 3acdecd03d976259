"""INT8 keeps what the network says, and gives layers back to floating point where it would not."""

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor, nn

from trainer.quantise import FLOAT_CONVOLUTIONS, Calibration, calibration_rows, quantise

pytestmark = pytest.mark.trainer

FIRST = FLOAT_CONVOLUTIONS[0]
CONVOLUTIONS = FLOAT_CONVOLUTIONS[1] + 2


class SmallGraph(nn.Module):
    """The signature of the serving graph around a chain of convolutions, some channels far larger than others."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU()]
        for _ in range(CONVOLUTIONS - 1):
            layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        for layer in layers[::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # so that depth swallows no difference
        self.last = nn.Linear(8, 1)

    def forward(self, images_nhwc: Tensor) -> Tensor:
        """Return probabilities (N,)."""
        images = images_nhwc.to(torch.float32).permute(0, 3, 1, 2) / 64 - 2
        return torch.sigmoid(self.last(self.layers(images).mean(dim=(2, 3)))).squeeze(1)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    graph = SmallGraph().eval()
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    example = torch.zeros((2, 96, 144, 3), dtype=torch.uint8)
    dynamic = {"images_nhwc": {0: torch.export.Dim("n")}}
    program = torch.onnx.export(graph, (example,), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(path, external_data=False)
    return path


def _said(model: openvino.Model, images: np.ndarray) -> np.ndarray:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(image[np.newaxis])[0] for image in images])


@pytest.fixture(scope="module")
def calibration(onnx_file: Path) -> Calibration:
    """Images that differ little, cut amid them: rounding to 8 bits must move some to the other side."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 96, 144, 3), dtype=np.uint8)
    expected = _said(openvino.convert_model(onnx_file), images).astype(np.float32)
    return Calibration(images=images[:10], judged=images, expected=expected, threshold=float(np.median(expected)))


def test_quantising_is_plain_where_that_is_good_enough(
    onnx_file: Path, calibration: Calibration, tmp_path: Path
) -> None:
    """Everything behind the first convolutions computes in 8 bits."""
    assert quantise(onnx_file, calibration, 0.0, tmp_path / "model.xml") == CONVOLUTIONS - FIRST
    assert (tmp_path / "model.bin").is_file()


def test_stages_return_to_floating_point_until_labels_agree(
    onnx_file: Path, calibration: Calibration, tmp_path: Path
) -> None:
    """Where rounding moves labels, fewer convolutions are quantised, and more labels stay."""
    quantise(onnx_file, calibration, 0.0, tmp_path / "plain.xml")
    left = quantise(onnx_file, calibration, 0.995, tmp_path / "controlled.xml")
    assert left < CONVOLUTIONS - FIRST

    def agreement(name: str) -> float:
        said = _said(openvino.Core().read_model(tmp_path / name), calibration.judged)
        return float(np.mean((said >= calibration.threshold) == (calibration.expected >= calibration.threshold)))

    assert agreement("plain.xml") < agreement("controlled.xml")


def test_calibration_takes_patients_in_turn() -> None:
    """A patient with most of the images gets no more than the others have to give."""
    patients = np.array(["a"] * 80 + ["b"] * 5 + ["c"] * 15)
    chosen = patients[calibration_rows(patients, 15, seed=0)]
    assert {name: int(np.sum(chosen == name)) for name in "abc"} == {"a": 5, "b": 5, "c": 5}
