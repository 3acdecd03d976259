"""How good predictions are, by image and by patient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]
Patients = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of images; positive means malignant."""

    true_positive: int
    true_negative: int
    false_positive: int
    false_negative: int


def confusion(labels: Labels, probabilities: Probabilities, threshold: float) -> Confusion:
    """Count right and wrong decisions at a threshold."""
    positive = probabilities >= threshold
    return Confusion(
        true_positive=int(np.sum(positive & (labels == 1))),
        true_negative=int(np.sum(~positive & (labels == 0))),
        false_positive=int(np.sum(positive & (labels == 0))),
        false_negative=int(np.sum(~positive & (labels == 1))),
    )


def patient_recognition_rate(
    labels: Labels, probabilities: Probabilities, patients: Patients, threshold: float
) -> float:
    """Return the mean over patients of correctly classified images / images (Spanhol et al. 2016)."""
    correct = (probabilities >= threshold) == (labels == 1)
    return float(np.mean([correct[patients == patient].mean() for patient in np.unique(patients)]))


def measure(labels: Labels, probabilities: Probabilities, patients: Patients, threshold: float) -> dict[str, float]:
    """Return every metric by name; those that need both classes are left out where one is missing.

    Args:
        labels: (N,), benign 0, malignant 1.
        probabilities: of malignancy, (N,).
        patients: (N,).
        threshold: from which on an image counts as malignant.
    """
    counts = confusion(labels, probabilities, threshold)
    values = {
        "images": float(len(labels)),
        "patients": float(len(np.unique(patients))),
        "accuracy": (counts.true_positive + counts.true_negative) / len(labels),
        "patient_recognition_rate": patient_recognition_rate(labels, probabilities, patients, threshold),
    }
    if len(np.unique(labels)) < 2:
        return values
    sensitivity = counts.true_positive / (counts.true_positive + counts.false_negative)
    specificity = counts.true_negative / (counts.true_negative + counts.false_positive)
    f1 = 2 * counts.true_positive / (2 * counts.true_positive + counts.false_positive + counts.false_negative)
    return values | {
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": f1,
        "auc": float(roc_auc_score(labels, probabilities)),
    }


def patient_bootstrap(
    labels: Labels,
    patients: Patients,
    metric: Callable[[NDArray[np.int64]], float],
    repeats: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of a metric when patients, not images, are drawn again.

    Images of one patient resemble each other, so drawing images would promise far too narrow an interval. The
    patients of each class are drawn apart, so that every draw holds both.

    Args:
        labels, patients: (N,).
        metric: takes row numbers, some of them repeated, and returns the metric over them.
        repeats: number of draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    rows_of = {patient: np.flatnonzero(patients == patient) for patient in np.unique(patients)}
    groups = [np.unique(patients[labels == label]) for label in np.unique(labels)]
    values = []
    for _ in range(repeats):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        values.append(metric(np.concatenate([rows_of[patient] for patient in drawn])))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
