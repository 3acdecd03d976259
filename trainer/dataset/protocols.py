"""Which folds judge a data set: the authors' five for the full set, seeded ones for a part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.dataset.completeness import is_full
from trainer.dataset.images import DataSet
from trainer.dataset.names import ImageName
from trainer.dataset.published import official
from trainer.dataset.splits import Fold, patient_folds, require_patient_disjoint, without_shared_patients
from trainer.errors import DatasetError

OFFICIAL_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """Folds and where they come from.

    Attributes:
        folds: patients apart in each.
        description: one or two sentences for the protocol.
        partition: whether every image is judged exactly once. The official folds judge some several times and some
            never.
    """

    folds: tuple[Fold, ...]
    description: str
    partition: bool


def official_folds(names: Sequence[ImageName]) -> tuple[Fold, ...]:
    """Return the authors' five folds of these images, exactly as published.

    They keep apart what the authors count as patients: slides under types. By year and digits, each has 6 to 8
    patients on both sides, and in three of them slide 13412, whose pixels are partly the same under its two types:
    see folds_for.

    Raises:
        DatasetError: a slide that is not in the published list.
    """
    slides = np.array([name.typed_slide for name in names])
    if foreign := set(slides.tolist()) - official().slides:
        raise DatasetError(f"slide {min(foreign)} is not of the published set: take seeded folds")
    folds = []
    for published in official().folds:
        judged = np.isin(slides, sorted(published.test))
        folds.append(Fold(train=np.flatnonzero(~judged), judged=np.flatnonzero(judged)))
    return tuple(folds)


def folds_for(data: DataSet, count: int, seed: int) -> FoldPlan:
    """Choose folds: the official five where the full set is there and five are asked for, seeded ones otherwise.

    The official test parts are taken as they are, so that numbers compare with published ones. Training images of
    patients who are also tested are left out, which the authors did not do: it can only lower the numbers.

    Args:
        data: the images.
        count: number of folds, at least 2.
        seed: of seeded folds.

    Raises:
        DatasetError: too few patients for the folds.
    """
    if count == OFFICIAL_FOLDS and is_full(data):
        return _official_plan(data)
    folds = patient_folds(data.labels, data.patients, count, seed)
    description = f"{count} folds by patient, seed {seed}; every image is judged once"
    if is_full(data):
        description += f" (not the official folds, which are {OFFICIAL_FOLDS})"
    return FoldPlan(folds=folds, description=description, partition=True)


def _official_plan(data: DataSet) -> FoldPlan:
    published = official_folds(data.names)
    folds = tuple(without_shared_patients(fold, data.patients) for fold in published)
    require_patient_disjoint(folds, data.patients)
    left_out = [len(before.train) - len(after.train) for before, after in zip(published, folds, strict=True)]
    judged, times = np.unique(np.concatenate([fold.judged for fold in folds]), return_counts=True)
    description = (
        f"The five folds of the authors of BreakHis, test parts as published; {min(left_out)} to {max(left_out)} "
        "training images a fold are left out, because the patient (year and digits of the slide) is also tested. "
        f"The test parts overlap: {len(judged)} of {len(data)} images are judged, some up to {times.max()} times"
    )
    return FoldPlan(folds=folds, description=description, partition=False)
