"""INT8 for the CPU: post-training quantisation of the serving graph with NNCF. The only file that imports nncf."""

from dataclasses import dataclass
from pathlib import Path

import nncf
import numpy as np
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from numpy.typing import NDArray

from trainer.verify import label_agreement

CALIBRATION_IMAGES = 300
# How many convolutions, counted from the input, stay in floating point: at first the stem and the first block, a tenth
# of the work, because their channels differ so much in range that 8 bits for all of them halve the fidelity of the
# whole (largest difference 0.24 instead of 0.13). Where labels still move, whole stages follow: 1, then 2, then 3.
FLOAT_CONVOLUTIONS = (5, 11, 24, 43)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a graph is quantised with, and what it must then still say.

    Attributes:
        images: RGB uint8 (N, 96, 144, 3), from which the ranges of activations are measured.
        judged: RGB uint8 (M, 96, 144, 3), on which labels are compared.
        expected: what the network says of them in float32, (M,).
        threshold: that makes labels of probabilities.
    """

    images: NDArray[np.uint8]
    judged: NDArray[np.uint8]
    expected: NDArray[np.float32]
    threshold: float


def quantise(onnx_fp32: Path, calibration: Calibration, min_agreement: float, xml: Path) -> int:
    """Write an INT8 OpenVINO graph: xml, and its weights as .bin beside it.

    Post-training quantisation, with as few convolutions in floating point as keep the labels; whether that was
    enough, the caller judges on the engine that serves. NNCF's own accuracy control compiles with bfloat16 where the
    processor has it, whose rounding hides what is looked for here.

    Args:
        onnx_fp32: the serving graph in float32, so that rounding happens once.
        calibration: images, and what the network says of them.
        min_agreement: share of labels that must stay.
        xml: where to write.

    Returns:
        The number of convolutions that compute in 8 bits.
    """
    for in_float in FLOAT_CONVOLUTIONS:
        quantised = _quantise_from(onnx_fp32, in_float, calibration)
        if _agreement(quantised, calibration) >= min_agreement:
            break
    openvino.save_model(quantised, xml, compress_to_fp16=True)
    return _convolutions_in_int8(quantised)


def _quantise_from(onnx_fp32: Path, in_float: int, calibration: Calibration) -> openvino.Model:
    # convert_model folds constants; a plain read_model leaves the biases behind shape arithmetic, where NNCF does not
    # recognise them and silently corrects none (logits were off by 0.18 on average, and are by 0.01 now).
    model = openvino.convert_model(onnx_fp32)
    return nncf.quantize(
        model,
        nncf.Dataset([image[np.newaxis] for image in calibration.images]),
        subset_size=len(calibration.images),
        # Ranges on both sides of zero only where activations have both: ReLU's outputs keep all 256 codes.
        preset=nncf.QuantizationPreset.MIXED,
        # In every topological order the convolutions come as the images pass them.
        ignored_scope=nncf.IgnoredScope(names=[op.get_friendly_name() for op in _convolutions(model)[:in_float]]),
        advanced_parameters=_ranges(),
    )


def _ranges() -> nncf.AdvancedQuantizationParameters:
    """Ranges that lose least over all values, instead of ranges that reach the largest.

    On held-out patients logits are then off by 0.16 instead of 0.20 (standard deviation).
    """
    return nncf.AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM)


def _agreement(model: openvino.Model, calibration: Calibration) -> float:
    """Return the share of judged images whose label a graph keeps, computed as the serving engine does."""
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    said = [compiled(image[np.newaxis])[0][0] for image in calibration.judged]
    return label_agreement(calibration.expected, np.array(said, np.float32), calibration.threshold)


def _convolutions(model: openvino.Model) -> list[openvino.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]


def _convolutions_in_int8(model: openvino.Model) -> int:
    """Count the convolutions whose activations are rounded to 8 bits before they come."""
    sources = (op.input_value(0).get_node().get_type_name() for op in _convolutions(model))
    return sum(source == "FakeQuantize" for source in sources)


def calibration_rows(patients: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Choose images for calibration, patients in turn, so that none of them dominates the ranges."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(patients))
    turn = np.zeros(len(patients), np.int64)
    seen: dict[str, int] = {}
    for row in order:
        turn[row] = seen.get(patients[row], 0)
        seen[patients[row]] = int(turn[row]) + 1
    by_turn = order[np.argsort(turn[order], kind="stable")]
    return np.sort(by_turn[:count])
