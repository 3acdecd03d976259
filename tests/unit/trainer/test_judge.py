"""Predictions on disk, and what metrics.json says of them."""

from pathlib import Path

import numpy as np
import pytest

from trainer.calibrate import apply_temperature
from trainer.errors import RunError
from trainer.evaluate import HEADLINE, measure
from trainer.judge import judge_predictions
from trainer.predictions import Predictions, read_predictions, write_predictions

pytestmark = pytest.mark.trainer


@pytest.fixture
def predictions() -> Predictions:
    """Twelve patients of each class, five images each, three folds, overconfident."""
    rng = np.random.default_rng(0)
    patients = np.repeat([f"14-{number}" for number in range(24)], 5)
    labels = np.repeat(np.arange(24) % 2, 5)
    logits = 5 * (labels - 0.5) + rng.normal(0, 5, 120)
    kind = np.where(labels == 1, "M_DC", "B_A")
    return Predictions(
        files=np.array([f"SOB_{kind[n]}-{patients[n]}-{(100, 400)[n % 2]}-{n:03}.png" for n in range(120)]),
        labels=labels,
        patients=patients,
        magnifications=np.where(np.arange(120) % 2, 400, 100),
        folds=np.repeat(np.arange(24) % 3, 5),
        probabilities=(1 / (1 + np.exp(-logits))).astype(np.float32),
    )


def test_predictions_survive_the_disk(predictions: Predictions, tmp_path: Path) -> None:
    """What is read is what was written, to six digits; types come from the names."""
    write_predictions(tmp_path / "oof.csv", predictions)
    again = read_predictions(tmp_path / "oof.csv")
    assert again.files.tolist() == predictions.files.tolist()
    assert again.folds.tolist() == predictions.folds.tolist()
    assert np.abs(again.probabilities - predictions.probabilities).max() < 1e-6
    assert set(again.tumour_types) == {"A", "DC"}
    assert not again.overlap


def test_a_calibrated_column_is_added_on_request(predictions: Predictions, tmp_path: Path) -> None:
    """Whoever counts the published metrics needs the probabilities that they were counted on."""
    write_predictions(tmp_path / "oof.csv", predictions, temperature=2.0)
    header, first = (tmp_path / "oof.csv").read_text().splitlines()[:2]
    assert header.endswith("probability,calibrated_probability")
    expected = apply_temperature(predictions.probabilities[:1], 2.0)[0]
    assert float(first.split(",")[-1]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "did the training end"),
        ("file,label\nx,1\n", "malformed"),
        ("file,label,patient,magnification,fold,probability\n", "no predictions"),
        ("file,label,patient,magnification,fold,probability\nx,1,p,100,0,high\n", "malformed"),
        ("file,label,patient,magnification,fold,probability\nx,1,p,100,0,1.5\n", "outside 0 to 1"),
        ("file,label,patient,magnification,fold,probability\nx,1,p,100,0,nan\n", "outside 0 to 1"),
    ],
)
def test_damaged_predictions_are_named(tmp_path: Path, content: str | None, cause: str) -> None:
    """The file, what is wrong with it, and what to do."""
    if content is not None:
        (tmp_path / "oof.csv").write_text(content)
    with pytest.raises(RunError, match=rf"oof\.csv.*{cause}"):
        read_predictions(tmp_path / "oof.csv")


def test_metrics_are_those_of_the_scaled_probabilities(predictions: Predictions) -> None:
    """Decision and metrics belong to the probabilities that the exported graph will give."""
    metrics = judge_predictions(predictions, "a protocol", shares_patients=False)
    assert metrics.temperature > 1.3
    scaled = predictions.scaled(metrics.temperature)
    expected = measure(scaled.labels, scaled.probabilities, scaled.patients, metrics.decision.threshold)
    assert {name: metrics.overall[name] for name in expected} == pytest.approx(expected)
    band = np.mean(
        (scaled.probabilities >= metrics.decision.abstain_low) & (scaled.probabilities <= metrics.decision.abstain_high)
    )
    assert metrics.overall["uncertain_share"] == pytest.approx(band)
    assert band == pytest.approx(0.15, abs=0.02)


def test_every_headline_has_an_interval_around_it(predictions: Predictions) -> None:
    """All of them, by patient; and the patient rate at each magnification."""
    metrics = judge_predictions(predictions, "a protocol", shares_patients=False)
    assert set(metrics.intervals) == set(HEADLINE)
    for name, (low, high) in metrics.intervals.items():
        assert low < metrics.overall[name] < high
    for values in metrics.by_magnification.values():
        rate = values["patient_recognition_rate"]
        assert values["patient_recognition_rate_low"] < rate < values["patient_recognition_rate_high"]
    assert set(metrics.by_magnification) == {"100", "400"}
    assert set(metrics.by_fold) == {"0", "1", "2"}


def test_calibration_gets_better_on_patients_that_did_not_choose_it(predictions: Predictions) -> None:
    """Overconfident networks are cooled; before and after are both kept."""
    calibration = judge_predictions(predictions, "a protocol", shares_patients=True).calibration
    assert calibration["brier_after"] < calibration["brier_before"]
    assert calibration["cross_entropy_after"] < calibration["cross_entropy_before"]
