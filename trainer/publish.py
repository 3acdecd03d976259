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
from trainer.calibrate import apply_temperature
from trainer.card import model_card
from trainer.checkpoint import load_checkpoint
from trainer.dataset import images
from trainer.errors import RunError
from trainer.fit import predict
from trainer.graph import export_onnx
from trainer.network import Classifier
from trainer.quantise import CALIBRATION_IMAGES, Calibration, calibration_rows, quantise
from trainer.recipe import SHARED_PATIENTS
from trainer.report import CANARIES, Verification, manifest_metrics, write_canaries, write_report
from trainer.run import RunConfig, RunFolder, RunMetrics
from trainer.verify import (
    INT8_FOLD_MIN_AGREEMENT,
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


def publish(run: RunFolder, data: images.DataSet, identity: Identity, models: Path) -> Path:
    """Make the bundle models/NAME-VERSION and return its folder.

    Args:
        run: a finished run.
        data: the images it was trained on; calibrates and verifies.
        identity: name and version.
        models: the folder of bundles.

    Raises:
        RunError: the bundle exists, the run is incomplete or shares patients between train and test, or the images
            are not those of the run.
        VerificationError: an exported graph disagrees with the network.
    """
    config = run.read_config()
    if config.shares_patients:
        raise RunError(
            f"the run in {run.path} {SHARED_PATIENTS}, so nobody knows how good its network is on other patients: "
            "train with --recipe patient to release a model"
        )
    if data.fingerprint != config.fingerprint:
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


def write_int8(
    folder: Path, network: Classifier, calibration: Calibration, temperature: float
) -> tuple[BundleFile, ...]:
    """Write openvino/model.xml and .bin (INT8) into a folder; return their entries."""
    xml = folder / "openvino" / "model.xml"
    xml.parent.mkdir(parents=True)
    full = folder / "full-precision.onnx"
    export_onnx(network, full, "fp32", temperature)
    quantise(full, calibration, INT8_MIN_AGREEMENT, xml)
    full.unlink()
    return (
        describe_file(folder, xml, "openvino", "int8"),
        describe_file(folder, xml.with_suffix(".bin"), "openvino-weights", "int8"),
    )


def _fill(draft: Path, run: RunFolder, data: images.DataSet, identity: Identity) -> None:
    """Write every file of the bundle, the manifest last."""
    metrics = run.read_metrics()
    network = load_checkpoint(run.checkpoint)
    expected = apply_temperature(predict(network, data.pixels), metrics.temperature)
    every = np.arange(len(data))
    quantised = write_int8(draft, network, _calibration(data, every, expected, metrics), metrics.temperature)
    onnx_file = draft / "model.onnx"
    export_onnx(network, onnx_file, "fp16", metrics.temperature)
    graphs = (describe_file(draft, onnx_file, "onnx", "fp16"), *quantised)
    manifest = _manifest(identity, run.read_config(), metrics, graphs)
    bundle = Bundle(draft, manifest)
    verification = _verify(run, data, bundle, expected)
    write_report(draft / "report", run, data, verification)
    write_canaries(draft / "report" / CANARIES, bundle, data, expected)
    manifest = manifest.model_copy(update={"metrics": manifest_metrics(metrics, data, verification)})
    card = draft / "MODEL_CARD.md"
    card.write_text(model_card(manifest), encoding="utf-8")
    reports = tuple(describe_file(draft, path, "report") for path in sorted((draft / "report").iterdir()))
    files = (*graphs, *reports, describe_file(draft, card, "card"))
    write_manifest(draft, manifest.model_copy(update={"files": files}))


def _verify(run: RunFolder, data: images.DataSet, bundle: Bundle, expected: NDArray[np.float32]) -> Verification:
    """Compare the graphs with the network; VerificationError where one strays too far."""
    threshold = bundle.manifest.decision.threshold
    onnx = compare("model.onnx", expected, engine_probabilities(bundle, "fp32", data.pixels), threshold)
    require_agreement(onnx, ONNX_MIN_AGREEMENT, ONNX_MAX_DIFFERENCE)
    shipped = compare("openvino/model.xml", expected, engine_probabilities(bundle, "int8", data.pixels), threshold)
    require_agreement(shipped, INT8_MIN_AGREEMENT)
    full, quantised = judge_quantised_folds(run, data, bundle)
    int8 = compare("openvino/model.xml (out of fold)", full, quantised, threshold)
    require_agreement(int8, INT8_FOLD_MIN_AGREEMENT)
    return Verification(onnx=onnx, shipped_int8=shipped, int8=int8, fold_fp32=full, fold_int8=quantised)


def judge_quantised_folds(
    run: RunFolder, data: images.DataSet, bundle: Bundle
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Quantise each fold's network as the shipped one was and judge it on the patients it never saw.

    The shipped network has seen every image, so its own agreement on them flatters the quantisation.

    Returns:
        Out-of-fold probabilities in full precision and in INT8, each float32 (N,), after the run's temperature. Where
        judged folds overlap, an image has those of the last fold that judged it.
    """
    metrics = run.read_metrics()
    full, quantised = np.zeros(len(data), np.float32), np.zeros(len(data), np.float32)
    for number, patients in enumerate(run.read_config().judged_patients):
        judged = np.flatnonzero(np.isin(data.patients, patients))
        trained = np.flatnonzero(~np.isin(data.patients, patients))
        network = load_checkpoint(run.fold_checkpoint(number))
        said = apply_temperature(predict(network, data.pixels), metrics.temperature)
        folder = bundle.folder / f"fold-{number}"
        graphs = write_int8(folder, network, _calibration(data, trained, said, metrics), metrics.temperature)
        fold = Bundle(folder, bundle.manifest.model_copy(update={"files": graphs}))
        full[judged] = said[judged]
        quantised[judged] = engine_probabilities(fold, "int8", data.pixels[judged])
        shutil.rmtree(folder)
    return full, quantised


def _calibration(
    data: images.DataSet, rows: NDArray[np.int64], said: NDArray[np.float32], metrics: RunMetrics
) -> Calibration:
    """Return what a network that trained on these rows is quantised with; `said` are its probabilities (N,) of all."""
    chosen = rows[calibration_rows(data.patients[rows], CALIBRATION_IMAGES, seed=0)]
    return Calibration(
        images=data.pixels[chosen],
        judged=data.pixels[rows],
        expected=said[rows],
        threshold=metrics.decision.threshold,
    )


def _manifest(identity: Identity, config: RunConfig, metrics: RunMetrics, files: tuple[BundleFile, ...]) -> Manifest:
    return Manifest(
        name=identity.name,
        version=identity.version,
        created_at=datetime.now(UTC).replace(microsecond=0),
        files=files,
        decision=metrics.decision,
        metrics=(),
        dataset=DataSet(
            name=images.NAME,
            images=config.images,
            patients=config.patients,
            fingerprint=config.fingerprint,
            licence=images.LICENCE,
            attribution=images.ATTRIBUTION,
        ),
        git_commit=config.git_commit,
        licence=LICENCE,
        attribution=f"{images.ATTRIBUTION} ImageNet weights: {config.weights}.",
    )
