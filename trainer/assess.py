"""Judge a finished run or a released bundle on images: again on those it was made with, or on others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle, DecisionRule, Precision
from trainer.calibrate import calibration_errors, describe_calibration
from trainer.checkpoint import load_checkpoint
from trainer.dataset.images import NAME, DataSet
from trainer.decision import judged_with_abstention
from trainer.device import choose_device
from trainer.errors import RunError
from trainer.evaluate import measure_each_fold, measure_folds, patient_intervals
from trainer.fit import predict
from trainer.judge import measure_magnifications, predictions_of
from trainer.patients import Acquaintance, acquaintance, patients_of_bundle, patients_of_run
from trainer.predictions import Predictions, read_predictions
from trainer.recipe import SHARED_PATIENTS
from trainer.run import RunConfig, RunFolder
from trainer.verify import engine_probabilities
from trainer.views import Classify, classify_views

# Another processor, or a GPU, rounds otherwise; another checkpoint or other images differ by far more.
REPRODUCTION_TOLERANCE = 0.005

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How far predictions made again lie from those that the run kept.

    Attributes:
        file: the image that differs most.
    """

    largest_difference: float
    file: str
    images: int

    @property
    def holds(self) -> bool:
        """Whether they are the same predictions."""
        return self.largest_difference <= REPRODUCTION_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What was judged, by what, and what came out.

    Attributes:
        subject: the run or bundle in words.
        protocol: which images, judged by whom.
        brand: what to print everywhere when patients are shared, else "".
        rule: threshold and abstain band, locked before.
        temperature: that the logits were divided by.
        predictions: after the temperature.
        views: the same with test-time augmentation, None without.
        calibration: see trainer.calibrate.
        reproduction: None where nothing was kept to compare with.
    """

    subject: str
    protocol: str
    brand: str
    fingerprint: str
    rule: DecisionRule
    temperature: float
    predictions: Predictions
    views: Predictions | None
    calibration: dict[str, float]
    reproduction: Reproduction | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Every metric of some predictions, as in metrics.json."""

    overall: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    by_magnification: dict[str, dict[str, float]]
    by_fold: dict[str, dict[str, float]]


def figures(predictions: Predictions, rule: DecisionRule) -> Figures:
    """Measure predictions under a rule that was locked before."""
    abstained = judged_with_abstention(predictions.labels, predictions.probabilities, rule)
    return Figures(
        overall=measure_folds(predictions, rule.threshold) | abstained,
        intervals=patient_intervals(predictions, rule.threshold),
        by_magnification=measure_magnifications(predictions, rule.threshold),
        by_fold=measure_each_fold(predictions, rule.threshold),
    )


def assess_out_of_fold(run: RunFolder, data: DataSet, *, views: bool, say: Say) -> Assessment:
    """Judge each image of a run again with the network of the fold that judged it.

    Args:
        run: a finished run with its fold checkpoints.
        data: the images of the run.
        views: whether to add test-time augmentation.
        say: told what begins.

    Raises:
        RunError: the run is incomplete, or the images are not those of the run.
        WeightsError: a fold's checkpoint cannot be read.
    """
    config, metrics = run.read_config(), run.read_metrics()
    kept = read_predictions(run.path / "oof.csv")
    rows = rows_of_files(kept, data, run)
    plain, augmented = np.zeros(len(kept), np.float32), np.zeros(len(kept), np.float32)
    for fold in np.unique(kept.folds):
        say(f"judging fold {fold}")
        judged = np.flatnonzero(kept.folds == fold)
        seen = _classify(_network(run.fold_checkpoint(int(fold))), data.pixels[rows[judged]], views=views)
        plain[judged] = seen[0]
        augmented[judged] = seen[-1]
    again = kept.with_probabilities(plain)
    columns = (again.labels, again.probabilities, again.patients, again.folds)
    return Assessment(
        subject=f"run {run.path.name}, out of fold",
        protocol=metrics.protocol,
        brand=brand_of(config.shares_patients or metrics.shares_patients),
        fingerprint=data.fingerprint,
        rule=metrics.decision,
        temperature=metrics.temperature,
        predictions=again.scaled(metrics.temperature),
        views=again.with_probabilities(augmented).scaled(metrics.temperature) if views else None,
        calibration=describe_calibration(*columns),
        reproduction=_compare(kept, plain),
    )


def assess_external(run: RunFolder, data: DataSet, *, views: bool, allow_shared: bool) -> Assessment:
    """Judge the network that a run would ship on images that it was not trained on.

    Raises:
        RunError: patients are shared, or may be, and that was not allowed by name; or the run is incomplete.
        WeightsError: the checkpoint cannot be read.
    """
    metrics = run.read_metrics()
    known = acquaintance(data, patients_of_run(run.read_config()))
    if known.shared and not allow_shared:
        raise RunError(f"{known.explain()}: judge other patients, or say --allow-shared-patients to have it branded")
    seen = _classify(_network(run.checkpoint), data.pixels, views=views)
    subject = f"run {run.path.name}, the network that it ships"
    return _judged_once(subject, data, known, (metrics.decision, metrics.temperature), seen)


def assess_bundle(bundle: Bundle, data: DataSet, precision: Precision, *, views: bool) -> Assessment:
    """Judge a released bundle by the engine that serves it.

    Raises:
        RunError: the bundle does not name the patients that it was trained on.
        EngineError: the bundle lacks the graph, or the engine fails.
    """
    known = acquaintance(data, patients_of_bundle(bundle))
    seen = _classify(partial(engine_probabilities, bundle, precision), data.pixels, views=views)
    subject = f"bundle {bundle.model_version}, OpenVINO {precision}"
    # The temperature is inside the graph.
    return _judged_once(subject, data, known, (bundle.manifest.decision, 1.0), seen)


def rows_of_files(predictions: Predictions, data: DataSet, run: RunFolder) -> NDArray[np.int64]:
    """Return for each prediction its row of the data set.

    Raises:
        RunError: the images are not those of the run.
    """
    require_same_images(run.read_config(), data, run)
    row_of = {path.name: row for row, path in enumerate(data.paths)}
    missing = [file for file in predictions.files if file not in row_of]
    if missing:
        raise RunError(f"{run.path / 'oof.csv'} names {missing[0]}, which is not among the images: restore the file")
    return np.array([row_of[file] for file in predictions.files], np.int64)


def require_same_images(config: RunConfig, data: DataSet, run: RunFolder) -> None:
    """Refuse images that a run was not made with.

    Raises:
        RunError: the fingerprint differs.
    """
    if data.fingerprint != config.fingerprint:
        raise RunError(
            f"the images are not those of {run.path} (fingerprint differs): name theirs with --data, or train again"
        )


def brand_of(shares_patients: bool) -> str:
    """Return the words that every output of a run that shares patients carries, "" for others."""
    return SHARED_PATIENTS if shares_patients else ""


def _network(path: Path) -> Classify:
    """Return what a checkpoint says of images, on a GPU where there is one."""
    if not path.is_file():
        raise RunError(f"{path} is missing, so what it judged cannot be judged again: restore it, or train again")
    return partial(predict, load_checkpoint(path).to(choose_device()))


def _classify(classify: Classify, pixels: NDArray[np.uint8], *, views: bool) -> tuple[NDArray[np.float32], ...]:
    """Return plain probabilities, and with views those of test-time augmentation after them."""
    return classify_views(classify, pixels) if views else (classify(pixels),)


def _judged_once(
    subject: str,
    data: DataSet,
    known: Acquaintance,
    locked: tuple[DecisionRule, float],
    seen: tuple[NDArray[np.float32], ...],
) -> Assessment:
    rule, temperature = locked
    plain = predictions_of(data, seen[0]).scaled(temperature)
    return Assessment(
        subject=subject,
        protocol=(
            f"{len(data)} images of {data.patient_count} patients of {NAME}, each judged once. Threshold, abstain band "
            f"and temperature were locked before. {known.explain()}."
        ),
        brand=known.brand,
        fingerprint=data.fingerprint,
        rule=rule,
        temperature=temperature,
        predictions=plain,
        views=plain.with_probabilities(seen[1]).scaled(temperature) if len(seen) > 1 else None,
        calibration=calibration_errors(plain.labels, plain.probabilities),
        reproduction=None,
    )


def _compare(kept: Predictions, again: NDArray[np.float32]) -> Reproduction:
    difference = np.abs(kept.probabilities - again)
    worst = int(difference.argmax())
    return Reproduction(largest_difference=float(difference[worst]), file=str(kept.files[worst]), images=len(kept))
