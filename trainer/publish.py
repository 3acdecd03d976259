"""From a run folder to a model bundle: export, quantise, verify, report. Nothing half-made is ever visible."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle import (
    Bundle,
    BundleFile,
    DataSet,
    Manifest,
    describe_file,
    load_bundle,
    write_manifest,
)
from trainer import dataset
from trainer.card import model_card
from trainer.checkpoint import load_checkpoint
from trainer.errors import RunError
from trainer.fit import predict
from trainer.graph import export_onnx
from trainer.network import Classifier
from trainer.quantise import CALIBRATION_IMAGES, calibration_rows, quantise
from trainer.report import CANARIES, Verification, manifest_metrics, write_canaries, write_report
from trainer.run import RunConfig, RunFolder, RunMetrics
from trainer.verify import (
    INT8_MIN_AGREEMENT,
    ONNX_MAX_DIFFERENCE,
    ONNX_MIN_AGREEMENT,
    compare,
    engine_probabilities,
    require_agreement,
)

LICENCE = "Weights: CC BY 4.0, as the images they were fitted to"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the bundle is called."""

    name: str
    version: str


def publish(run: RunFolder, data: dataset.DataSet, identity: Identity, models: Path) -> Path:
    """Make the bundle models/NAME-VERSION and return its folder.

    Args:
        run: a finished run.
        data: the images it was trained on; calibrates and verifies.
        identity: name and version.
        models: the folder of bundles.

    Raises:
        RunError: the bundle exists, the run is incomplete, or the images are not those of the run.
        VerificationError: an exported graph disagrees with the network.
    """
    if data.fingerprint != run.read_config().fingerprint:
        raise RunError(f"the images are not those of {run.path} (fingerprint differs): name the folder with --data")
    target = models / f"{identity.name}-{identity.version}"
    if target.exists():
        raise RunError(f"{target} exists and released bundles never change: choose another --version")
    draft = models / f".{target.name}.part"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _fill(draft, run, data, identity)
        load_bundle(draft)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def write_int8(folder: Path, network: Classifier, calibration: NDArray[np.uint8]) -> tuple[BundleFile, ...]:
    """Write openvino/model.xml and .bin (INT8) into a folder; return their entries."""
    xml = folder / "openvino" / "model.xml"
    xml.parent.mkdir(parents=True)
    full = folder / "full-precision.onnx"
    export_onnx(network, full, "fp32")
    quantise(full, calibration, xml)
    full.unlink()
    return (
        describe_file(folder, xml, "openvino", "int8"),
        describe_file(folder, xml.with_suffix(".bin"), "openvino-weights", "int8"),
    )


def _fill(draft: Path, run: RunFolder, data: dataset.DataSet, identity: Identity) -> None:
    """Write every file of the bundle, the manifest last."""
    metrics = run.read_metrics()
    network = load_checkpoint(run.checkpoint)
    quantised = write_int8(draft, network, _calibration(data, np.arange(len(data))))
    onnx_file = draft / "model.onnx"
    export_onnx(network, onnx_file, "fp16")
    graphs = (describe_file(draft, onnx_file, "onnx", "fp16"), *quantised)
    manifest = _manifest(identity, run.read_config(), metrics, graphs)
    bundle = Bundle(draft, manifest)
    expected = predict(network, data.pixels)
    verification = _verify(run, data, bundle, expected)
    write_report(draft / "report", run, data, verification)
    write_canaries(draft / "report" / CANARIES, bundle, data, expected)
    manifest = manifest.model_copy(update={"metrics": manifest_metrics(metrics, data, verification)})
    card = draft / "MODEL_CARD.md"
    card.write_text(model_card(manifest), encoding="utf-8")
    reports = tuple(describe_file(draft, path, "report") for path in sorted((draft / "report").iterdir()))
    files = (*graphs, *reports, describe_file(draft, card, "card"))
    write_manifest(draft, manifest.model_copy(update={"files": files}))


def _verify(run: RunFolder, data: dataset.DataSet, bundle: Bundle, expected: NDArray[np.float32]) -> Verification:
    """Compare the graphs with the network; VerificationError where one strays too far."""
    threshold = bundle.manifest.decision.threshold
    onnx = compare("model.onnx", expected, engine_probabilities(bundle, "fp32", data.pixels), threshold)
    require_agreement(onnx, ONNX_MIN_AGREEMENT, ONNX_MAX_DIFFERENCE)
    full, quantised = judge_quantised_folds(run, data, bundle)
    int8 = compare("openvino/model.xml (out of fold)", full, quantised, threshold)
    require_agreement(int8, INT8_MIN_AGREEMENT)
    return Verification(onnx=onnx, int8=int8, fold_fp32=full, fold_int8=quantised)


def judge_quantised_folds(
    run: RunFolder, data: dataset.DataSet, bundle: Bundle
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Quantise each fold's network and judge it on the patients it never saw.

    The shipped network has seen every image, so its own agreement on them would flatter the quantisation.

    Returns:
        Out-of-fold probabilities in full precision and in INT8, each float32 (N,).
    """
    full, quantised = np.zeros(len(data), np.float32), np.zeros(len(data), np.float32)
    for number, patients in enumerate(run.read_config().judged_patients):
        judged = np.flatnonzero(np.isin(data.patients, patients))
        trained = np.flatnonzero(~np.isin(data.patients, patients))
        network = load_checkpoint(run.fold_checkpoint(number))
        folder = bundle.folder / f"fold-{number}"
        graphs = write_int8(folder, network, _calibration(data, trained))
        fold = Bundle(folder, bundle.manifest.model_copy(update={"files": graphs}))
        full[judged] = predict(network, data.pixels[judged])
        quantised[judged] = engine_probabilities(fold, "int8", data.pixels[judged])
        shutil.rmtree(folder)
    return full, quantised


def _calibration(data: dataset.DataSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    chosen = rows[calibration_rows(data.patients[rows], CALIBRATION_IMAGES, seed=0)]
    return data.pixels[chosen]


def _manifest(identity: Identity, config: RunConfig, metrics: RunMetrics, files: tuple[BundleFile, ...]) -> Manifest:
    return Manifest(
        name=identity.name,
        version=identity.version,
        created_at=datetime.now(UTC).replace(microsecond=0),
        files=files,
        decision=metrics.decision,
        metrics=(),
        dataset=DataSet(
            name=dataset.NAME,
            images=config.images,
            patients=config.patients,
            fingerprint=config.fingerprint,
            licence=dataset.LICENCE,
            attribution=dataset.ATTRIBUTION,
        ),
        git_commit=config.git_commit,
        licence=LICENCE,
        attribution=f"{dataset.ATTRIBUTION} ImageNet weights: {config.weights}.",
    )
