"""INT8 for the CPU: post-training quantisation of the serving graph with NNCF. The only file that imports nncf."""

from pathlib import Path

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray

CALIBRATION_IMAGES = 300
# The stem and the first block, a tenth of the work, stay in floating point: their channels differ so much in range
# that 8 bits for all of them halve the fidelity of the whole (largest difference 0.24 instead of 0.13).
FLOAT_CONVOLUTIONS = 5


def quantise(onnx_fp32: Path, calibration: NDArray[np.uint8], xml: Path) -> None:
    """Write an INT8 OpenVINO graph: xml, and its weights as .bin beside it.

    Args:
        onnx_fp32: the serving graph in float32, so that rounding happens once.
        calibration: RGB uint8 (N, 96, 144, 3) training images, from which the ranges of activations are measured.
        xml: where to write.
    """
    # convert_model folds constants; a plain read_model leaves the biases behind shape arithmetic, where NNCF does not
    # recognise them and silently corrects none (logits were off by 0.18 on average, and are by 0.01 now).
    model = openvino.convert_model(onnx_fp32)
    quantised = nncf.quantize(
        model,
        nncf.Dataset([image[np.newaxis] for image in calibration]),
        subset_size=len(calibration),
        # Ranges on both sides of zero only where activations have both: ReLU's outputs keep all 256 codes.
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=_first_convolutions(model)),
    )
    openvino.save_model(quantised, xml, compress_to_fp16=True)


def _first_convolutions(model: openvino.Model) -> list[str]:
    """Name the convolutions up to the first block's end, which in every topological order come first."""
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    return [op.get_friendly_name() for op in convolutions[:FLOAT_CONVOLUTIONS]]


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
