"""What a bundle says of itself: metrics with their protocol, pictures, and canaries for other machines."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle, Metrics
from trainer.dataset.images import DataSet
from trainer.evaluate import measure
from trainer.predictions import read_predictions, write_predictions
from trainer.recipe import SHARED_PATIENTS
from trainer.reporting.page import write_page
from trainer.run import RunFolder, RunMetrics, brand_csv, write_json
from trainer.verify import Agreement, engine_probabilities

CANARIES = "canaries.npz"
CALIBRATION_PROTOCOL = (
    "Calibration of the same out-of-fold probabilities, every image weighing the same: before the temperature, and "
    "after temperatures that were fitted on other patients than those they scale. The shipped temperature, inside the "
    "graph, was fitted on all of them, the classes weighing the same and within a class each patient."
)
_CANARY_COUNT = 8


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How the exported graphs compare with the network.

    Attributes:
        onnx: model.onnx against the shipped network, on the training images.
        shipped_int8: the INT8 graph against the shipped network, on the training images.
        int8: each fold's INT8 graph against that fold's network, on the fold's judged images.
        fold_fp32, fold_int8: out-of-fold probabilities behind `int8`, float32 (N,), after the run's temperature.
    """

    onnx: Agreement
    shipped_int8: Agreement
    int8: Agreement
    fold_fp32: NDArray[np.float32]
    fold_int8: NDArray[np.float32]


def write_report(folder: Path, run: RunFolder, data: DataSet, verification: Verification) -> None:
    """Write the report's page, pictures and tables into a new folder; without paths of this machine."""
    folder.mkdir()
    metrics, config = run.read_metrics(), run.read_config()
    for name in ("metrics.json", "log.csv"):
        shutil.copyfile(run.path / name, folder / name)
    if (run.path / "curves.csv").is_file():
        shutil.copyfile(run.path / "curves.csv", folder / "curves.csv")
    write_predictions(folder / "oof.csv", read_predictions(run.path / "oof.csv"), metrics.temperature)
    if config.shares_patients:
        brand_csv(folder / "oof.csv", "split", SHARED_PATIENTS)
    write_json(folder / "training.json", config.model_dump(mode="json", exclude={"data"}))
    graphs = (verification.onnx, verification.shipped_int8, verification.int8)
    write_json(folder / "verification.json", {"graphs": [graph.describe() for graph in graphs]})
    write_page(folder / "report.html", run, data, graphs=graphs)


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
    """Return the manifest's entries: all images first, then by magnification, calibration, INT8, and agreement."""
    int8 = verification.int8
    shared = metrics.shares_patients
    int8_metrics = measure(data.labels, verification.fold_int8, data.patients, metrics.decision.threshold)
    int8_text = (
        "INT8: each fold's network quantised as the shipped one was and judged on its own fold's patients; agreement "
        "is with the same network in float32."
    )
    shipped_text = "{} against the trained network in float32 on all {} training images: agreement only."
    return (
        Metrics(protocol=metrics.protocol, shares_patients=shared, values=metrics.overall | _bounds(metrics)),
        *_by_magnification(metrics),
        Metrics(
            protocol=CALIBRATION_PROTOCOL,
            shares_patients=shared,
            values={"temperature": metrics.temperature} | metrics.calibration,
        ),
        Metrics(protocol=int8_text, shares_patients=shared, values=int8_metrics | _agreement(int8)),
        *(
            Metrics(
                protocol=shipped_text.format(graph.graph, graph.images), shares_patients=True, values=_agreement(graph)
            )
            for graph in (verification.onnx, verification.shipped_int8)
        ),
    )


def _bounds(metrics: RunMetrics) -> dict[str, float]:
    return {
        f"{name}_{end}": value
        for name, interval in metrics.intervals.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }


def _by_magnification(metrics: RunMetrics) -> list[Metrics]:
    """Return an entry a magnification, which stands among its values, too, so that the card can sort by it."""
    return [
        Metrics(
            protocol=f"The same out-of-fold probabilities, images at {magnification}X only.",
            shares_patients=metrics.shares_patients,
            values={"magnification": float(magnification)} | values,
        )
        for magnification, values in metrics.by_magnification.items()
    ]


def _agreement(agreement: Agreement) -> dict[str, float]:
    return {
        "label_agreement": agreement.label_agreement,
        "largest_difference": agreement.largest_difference,
    }
