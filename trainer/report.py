"""What a bundle says of itself: metrics with their protocol, pictures, and canaries for other machines."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle, Metrics
from trainer.dataset import DataSet
from trainer.evaluate import measure
from trainer.plots import plot_judgement
from trainer.run import RunFolder, RunMetrics, write_json
from trainer.verify import Agreement, engine_probabilities

CANARIES = "canaries.npz"
_CANARY_COUNT = 8


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How the exported graphs compare with the network.

    Attributes:
        onnx: model.onnx against the shipped network, on the training images.
        int8: each fold's INT8 graph against that fold's network, on the fold's judged images.
        fold_fp32, fold_int8: out-of-fold probabilities behind `int8`, float32 (N,).
    """

    onnx: Agreement
    int8: Agreement
    fold_fp32: NDArray[np.float32]
    fold_int8: NDArray[np.float32]


def write_report(folder: Path, run: RunFolder, data: DataSet, verification: Verification) -> None:
    """Write the report's tables and picture into a new folder; without paths of this machine."""
    folder.mkdir()
    for name in ("metrics.json", "oof.csv", "log.csv"):
        shutil.copyfile(run.path / name, folder / name)
    write_json(folder / "training.json", run.read_config().model_dump(mode="json", exclude={"data"}))
    graphs = [verification.onnx.describe(), verification.int8.describe()]
    write_json(folder / "verification.json", {"graphs": graphs})
    rule = run.read_metrics().decision
    plot_judgement(data.labels, verification.fold_fp32, rule, folder / "judgement.png")


def write_canaries(path: Path, bundle: Bundle, data: DataSet, expected: NDArray[np.float32]) -> None:
    """Keep a few images with what each graph says of them, so that any machine can check its engine.

    Args:
        path: the .npz to write.
        bundle: holds the graphs.
        data: the images to choose from, evenly.
        expected: what the network says of them, float32 (N,).
    """
    rows = np.linspace(0, len(data) - 1, min(_CANARY_COUNT, len(data))).astype(np.int64)
    np.savez_compressed(
        path,
        images=data.pixels[rows],
        torch_fp32=expected[rows],
        onnx_fp32=engine_probabilities(bundle, "fp32", data.pixels[rows]),
        openvino_int8=engine_probabilities(bundle, "int8", data.pixels[rows]),
    )


def manifest_metrics(metrics: RunMetrics, data: DataSet, verification: Verification) -> tuple[Metrics, ...]:
    """Return the manifest's entries: all images first, then by magnification, INT8, and agreement."""
    onnx, int8 = verification.onnx, verification.int8
    int8_metrics = measure(data.labels, verification.fold_int8, data.patients, metrics.decision.threshold)
    bounds = {
        f"{name}_{end}": value
        for name, interval in metrics.intervals.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    entries = [Metrics(protocol=metrics.protocol, shares_patients=False, values=metrics.overall | bounds)]
    for magnification, values in metrics.by_magnification.items():
        text = f"The same out-of-fold probabilities, images at {magnification}X only."
        entries.append(Metrics(protocol=text, shares_patients=False, values=values))
    agreement = {"label_agreement": int8.label_agreement, "largest_difference": int8.largest_difference}
    text = (
        "INT8: each fold's network quantised as the shipped one was and judged on its own fold's patients; agreement "
        "is with the same network in float32."
    )
    entries.append(Metrics(protocol=text, shares_patients=False, values=int8_metrics | agreement))
    agreement = {"label_agreement": onnx.label_agreement, "largest_difference": onnx.largest_difference}
    text = f"model.onnx against the trained network in float32 on all {onnx.images} training images: agreement only."
    entries.append(Metrics(protocol=text, shares_patients=True, values=agreement))
    return tuple(entries)
