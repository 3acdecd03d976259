"""Are the probabilities to be believed, and by what temperature their logits are divided so that they are."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]
Patients = NDArray[np.str_]

# Beyond these the fit says "guesses" or "knows all", which a few dozen patients cannot support.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 10.0
# Files keep six digits of a probability, so 0 and 1 in them mean "less than half a millionth off".
_EDGE = 5e-7
_GOLDEN = (np.sqrt(5) - 1) / 2
BINS = 10
_CROSS_GROUPS = 5


def to_logits(probabilities: Probabilities) -> NDArray[np.float64]:
    """Return finite logits (N,) of probabilities (N,)."""
    inside = np.clip(probabilities.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))


def to_probabilities(logits: NDArray[np.float64]) -> Probabilities:
    """Return the sigmoid, float32 (N,)."""
    return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)  # unlike 1 / (1 + exp(-x)) it cannot overflow


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return probabilities (N,) whose logits were divided by a temperature; 1 changes nothing."""
    if temperature == 1.0:
        return probabilities
    return to_probabilities(to_logits(probabilities) / temperature)


def even_weights(labels: Labels, patients: Patients) -> NDArray[np.float64]:
    """Return weights (N,) of sum 1 in which each class weighs the same, and within it each patient.

    That is the prior under which training draws its images, and it keeps a patient with 84 images from deciding.
    """
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        ids, places, counts = np.unique(patients[labels == label], return_inverse=True, return_counts=True)
        weights[labels == label] = 1 / (len(ids) * counts[places])
    total: float = weights.sum()
    return weights / total


def fit_temperature(labels: Labels, probabilities: Probabilities, patients: Patients) -> float:
    """Return the temperature of the least cross-entropy under even_weights (Guo et al., ICML 2017).

    Args:
        labels: (N,), benign 0, malignant 1.
        probabilities: of malignancy (N,), of networks that did not train on these patients.
        patients: (N,).

    Returns:
        Between LOWEST_TEMPERATURE and HIGHEST_TEMPERATURE, whatever the probabilities are.
    """
    margins = to_logits(probabilities) * (2 * labels - 1)
    weights = even_weights(labels, patients)

    def loss(sharpness: float) -> float:
        return float(weights @ np.logaddexp(0, -margins * sharpness))

    # The loss is convex in 1 / temperature, so narrowing by the golden section finds its only minimum.
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    for _ in range(60):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return round(1 / ((low + high) / 2), 4)


def cross_fitted(
    labels: Labels, probabilities: Probabilities, patients: Patients, folds: NDArray[np.int64]
) -> Probabilities | None:
    """Return probabilities (N,) after temperatures that were fitted on other patients than those they scale.

    Args:
        labels, probabilities, patients: (N,).
        folds: int64 (N,); the temperature of a fold is fitted on the other folds, without the fold's patients. Of a
            single fold, the patients are dealt into five groups that take its place.

    Returns:
        None where that leaves a fit without one of the classes: too few patients.
    """
    groups = folds if len(np.unique(folds)) > 1 else _deal(labels, patients)
    scaled = probabilities.copy()
    for group in np.unique(groups):
        rows = groups == group
        others = ~rows & ~np.isin(patients, patients[rows])
        if len(np.unique(labels[others])) < 2:
            return None
        temperature = fit_temperature(labels[others], probabilities[others], patients[others])
        scaled[rows] = apply_temperature(probabilities[rows], temperature)
    return scaled


def calibration_errors(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Return calibration measures, every image weighing the same.

    `ece_equal_width` takes ten bins of the same width, `ece_equal_mass` ten of the same number of images; both are
    the mean distance of mean probability and share of malignant images. With few images neither reaches 0.
    """
    edges = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    ranks = np.empty(len(labels), np.int64)
    ranks[np.argsort(probabilities, kind="stable")] = np.arange(len(labels)) * BINS // len(labels)
    logits = to_logits(probabilities)
    return {
        "ece_equal_width": _expected_error(labels, probabilities, edges),
        "ece_equal_mass": _expected_error(labels, probabilities, ranks),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "cross_entropy": float(np.mean(np.logaddexp(0, -logits * (2 * labels - 1)))),
    }


def describe_calibration(
    labels: Labels, probabilities: Probabilities, patients: Patients, folds: NDArray[np.int64]
) -> dict[str, float]:
    """Return calibration before and, cross-fitted by patient, after temperature scaling.

    The `_after` values are left out where too few patients make cross-fitting impossible.
    """
    before = calibration_errors(labels, probabilities)
    scaled = cross_fitted(labels, probabilities, patients, folds)
    after = {} if scaled is None else calibration_errors(labels, scaled)
    return {f"{name}_before": value for name, value in before.items()} | {
        f"{name}_after": value for name, value in after.items()
    }


def _expected_error(labels: Labels, probabilities: Probabilities, bins: NDArray[np.int64]) -> float:
    distances = [
        abs(float(np.sum(probabilities[bins == index], dtype=np.float64) - labels[bins == index].sum()))
        for index in np.unique(bins)
    ]
    return sum(distances) / len(labels)


def _deal(labels: Labels, patients: Patients) -> NDArray[np.int64]:
    """Deal the patients of each class into groups by turns."""
    group_of = {
        patient: place % _CROSS_GROUPS
        for label in np.unique(labels)
        for place, patient in enumerate(np.unique(patients[labels == label]))
    }
    return np.array([group_of[patient] for patient in patients], np.int64)
