"""What `histobatch evaluate` leaves behind: evaluation.json, predictions.csv and a sheet of the worst errors."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle import NOTICE
from trainer.assess import Assessment, Figures
from trainer.dataset.images import DataSet
from trainer.mistakes import worst_errors
from trainer.output import naming_output
from trainer.plots import plot_pictures
from trainer.predictions import HEADER, Predictions
from trainer.published import PATIENT_RATE, PATIENT_RATE_SOURCE
from trainer.run import write_csv, write_json
from trainer.views import VIEWS

WORST = 12


def write_findings(
    folder: Path, assessment: Assessment, plain: Figures, augmented: Figures | None, data: DataSet
) -> None:
    """Write the three files, each in one step.

    Args:
        folder: made where it is missing; what an earlier evaluation left there is replaced.
        assessment: what was judged.
        plain, augmented: its metrics, without and with test-time augmentation.
        data: the images, for the sheet.

    Raises:
        RunError: the folder cannot be written to.
    """
    with naming_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "predictions.csv", _header(assessment), _rows(assessment))
        _draw_worst(folder / "errors.png", assessment, data)
        write_json(folder / "evaluation.json", describe_findings(assessment, plain, augmented))


def describe_findings(assessment: Assessment, plain: Figures, augmented: Figures | None) -> dict[str, object]:
    """Return everything that was found, for JSON."""
    reproduction = assessment.reproduction
    found: dict[str, object] = {
        "notice": NOTICE,
        "subject": assessment.subject,
        "protocol": assessment.protocol,
        "shares_patients": bool(assessment.brand),
        "brand": assessment.brand,
        "fingerprint": assessment.fingerprint,
        "decision": assessment.rule.model_dump(),
        "temperature": assessment.temperature,
        **asdict(plain),
        "calibration": assessment.calibration,
        "published_patient_recognition_rate": {"source": PATIENT_RATE_SOURCE, **PATIENT_RATE},
    }
    if augmented is not None:
        found["test_time_augmentation"] = {"views": VIEWS, **asdict(augmented)}
    if reproduction is not None:
        found["reproduction"] = {**asdict(reproduction), "holds": reproduction.holds}
    return found


def picture_of(data: DataSet) -> dict[str, NDArray[np.uint8]]:
    """Return each image by its file name, RGB uint8 (192, 288, 3)."""
    return {path.name: field for path, field in zip(data.paths, data.fields, strict=True)}


def _draw_worst(path: Path, assessment: Assessment, data: DataSet) -> None:
    worst = worst_errors(assessment.predictions, assessment.rule.threshold, WORST)
    path.unlink(missing_ok=True)
    if worst:
        field_of = picture_of(data)
        pictures = [(error.short_caption, [field_of[error.file]]) for error in worst]
        plot_pictures(pictures, "Wrong, and most sure of it", path, assessment.brand)


def _header(assessment: Assessment) -> tuple[str, ...]:
    extra = ("probability_of_views",) if assessment.views is not None else ()
    return (*HEADER, "tumour_type", "decision", *extra)


def _rows(assessment: Assessment) -> list[tuple[object, ...]]:
    shown: Predictions = assessment.predictions
    views = assessment.views
    return [
        (
            shown.files[row],
            shown.labels[row],
            shown.patients[row],
            shown.magnifications[row],
            shown.folds[row],
            f"{shown.probabilities[row]:.6f}",
            kind,
            assessment.rule.decide(float(shown.probabilities[row])),
            *(() if views is None else (f"{views.probabilities[row]:.6f}",)),
        )
        for row, kind in enumerate(shown.tumour_types)
    ]
