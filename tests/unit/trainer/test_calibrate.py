"""Calibration errors and temperature scaling."""

import numpy as np
import pytest

from trainer.calibrate import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    apply_temperature,
    calibration_errors,
    cross_fitted,
    describe_calibration,
    even_weights,
    fit_temperature,
    to_logits,
)

pytestmark = pytest.mark.trainer


def _overconfident(temperature: float, count: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities whose logits are too large by a factor, and patients of one image each."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    sharp = (1 / (1 + np.exp(-logits * temperature))).astype(np.float32)
    return labels, sharp, np.array([f"p{number}" for number in range(count)])


def test_the_temperature_that_was_applied_is_found() -> None:
    """Logits three times too large get a temperature of about three, and the error shrinks to nothing."""
    labels, sharp, patients = _overconfident(3.0)
    assert fit_temperature(labels, sharp, patients) == pytest.approx(3.0, rel=0.1)
    before = calibration_errors(labels, sharp)
    after = calibration_errors(labels, apply_temperature(sharp, 3.0))
    assert before["ece_equal_width"] > 0.1
    assert after["ece_equal_width"] < 0.03
    assert before["ece_equal_mass"] > 0.1
    assert after["ece_equal_mass"] < 0.03
    assert after["brier"] < before["brier"]
    assert after["cross_entropy"] < before["cross_entropy"]


def test_the_temperature_is_the_best_of_a_grid() -> None:
    """No temperature nearby has a smaller cross-entropy under the same weights."""
    labels, sharp, _ = _overconfident(2.0, 300)
    patients = np.array([f"p{number // 7}{label}" for number, label in enumerate(labels)])
    weights, margins = even_weights(labels, patients), to_logits(sharp) * (2 * labels - 1)
    losses = {t: weights @ np.logaddexp(0, -margins / t) for t in np.linspace(0.5, 6, 500)}
    assert fit_temperature(labels, sharp, patients) == pytest.approx(min(losses, key=lambda t: losses[t]), abs=0.02)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([0.0, 0.0, 1.0, 1.0], LOWEST_TEMPERATURE), ([1.0, 1.0, 0.0, 0.0], HIGHEST_TEMPERATURE)],
)
def test_the_temperature_stays_finite(probabilities: list[float], expected: float) -> None:
    """Perfect and perfectly wrong probabilities of exactly 0 and 1 get the bounds, not nothing or infinity."""
    found = fit_temperature(np.array([0, 0, 1, 1]), np.array(probabilities, np.float32), np.array(list("abcd")))
    assert found == pytest.approx(expected, rel=1e-3)
    assert np.all(np.isfinite(apply_temperature(np.array(probabilities, np.float32), found)))


def test_one_patient_with_many_images_does_not_decide() -> None:
    """Each class weighs one half and each of its patients the same, however many images it has."""
    labels = np.array([0] * 10 + [1, 1, 1])
    patients = np.array(["a"] * 9 + ["b", "c", "c", "d"])
    weights = even_weights(labels, patients)
    for patient in "abcd":
        assert weights[patients == patient].sum() == pytest.approx(0.25)


def test_a_temperature_moves_no_decision_at_one_half() -> None:
    """The order stays, and so does the side of one half; 1 returns the very same numbers."""
    probabilities = np.array([0.01, 0.4, 0.5, 0.6, 0.99], np.float32)
    cooled = apply_temperature(probabilities, 3.0)
    assert np.all(np.diff(cooled) > 0)
    assert ((cooled >= 0.5) == (probabilities >= 0.5)).all()
    assert apply_temperature(probabilities, 1.0) is probabilities


def test_expected_errors_equal_those_counted_by_hand() -> None:
    """Two bins: 0.15 said of two with none malignant, 0.85 said of two with one."""
    errors = calibration_errors(np.array([0, 0, 0, 1]), np.array([0.15, 0.15, 0.85, 0.85], np.float32))
    assert errors["ece_equal_width"] == pytest.approx((0.15 * 2 + 0.35 * 2) / 4, abs=1e-6)
    assert errors["ece_equal_mass"] == pytest.approx((0.15 + 0.15 + 0.85 + 0.15) / 4, abs=1e-6)
    assert errors["brier"] == pytest.approx((2 * 0.15**2 + 0.85**2 + 0.15**2) / 4, abs=1e-6)


def test_a_folds_own_patients_do_not_choose_its_temperature() -> None:
    """Turning one fold's labels round changes how the other folds are scaled, never the fold itself."""
    labels, sharp, patients = _overconfident(3.0, 400)
    folds = np.arange(400) % 4
    first = cross_fitted(labels, sharp, patients, folds)
    turned = cross_fitted(np.where(folds == 2, 1 - labels, labels), sharp, patients, folds)
    assert first is not None
    assert turned is not None
    assert np.array_equal(first[folds == 2], turned[folds == 2])
    assert not np.array_equal(first[folds == 1], turned[folds == 1])


def test_overlapping_folds_share_no_patient_with_the_fit_either() -> None:
    """A patient who is judged in two folds helps to scale neither."""
    labels, sharp, _ = _overconfident(3.0, 400)
    folds = np.arange(400) % 4
    patients = np.array([f"p{number // 2}" for number in range(400)])  # in folds 0 and 1, or in 2 and 3
    first = cross_fitted(labels, sharp, patients, folds)
    turned = cross_fitted(np.where(folds == 1, 1 - labels, labels), sharp, patients, folds)
    assert first is not None
    assert turned is not None
    assert np.array_equal(first[folds == 0], turned[folds == 0])


def test_a_single_judged_fold_is_scaled_by_other_patients_too() -> None:
    """The paper's protocol judges once; its patients are dealt into groups."""
    labels, sharp, patients = _overconfident(3.0, 400)
    values = describe_calibration(labels, sharp, patients, np.zeros(400, np.int64))
    assert values["ece_equal_width_after"] < values["ece_equal_width_before"]


def test_too_few_patients_are_said_to_be_too_few() -> None:
    """With one patient a class nobody else is left to fit on: no value after, rather than a flattering one."""
    values = describe_calibration(
        np.array([0, 0, 1, 1]),
        np.array([0.1, 0.2, 0.8, 0.9], np.float32),
        np.array(list("aabb")),
        np.zeros(4, np.int64),
    )
    assert "brier_before" in values
    assert not any(name.endswith("_after") for name in values)
