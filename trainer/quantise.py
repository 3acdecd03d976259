"""INT8 for the CPU: post-training quantisation of the serving graph with NNCF. The only file that imports nncf."""

from pathlib import Path

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray

CALIBRATION_IMAGES = 300


def quantise(onnx_fp32: Path, calibration: NDArray[np.uint8], xml: Path) -> None:
    """Write an INT8 OpenVINO graph: xml, and its weights as .bin beside it.

    Args:
        onnx_fp32: the serving graph in float32, so that rounding happens once.
        calibration: RGB uint8 (N, 96, 144, 3) training images, from which the ranges of activations are measured.
        xml: where to write.
    """
    model = openvino.Core().read_model(onnx_fp32)
    dataset = nncf.Dataset([image[np.newaxis] for image in calibration])
    quantised = nncf.quantize(
        model,
        dataset,
        subset_size=len(calibration),
        # Activations before ReLU-less residual sums are signed; symmetric ranges everywhere waste half of the codes
        # of the others. MIXED takes each as it is.
        preset=nncf.QuantizationPreset.MIXED,
        fast_bias_correction=False,
    )
    xml.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantised, xml, compress_to_fp16=True)


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
