"""What networks said of images that they were judged on, as arrays and as oof.csv."""

import csv
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.calibrate import apply_temperature
from trainer.dataset.names import parse_name
from trainer.errors import RunError
from trainer.run import write_csv

HEADER = ("file", "label", "patient", "magnification", "fold", "probability")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One entry a judgement; where judged folds overlap, an image has one in each fold that judged it.

    Attributes:
        files: str (N,), names without folders.
        labels: int64 (N,), benign 0, malignant 1.
        patients: str (N,).
        magnifications: int64 (N,).
        folds: int64 (N,), the fold whose network judged.
        probabilities: of malignancy, float32 (N,).
    """

    files: NDArray[np.str_]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    magnifications: NDArray[np.int64]
    folds: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property  # intervals ask a thousand times
    def overlap(self) -> bool:
        """Whether an image was judged more than once."""
        return len(np.unique(self.files)) < len(self.files)

    @property
    def tumour_types(self) -> NDArray[np.str_]:
        """Short code of each image's tumour, str (N,)."""
        return np.array([parse_name(file).tumour_type for file in self.files])

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Return some rows, by number or by mask."""
        return replace(
            self,
            files=self.files[rows],
            labels=self.labels[rows],
            patients=self.patients[rows],
            magnifications=self.magnifications[rows],
            folds=self.folds[rows],
            probabilities=self.probabilities[rows],
        )

    def with_probabilities(self, probabilities: NDArray[np.float32]) -> Self:
        """Return the same images with other probabilities (N,)."""
        return replace(self, probabilities=probabilities)

    def scaled(self, temperature: float) -> Self:
        """Return the same judgements with their logits divided by a temperature."""
        return self.with_probabilities(apply_temperature(self.probabilities, temperature))


def read_predictions(path: Path) -> Predictions:
    """Read oof.csv.

    Raises:
        RunError: missing, malformed or empty.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        predictions = _from_rows(rows)
    except OSError as error:
        raise RunError(f"no readable {path.name} in {path.parent}: did the training end?") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is malformed ({error!r}): train again, or restore the file") from error
    if not rows:
        raise RunError(f"{path} holds no predictions: train again, or restore the file")
    if not np.all((predictions.probabilities >= 0) & (predictions.probabilities <= 1)):
        raise RunError(f"{path} holds probabilities outside 0 to 1: train again, or restore the file")
    return predictions


def write_predictions(path: Path, predictions: Predictions, temperature: float | None = None) -> None:
    """Write them in the format of oof.csv; with a temperature, another column holds what it makes of them."""
    header: tuple[str, ...] = HEADER
    columns = _columns(predictions)
    if temperature is not None:
        header = (*HEADER, "calibrated_probability")
        columns = (*columns, [f"{value:.6f}" for value in predictions.scaled(temperature).probabilities])
    write_csv(path, header, zip(*columns, strict=True))


def _columns(predictions: Predictions) -> tuple[list[object], ...]:
    return (
        predictions.files.tolist(),
        predictions.labels.tolist(),
        predictions.patients.tolist(),
        predictions.magnifications.tolist(),
        predictions.folds.tolist(),
        [f"{value:.6f}" for value in predictions.probabilities],
    )


def _from_rows(rows: list[dict[str, str]]) -> Predictions:
    return Predictions(
        files=np.array([row["file"] for row in rows], dtype=np.str_),
        labels=np.array([int(row["label"]) for row in rows], np.int64),
        patients=np.array([row["patient"] for row in rows], dtype=np.str_),
        magnifications=np.array([int(row["magnification"]) for row in rows], np.int64),
        folds=np.array([int(row["fold"]) for row in rows], np.int64),
        probabilities=np.array([float(row["probability"]) for row in rows], np.float32),
    )
