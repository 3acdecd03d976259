"""MODEL_CARD.md."""

from datetime import UTC, datetime

import numpy as np
import pytest

from core.bundle import NOTICE, DataSet, DecisionRule, Manifest
from trainer.card import model_card
from trainer.judge import judge_predictions
from trainer.predictions import Predictions
from trainer.report import Verification, manifest_metrics
from trainer.run import RunMetrics
from trainer.verify import compare

pytestmark = pytest.mark.trainer


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    return Predictions(
        files=np.array([f"SOB_M_DC-14-{n}-100-001.png" for n in range(80)]),
        labels=labels,
        patients=np.repeat([f"14-{n}" for n in range(16)], 5),
        magnifications=np.tile([40, 400], 40),
        folds=np.repeat(np.arange(16) % 2, 5),
        probabilities=(0.3 + 0.4 * labels + rng.normal(0, 0.25, 80)).astype(np.float32).clip(0.01, 0.99),
    )


def _manifest(metrics: RunMetrics, predictions: Predictions) -> Manifest:
    agreement = compare("a graph", predictions.probabilities, predictions.probabilities, 0.5)
    verification = Verification(
        onnx=agreement,
        shipped_int8=agreement,
        int8=agreement,
        fold_fp32=predictions.probabilities,
        fold_int8=predictions.probabilities,
    )
    return Manifest(
        name="a-model",
        version="1.2.3",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        files=(),
        decision=DecisionRule(threshold=0.5, abstain_low=0.4, abstain_high=0.6),
        metrics=manifest_metrics(metrics, predictions, verification),
        dataset=DataSet(
            name="BreakHis", images=80, patients=16, fingerprint="f" * 64, licence="CC BY 4.0", attribution="Spanhol"
        ),
        git_commit="abc",
        licence="a licence",
        attribution="Spanhol",
    )


def test_the_card_tells_use_limits_and_numbers(predictions: Predictions) -> None:
    """Intended use and what it is not for, intervals, a row a magnification with the bar, calibration both ways."""
    metrics = judge_predictions(predictions, "A protocol.", shares_patients=False)
    card = model_card(_manifest(metrics, predictions))
    low, high = metrics.intervals["auc"]
    calibration = metrics.calibration
    for part in (
        NOTICE,
        "## Intended use",
        "**Not** for diagnosis",
        "A protocol.",
        f"| auc | {metrics.overall['auc']:.3f} ({low:.3f} to {high:.3f}) |",
        "| 40X | 40 | 16 |",
        "| 0.915 |",
        "| 400X | 40 | 16 |",
        "| 0.879 |",
        f"| brier | {calibration['brier_before']:.3f} | {calibration['brier_after']:.3f} |",
        f"Shipped temperature: {metrics.temperature:.3f}",
        "## Limits",
        "16 patients of one laboratory",
        "histobatch evaluate --bundle models/a-model-1.2.3 --data FOLDER",
        "report/report.html",
    ):
        assert part in card
    assert "SHARES PATIENTS" not in card


def test_the_card_brands_what_shares_patients(predictions: Predictions) -> None:
    """Before every table of such numbers."""
    metrics = judge_predictions(predictions, "A protocol.", shares_patients=True)
    card = model_card(_manifest(metrics, predictions))
    assert card.count("SHARES PATIENTS BETWEEN TRAIN AND TEST") == 3


def test_the_pictures_of_the_card_are_those_of_the_report(predictions: Predictions) -> None:
    """Each is one that the report draws."""
    metrics = judge_predictions(predictions, "A protocol.", shares_patients=False)
    card = model_card(_manifest(metrics, predictions))
    for name in ("roc", "reliability", "confusion", "patients"):
        assert f"](report/{name}.png)" in card
    assert "judgement.png" not in card


def test_too_few_patients_for_calibration_are_said_to_be(predictions: Predictions) -> None:
    """A measure that could not be cross-fitted is not filled in."""
    few = predictions.take(np.isin(predictions.patients, ["14-0", "14-8"]))
    metrics = judge_predictions(few, "A protocol.", shares_patients=False)
    assert "too few patients to tell" in model_card(_manifest(metrics, few))
