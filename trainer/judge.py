"""From out-of-fold probabilities to metrics.json."""

import numpy as np
from numpy.typing import NDArray

from trainer.calibrate import describe_calibration, fit_temperature
from trainer.dataset.images import DataSet
from trainer.decision import choose_rule, judged_with_abstention
from trainer.errors import DatasetError
from trainer.evaluate import measure_each_fold, measure_folds, patient_intervals
from trainer.predictions import Predictions
from trainer.run import RunMetrics

_MAGNIFIED_REPEATS = 500


def judge(
    data: DataSet,
    probabilities: NDArray[np.float32],
    protocol_text: str,
    folds: NDArray[np.int64] | None = None,
    *,
    shares_patients: bool = False,
) -> RunMetrics:
    """Compute metrics.json from the out-of-fold probabilities of all images, each judged once.

    Args:
        data: the images.
        probabilities: (N,), before any temperature.
        protocol_text: how they were found.
        folds: (N,), the fold that judged; without it, calibration deals the patients anew.
        shares_patients: whether the networks had trained on patients that they judged.
    """
    return judge_predictions(predictions_of(data, probabilities, folds), protocol_text, shares_patients=shares_patients)


def judge_predictions(predictions: Predictions, protocol_text: str, *, shares_patients: bool) -> RunMetrics:
    """Compute metrics.json from out-of-fold predictions, before any temperature; folds may overlap.

    Raises:
        DatasetError: only one class was judged.
    """
    if len(np.unique(predictions.labels)) < 2:
        raise DatasetError(f"all {len(predictions)} judged images are of one class: judge images of both classes")
    columns = (predictions.labels, predictions.probabilities, predictions.patients)
    temperature = fit_temperature(*columns)
    scaled = predictions.scaled(temperature)
    rule = choose_rule(scaled.labels, scaled.probabilities, scaled.patients)
    abstained = judged_with_abstention(scaled.labels, scaled.probabilities, rule)
    return RunMetrics(
        protocol=protocol_text,
        shares_patients=shares_patients,
        decision=rule,
        temperature=temperature,
        calibration=describe_calibration(*columns, predictions.folds),
        overall=measure_folds(scaled, rule.threshold) | abstained,
        intervals=patient_intervals(scaled, rule.threshold),
        by_magnification=measure_magnifications(scaled, rule.threshold),
        by_fold=measure_each_fold(scaled, rule.threshold),
    )


def measure_magnifications(predictions: Predictions, threshold: float) -> dict[str, dict[str, float]]:
    """Return the metrics of each magnification, with the interval of the patient rate as `_low` and `_high`."""
    found = {}
    name = "patient_recognition_rate"
    for magnification in np.unique(predictions.magnifications):
        part = predictions.take(predictions.magnifications == magnification)
        interval = patient_intervals(part, threshold, (name,), _MAGNIFIED_REPEATS)[name]
        found[str(magnification)] = measure_folds(part, threshold) | dict(
            zip((f"{name}_low", f"{name}_high"), interval, strict=True)
        )
    return found


def predictions_of(
    data: DataSet, probabilities: NDArray[np.float32], folds: NDArray[np.int64] | None = None
) -> Predictions:
    """Return predictions for all images of a data set, in its order."""
    return Predictions(
        files=np.array([path.name for path in data.paths]),
        labels=data.labels,
        patients=data.patients,
        magnifications=np.array([name.magnification for name in data.names], np.int64),
        folds=np.zeros(len(data), np.int64) if folds is None else folds,
        probabilities=probabilities,
    )
