"""Splits by patient, and the paper's by magnification, which shares patients and says so."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.dataset.names import ImageName
from trainer.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Row numbers of one train/judge split, int64, that have none in common; together they need not be all rows."""

    train: NDArray[np.int64]
    judged: NDArray[np.int64]


def patient_folds(labels: NDArray[np.int64], patients: NDArray[np.str_], count: int, seed: int) -> tuple[Fold, ...]:
    """Deal the patients of each class into folds, so that every image is judged exactly once.

    Patients with the most images are dealt first, one to each fold a round. scikit-learn's StratifiedGroupKFold
    evens out images instead: here, with 1 to 84 images a patient, it leaves folds with one malignant patient.

    Args:
        labels: (N,), benign 0, malignant 1.
        patients: (N,), the patient of each image.
        count: number of folds, at least 2.
        seed: decides which fold a patient goes to within a round.

    Raises:
        DatasetError: a class has fewer patients than there are folds, or one patient stands in both classes.
    """
    rng = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    for label, name in ((0, "benign"), (1, "malignant")):
        ids, images = np.unique(patients[labels == label], return_counts=True)
        if len(ids) < count:
            raise DatasetError(f"{count} folds need {count} patients of each class, {name} has {len(ids)}")
        if not fold_of.keys().isdisjoint(ids):
            raise DatasetError(f"a patient has benign and malignant images: {sorted(fold_of.keys() & set(ids))[0]}")
        largest_first = np.lexsort((rng.random(len(ids)), -images))
        for start in range(0, len(ids), count):
            in_round = ids[largest_first[start : start + count]]
            fold_of.update(zip(in_round, rng.permutation(count), strict=False))
    number = np.array([fold_of[patient] for patient in patients])
    folds = tuple(
        Fold(train=np.flatnonzero(number != index), judged=np.flatnonzero(number == index)) for index in range(count)
    )
    require_patient_disjoint(folds, patients)
    require_partition(folds, len(patients))
    return folds


def magnification_split(names: Sequence[ImageName], test_magnifications: Sequence[int] = (40,)) -> Fold:
    """Judge some magnifications and train on the others, as the paper does: it shares nearly all patients.

    Raises:
        DatasetError: one side would be empty.
    """
    judged = np.array([name.magnification in test_magnifications for name in names], bool)
    asked = ", ".join(f"{magnification}X" for magnification in test_magnifications)
    if not judged.any():
        raise DatasetError(f"no image at {asked}: this split tests on it, take one by patient")
    if judged.all():
        raise DatasetError(f"all images are at {asked}: none is left to train on, take a split by patient")
    return Fold(train=np.flatnonzero(~judged), judged=np.flatnonzero(judged))


def shared_patients(fold: Fold, patients: NDArray[np.str_]) -> tuple[str, ...]:
    """Return the patients that stand on both sides, sorted."""
    return tuple(np.intersect1d(patients[fold.train], patients[fold.judged]).tolist())


def shares_patients(fold: Fold, patients: NDArray[np.str_]) -> bool:
    """Tell whether a patient stands on both sides."""
    return bool(shared_patients(fold, patients))


def without_shared_patients(fold: Fold, patients: NDArray[np.str_]) -> Fold:
    """Take the images of judged patients out of the training side; what is judged stays as it is."""
    apart = ~np.isin(patients[fold.train], patients[fold.judged])
    return Fold(train=fold.train[apart], judged=fold.judged)


def require_patient_disjoint(folds: Sequence[Fold], patients: NDArray[np.str_]) -> None:
    """Refuse folds that have a patient on both sides.

    Raises:
        DatasetError: naming a shared patient.
    """
    for number, fold in enumerate(folds):
        if shared := shared_patients(fold, patients):
            raise DatasetError(f"fold {number} shares patients between train and judged: {shared[0]}, ...")


def require_partition(folds: Sequence[Fold], images: int) -> None:
    """Refuse folds that miss an image or judge one twice; the official ones do both.

    Raises:
        DatasetError: they do.
    """
    judged = np.sort(np.concatenate([fold.judged for fold in folds]))
    if not np.array_equal(judged, np.arange(images)):
        raise DatasetError("the folds do not judge every image exactly once")
