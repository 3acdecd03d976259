"""The errors that a model was most sure of."""

from dataclasses import dataclass

import numpy as np

from core.bundle import CLASSES
from trainer.calibrate import to_logits
from trainer.dataset.names import BENIGN_TYPES, MALIGNANT_TYPES
from trainer.predictions import Predictions

_TYPES = BENIGN_TYPES | MALIGNANT_TYPES


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One judged image, for tables and captions.

    Attributes:
        row: its place in the predictions.
        tumour: the type in words.
        truth, decided: "benign" or "malignant", by the threshold alone.
    """

    row: int
    file: str
    patient: str
    tumour: str
    magnification: int
    fold: int
    probability: float
    truth: str
    decided: str

    @property
    def short_caption(self) -> str:
        """Say it in two lines, for small pictures."""
        return (
            f"{self.file}, {self.tumour}\nis {self.truth}, called {self.decided}, P(malignant) {self.probability:.3f}"
        )

    @property
    def caption(self) -> str:
        """Say everything in one line."""
        return (
            f"{self.file}: {self.tumour}, patient {self.patient}, {self.magnification}X, {self.truth}, called "
            f"{self.decided} with probability of malignancy {self.probability:.3f}"
        )


def worst_errors(predictions: Predictions, threshold: float, count: int) -> list[Judged]:
    """Return the wrong images, those farthest on the wrong side of the threshold first, each file once."""
    wrong = (predictions.probabilities >= threshold) != (predictions.labels == 1)
    found: dict[str, Judged] = {}
    for row in farthest_first(predictions, threshold):
        if wrong[row]:
            found.setdefault(str(predictions.files[row]), describe(predictions, int(row), threshold))
    return list(found.values())[:count]


def farthest_first(predictions: Predictions, threshold: float) -> list[int]:
    """Return all rows, those that lie farthest from the threshold in logits first; of equals the first by name."""
    distance = np.abs(to_logits(predictions.probabilities) - to_logits(np.array([threshold], np.float32)))
    return [int(row) for row in np.lexsort((predictions.files, -distance))]


def describe(predictions: Predictions, row: int, threshold: float) -> Judged:
    """Put one row into words."""
    return Judged(
        row=row,
        file=str(predictions.files[row]),
        patient=str(predictions.patients[row]),
        tumour=_TYPES[str(predictions.tumour_types[row])],
        magnification=int(predictions.magnifications[row]),
        fold=int(predictions.folds[row]),
        probability=float(predictions.probabilities[row]),
        truth=CLASSES[int(predictions.labels[row])],
        decided=CLASSES[int(predictions.probabilities[row] >= threshold)],
    )
