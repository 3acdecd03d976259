"""Metrics and the decision rule."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.decision import ABSTAIN_SHARE, choose_rule, judged_with_abstention
from trainer.evaluate import (
    area_under_curve,
    confusion,
    measure,
    measure_each_fold,
    measure_folds,
    patient_draws,
    patient_intervals,
    patient_recognition_rate,
)
from trainer.predictions import Predictions

pytestmark = pytest.mark.trainer

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.3, 0.95], np.float32)
PATIENTS = np.array(["a", "a", "b", "c", "c", "c", "c", "d"])


def test_metrics_equal_those_counted_by_hand() -> None:
    """2 of 3 benign and 4 of 5 malignant images are right at one half."""
    values = measure(LABELS, PROBABILITIES, PATIENTS, 0.5)
    assert values["accuracy"] == pytest.approx(6 / 8)
    assert values["sensitivity"] == pytest.approx(4 / 5)
    assert values["specificity"] == pytest.approx(2 / 3)
    assert values["balanced_accuracy"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert values["f1"] == pytest.approx(8 / 10)
    # Of 15 benign-malignant pairs these are in order: 5 + 5 + 1.
    assert values["auc"] == pytest.approx(11 / 15)


def test_confusion_names_the_kind_of_error() -> None:
    """A benign image called malignant is a false positive."""
    counts = confusion(LABELS, PROBABILITIES, 0.5)
    assert (counts.true_positive, counts.true_negative, counts.false_positive, counts.false_negative) == (4, 2, 1, 1)


def test_patient_rate_weighs_patients_evenly() -> None:
    """Spanhol: the mean over patients of right / all; a 1, b 0, c 3/4, d 1."""
    assert patient_recognition_rate(LABELS, PROBABILITIES, PATIENTS, 0.5) == pytest.approx((1 + 0 + 0.75 + 1) / 4)


def test_one_class_leaves_out_what_it_cannot_tell() -> None:
    """A magnification with malignant images only has an accuracy and no AUC."""
    values = measure(LABELS[3:], PROBABILITIES[3:], PATIENTS[3:], 0.5)
    assert "auc" not in values
    assert values["accuracy"] == pytest.approx(4 / 5)


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    """With ties, and to the last digit."""
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, 200), rng.integers(0, 20, 200).astype(np.float32) / 20
    assert area_under_curve(labels, probabilities) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert np.isnan(area_under_curve(np.ones(3, np.int64), np.ones(3, np.float32)))


def _predictions(labels: list[int], patients: list[str], probabilities: list[float], folds: list[int]) -> Predictions:
    count = len(labels)
    return Predictions(
        files=np.array([f"SOB_M_DC-14-{place}-100-001.png" for place in range(count)]),
        labels=np.array(labels),
        patients=np.array(patients),
        magnifications=np.full(count, 100),
        folds=np.array(folds),
        probabilities=np.array(probabilities, np.float32),
    )


def test_intervals_draw_patients_not_images() -> None:
    """Fifty images of one patient are one piece of evidence: the interval stays as wide as with one each."""
    right = [1] * 50 + [0] * 50
    many = _predictions(
        [0] * 100 + [1] * 100, sorted(["a", "b", "c", "d"] * 50), [0.9] * 50 + [0.1] * 50 + right, [0] * 200
    )
    few = _predictions([0, 0, 1, 1], ["a", "b", "c", "d"], [0.9, 0.1, 1, 0], [0] * 4)
    assert patient_intervals(many, 0.5)["accuracy"] == patient_intervals(few, 0.5)["accuracy"] == (0.0, 1.0)


def test_a_patient_who_is_drawn_twice_counts_twice() -> None:
    """The rate over a draw of a, a, a, b is that of a three times and of b once, not of the two once each."""
    labels, patients = np.repeat([0, 1], 4), np.array(list("abcdefgh"))
    for rows, owners in patient_draws(labels, patients, 50):
        assert len(rows) == len(np.unique(owners)) == 8
        assert labels[rows].tolist() == [0] * 4 + [1] * 4
    drawn = [patients[rows].tolist() for rows, _ in patient_draws(labels, patients, 50)]
    assert any(len(set(names)) < 8 for names in drawn)
    assert drawn == [patients[rows].tolist() for rows, _ in patient_draws(labels, patients, 50)]


def test_folds_that_overlap_are_judged_one_by_one() -> None:
    """Where an image is judged twice, the metric is the mean of the folds', and images count once."""
    twice = _predictions([0, 1, 0, 1], ["a", "b", "a", "b"], [0.1, 0.9, 0.9, 0.9], [0, 0, 1, 1])
    twice = replace(twice, files=np.array(["x", "y", "x", "y"]))
    values = measure_folds(twice, 0.5)
    assert (values["images"], values["patients"]) == (2, 2)
    assert values["accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert values["auc"] == pytest.approx((1 + 0.5) / 2)
    assert measure_each_fold(twice, 0.5)["1"]["specificity"] == 0
    low, high = patient_intervals(twice, 0.5)["accuracy"]
    assert low == high == pytest.approx(0.75)


def test_the_threshold_parts_classes_that_can_be_parted() -> None:
    """With a clear gap the cut lies in it and no decided image is wrong."""
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.uniform(0.05, 0.3, 40), rng.uniform(0.55, 0.9, 40)]).astype(np.float32)
    labels, patients = np.repeat([0, 1], 40), np.repeat([str(n) for n in range(16)], 5)
    rule = choose_rule(labels, probabilities, patients)
    assert 0.3 < rule.threshold < 0.55
    assert judged_with_abstention(labels, probabilities, rule)["accuracy_when_decided"] == 1.0


def test_the_threshold_moves_where_all_patients_ask_for_it() -> None:
    """Probabilities that are all too high are parted where the gap is, not at one half."""
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.uniform(0.5, 0.7, 40), rng.uniform(0.85, 0.95, 40)]).astype(np.float32)
    labels, patients = np.repeat([0, 1], 40), np.repeat([str(n) for n in range(16)], 5)
    assert 0.7 <= choose_rule(labels, probabilities, patients).threshold <= 0.85


def test_the_threshold_stays_where_evidence_is_thin() -> None:
    """A cut that one patient of four prefers is luck: the threshold stays at one half."""
    labels, patients = np.repeat([0, 1], 20), np.repeat(["a", "b", "c", "d", "e", "f", "g", "h"], 5)
    probabilities = np.where(labels == 1, 0.9, 0.1).astype(np.float32)
    probabilities[patients == "a"] = 0.6
    assert choose_rule(labels, probabilities, patients).threshold == 0.5


def test_the_band_holds_the_images_nearest_to_the_threshold() -> None:
    """About ABSTAIN_SHARE of the images are left to a person."""
    rng = np.random.default_rng(1)
    probabilities = rng.uniform(0.02, 0.98, 400).astype(np.float32)
    labels, patients = (
        (probabilities > 0.5).astype(np.int64),
        np.array([f"{p > 0.5}-{n % 9}" for n, p in enumerate(probabilities)]),
    )
    rule = choose_rule(labels, probabilities, patients)
    assert rule.abstain_low < rule.threshold < rule.abstain_high
    assert judged_with_abstention(labels, probabilities, rule)["uncertain_share"] == pytest.approx(
        ABSTAIN_SHARE, abs=0.01
    )
