"""Splits that never let a patient stand on both sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Row numbers of one train/judge split, int64; together they are all rows, each once."""

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
    return folds


def require_patient_disjoint(folds: tuple[Fold, ...], patients: NDArray[np.str_]) -> None:
    """Refuse folds that share a patient, miss an image or judge one twice.

    Raises:
        DatasetError: naming a shared patient.
    """
    for number, fold in enumerate(folds):
        shared = set(patients[fold.train]) & set(patients[fold.judged])
        if shared:
            raise DatasetError(f"fold {number} shares patients between train and judged: {sorted(shared)[0]}, ...")
    judged = np.sort(np.concatenate([fold.judged for fold in folds]))
    if not np.array_equal(judged, np.arange(len(patients))):
        raise DatasetError("the folds do not judge every image exactly once")
