"""Which images make a batch."""

import numpy as np
from numpy.typing import NDArray


def sampling_weights(
    labels: NDArray[np.int64], patients: NDArray[np.str_], patient_power: float, balance_classes: bool = True
) -> NDArray[np.float64]:
    """Return the probability of each image to be drawn: patients by images ** power.

    One patient has 84 images here and fifteen have one: drawn evenly, a batch would show few patients.

    Args:
        labels: (N,), benign 0, malignant 1.
        patients: (N,), the patient of each image.
        patient_power: 1 draws the images of a class evenly, 0 its patients.
        balance_classes: whether the classes are drawn evenly, or as often as they occur.

    Returns:
        float64 (N,), sums to 1.
    """
    _, patient_of, images_of = np.unique(patients, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = images_of[patient_of].astype(np.float64) ** (patient_power - 1)
    for label in np.unique(labels):
        share = 1.0 if balance_classes else float(np.mean(labels == label))
        weights[labels == label] *= share / weights[labels == label].sum()
    weights /= weights.sum()
    return weights
