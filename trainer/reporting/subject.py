"""What a report is about: a finished run, its images and its out-of-fold predictions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.assess import Figures, brand_of, figures, rows_of_files
from trainer.calibrate import calibration_errors, cross_fitted
from trainer.curves import Curve, read_curves
from trainer.dataset.images import DataSet
from trainer.predictions import Predictions, read_predictions
from trainer.run import RunConfig, RunFolder, RunMetrics


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Everything that the report shows, read once.

    Attributes:
        rows: for each prediction its row of `data`, int64 (N,).
        plain: predictions as the networks made them.
        scaled: the same after the temperature of the run, on which decisions and metrics rest.
        cross: probabilities (N,) after temperatures that were fitted on other patients; None with too few of them.
        curves: none where the run kept none.
        brand: "shares patients between train and test", or "".
    """

    run: RunFolder
    config: RunConfig
    metrics: RunMetrics
    data: DataSet
    rows: NDArray[np.int64]
    plain: Predictions
    scaled: Predictions
    cross: NDArray[np.float32] | None
    found: Figures
    curves: tuple[Curve, ...]
    brand: str

    @property
    def threshold(self) -> float:
        """From which probability on an image is called malignant."""
        return self.metrics.decision.threshold

    def calibration(self) -> list[tuple[str, dict[str, float]]]:
        """Return calibration measures by the name of the state that they describe."""
        labels = self.plain.labels
        states = [("before temperature scaling", calibration_errors(labels, self.plain.probabilities))]
        if self.cross is not None:
            states.append(("after it, fitted on other patients", calibration_errors(labels, self.cross)))
        return states


def read_subject(run: RunFolder, data: DataSet) -> Subject:
    """Read a run and measure its predictions anew.

    Raises:
        RunError: the run is incomplete or damaged, or the images are not those of the run.
    """
    config, metrics = run.read_config(), run.read_metrics()
    plain = read_predictions(run.path / "oof.csv")
    scaled = plain.scaled(metrics.temperature)
    return Subject(
        run=run,
        config=config,
        metrics=metrics,
        data=data,
        rows=rows_of_files(plain, data, run),
        plain=plain,
        scaled=scaled,
        cross=cross_fitted(plain.labels, plain.probabilities, plain.patients, plain.folds),
        found=figures(scaled, metrics.decision),
        curves=read_curves(run.path / "curves.csv"),
        brand=brand_of(config.shares_patients or metrics.shares_patients),
    )
