"""Loss and accuracy by epoch, as a run kept them in curves.csv."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import RunError

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One fit: values by epoch, float64 (epochs,); a fit on all images has no test values, which are NaN then.

    Attributes:
        fit: the fold, or "all".
        epochs: int64 (epochs,), counted from 1.
    """

    fit: str
    epochs: NDArray[np.int64]
    train_loss: NDArray[np.float64]
    train_accuracy: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]


def read_curves(path: Path) -> tuple[Curve, ...]:
    """Read curves.csv; no curves where there is no such file, as in runs of older versions.

    Raises:
        RunError: the file is malformed.
    """
    if not path.is_file():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return tuple(_curve(fit, [row for row in rows if row["fit"] == fit]) for fit in {row["fit"]: 0 for row in rows})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is malformed ({error!r}): remove it to go on without curves, or train again") from error


def mean_by_epoch(curves: tuple[Curve, ...], name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return epochs and the mean over fits of one kind of value; of an epoch that not all fits reached, over those."""
    epochs = np.unique(np.concatenate([curve.epochs for curve in curves]))
    return epochs, np.array(
        [np.mean([values_of(c, name)[c.epochs == epoch] for c in curves if epoch in c.epochs]) for epoch in epochs]
    )


def values_of(curve: Curve, name: str) -> NDArray[np.float64]:
    """Return one kind of value by its column's name."""
    columns: dict[str, NDArray[np.float64]] = {
        "train_loss": curve.train_loss,
        "train_accuracy": curve.train_accuracy,
        "test_loss": curve.test_loss,
        "test_accuracy": curve.test_accuracy,
    }
    return columns[name]


def _curve(fit: str, rows: list[dict[str, str]]) -> Curve:
    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) if row[name] else np.nan for row in rows])

    return Curve(
        fit=fit,
        epochs=np.array([int(row["epoch"]) for row in rows], np.int64),
        train_loss=column("train_loss"),
        train_accuracy=column("train_accuracy"),
        test_loss=column("test_loss"),
        test_accuracy=column("test_accuracy"),
    )
