"""Folds that keep patients apart, and batches that show many of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.dataset.names import parse_name
from trainer.dataset.splits import (
    Fold,
    magnification_split,
    patient_folds,
    require_partition,
    require_patient_disjoint,
    shared_patients,
    shares_patients,
    without_shared_patients,
)
from trainer.errors import DatasetError
from trainer.quantise import calibration_rows
from trainer.sampling import sampling_weights

# As unequal as the real ones: images of each benign and each malignant patient.
BENIGN = (84, 68, 26, 24, 12, 8, 3, 3, 1)
MALIGNANT = (68, 24, 24, 20, 18, 15, 13, 11, 10, 7, 7, 4, 4, 3, 2, 2, 2, 1, 1, 1)


def _images(counts: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    labels, patients = [], []
    for label, sizes in enumerate(counts):
        for number, size in enumerate(sizes):
            labels += [label] * size
            patients += [f"{label}-{number}"] * size
    return np.array(labels), np.array(patients)


@settings(max_examples=50, deadline=None)
@given(
    benign=st.lists(st.integers(1, 40), min_size=3, max_size=12),
    malignant=st.lists(st.integers(1, 40), min_size=3, max_size=12),
    seed=st.integers(0, 1000),
)
def test_no_patient_stands_on_both_sides(benign: list[int], malignant: list[int], seed: int) -> None:
    """Whatever the counts: patients apart, every image judged once, both classes judged in every fold."""
    labels, patients = _images((tuple(benign), tuple(malignant)))
    folds = patient_folds(labels, patients, 3, seed)
    for fold in folds:
        assert not set(patients[fold.train]) & set(patients[fold.judged])
        assert set(labels[fold.judged]) == {0, 1}
    assert sorted(np.concatenate([fold.judged for fold in folds])) == list(range(len(labels)))


def test_patients_of_each_class_are_spread_evenly() -> None:
    """No fold has two patients of a class more than another."""
    labels, patients = _images((BENIGN, MALIGNANT))
    for label in (0, 1):
        counts = [
            len(set(patients[fold.judged][labels[fold.judged] == label]))
            for fold in patient_folds(labels, patients, 5, 0)
        ]
        assert max(counts) - min(counts) <= 1


def test_a_seed_decides_the_folds() -> None:
    """The same seed deals the same folds, another seed others."""
    labels, patients = _images((BENIGN, MALIGNANT))
    first, again, other = (patient_folds(labels, patients, 5, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.judged, b.judged) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.judged, b.judged) for a, b in zip(first, other, strict=True))


def test_too_few_patients_are_refused() -> None:
    """A fold without a patient of each class could not be judged."""
    labels, patients = _images(((5, 5), (5, 5, 5)))
    with pytest.raises(DatasetError, match="benign has 2"):
        patient_folds(labels, patients, 3, 0)


def test_a_shared_patient_is_caught_by_name() -> None:
    """The guard behind every split finds a patient on both sides."""
    patients = np.array(["a", "a", "b", "c"])
    folds = (
        Fold(train=np.array([0, 2]), judged=np.array([1, 3])),
        Fold(train=np.array([1, 3]), judged=np.array([0, 2])),
    )
    with pytest.raises(DatasetError, match=r"shares patients.*: a"):
        require_patient_disjoint(folds, patients)


def test_an_image_judged_by_nobody_is_caught() -> None:
    """Leaving out hard images would flatter."""
    folds = (Fold(train=np.array([1]), judged=np.array([0])),)
    with pytest.raises(DatasetError, match="exactly once"):
        require_partition(folds, 2)
    require_patient_disjoint(folds, np.array(["a", "b"]))


def test_the_paper_s_split_is_by_magnification() -> None:
    """40X is judged and the others train, although that shares patients; the functions that look for it say so."""
    names = [parse_name(f"SOB_M_DC-14-{patient}-{m}-001.png") for patient in (1, 2) for m in (40, 100, 200, 400)]
    patients = np.array([name.patient for name in names])
    fold = magnification_split(names)
    assert [names[row].magnification for row in fold.judged] == [40, 40]
    assert sorted({names[row].magnification for row in fold.train}) == [100, 200, 400]
    assert shares_patients(fold, patients)
    assert shared_patients(fold, patients) == ("14-1", "14-2")
    apart = without_shared_patients(fold, patients)
    assert (len(apart.train), apart.judged.tolist()) == (0, fold.judged.tolist())
    assert not shares_patients(apart, patients)


def test_a_magnification_split_with_an_empty_side_is_refused() -> None:
    """Nothing to judge, or nothing to train on: the message says which."""
    names = [parse_name(f"SOB_M_DC-14-1-100-00{number}.png") for number in (1, 2)]
    with pytest.raises(DatasetError, match="no image at 40X"):
        magnification_split(names)
    with pytest.raises(DatasetError, match="all images are at 40X, 100X"):
        magnification_split(names, (40, 100))


def test_classes_are_drawn_evenly_and_patients_nearly() -> None:
    """Half of a batch is benign, and the patient with 84 images is not 84 times the one with one."""
    labels, patients = _images((BENIGN, MALIGNANT))
    weights = sampling_weights(labels, patients, patient_power=0.5)
    assert weights[labels == 0].sum() == pytest.approx(0.5)
    share = {p: weights[patients == p].sum() for p in ("0-0", "0-8")}
    assert share["0-0"] / share["0-8"] == pytest.approx(84**0.5)


def test_calibration_takes_patients_in_turn() -> None:
    """With as many images as patients, each patient gives one."""
    _, patients = _images((BENIGN, MALIGNANT))
    count = len(set(patients))
    rows = calibration_rows(patients, count, seed=0)
    assert len(set(patients[rows])) == count
