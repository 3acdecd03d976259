"""The published list of images and the authors' folds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from core.settings import PROJECT
from tests.unit.trainer.dataset.conftest import MakeFolder
from trainer.dataset.completeness import completeness, is_full
from trainer.dataset.doubles import Doubles
from trainer.dataset.images import DataSet, load_dataset
from trainer.dataset.names import ImageName, parse_name
from trainer.dataset.protocols import folds_for, official_folds
from trainer.dataset.published import (
    FULL_IMAGES,
    FULL_PATIENTS,
    FULL_PATIENTS_BY_DIGITS,
    MAGNIFICATIONS,
    PUBLISHED_COUNTS,
    count_cells,
    official,
    stem_of,
    stems_sha256,
)
from trainer.dataset.splits import require_patient_disjoint, shared_patients
from trainer.errors import DatasetError

SHARED_FOLDS = PROJECT.parent / "shared" / "data" / "breakhis-folds"
FILES = sorted(f"{stem}.png" for stem in official().stems)
NAMES = [parse_name(file) for file in FILES]


def full_set(files: list[str] = FILES) -> DataSet:
    """The published names, without a pixel."""
    names = tuple(parse_name(file) for file in files)
    return DataSet(
        paths=tuple(Path(file) for file in files),
        names=names,
        labels=np.array([name.label for name in names], np.int64),
        patients=np.array([name.patient for name in names]),
        pixels=np.zeros((len(files), 0, 0, 3), np.uint8),
        fields=np.zeros((len(files), 0, 0, 3), np.uint8),
        fingerprint="",
        unknown=(),
        broken=(),
    )


def test_the_list_has_the_published_counts() -> None:
    """Names, cells and classes are those of Spanhol et al. 2016; patients are counted in both ways."""
    assert len(NAMES) == FULL_IMAGES
    counted = count_cells(NAMES)
    assert {t: tuple(counted[t, m] for m in MAGNIFICATIONS) for t in PUBLISHED_COUNTS} == PUBLISHED_COUNTS
    by_class = Counter((name.label, name.magnification) for name in NAMES)
    assert [by_class[0, m] for m in MAGNIFICATIONS] == [625, 644, 623, 588]
    assert [by_class[1, m] for m in MAGNIFICATIONS] == [1370, 1437, 1390, 1232]
    assert len({name.typed_slide for name in NAMES}) == FULL_PATIENTS == 82
    assert len({name.patient for name in NAMES}) == FULL_PATIENTS_BY_DIGITS == 70


def test_the_folds_are_the_published_ones() -> None:
    """Each test part has the number and the names that were published, by digest, and both sides are all images."""
    folds = official_folds(NAMES)
    assert [len(fold.judged) for fold in folds] == [2904, 2403, 2577, 2698, 3083]
    for fold, published in zip(folds, official().folds, strict=True):
        assert len(fold.judged) == published.images
        assert stems_sha256(stem_of(FILES[row]) for row in fold.judged) == published.sha256
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.judged])), np.arange(FULL_IMAGES))


@pytest.mark.skipif(not SHARED_FOLDS.is_dir(), reason="the authors' lists are not here; digests are held above")
def test_the_folds_are_those_of_the_authors_files() -> None:
    """Line by line: every name, its magnification and its side."""
    for number, fold in enumerate(official_folds(NAMES), start=1):
        lines = (SHARED_FOLDS / f"dsfold{number}.txt").read_text().split()
        judged = set(fold.judged.tolist())
        ours = [
            f"{file}|{name.magnification}|{number}|{'test' if row in judged else 'train'}"
            for row, (file, name) in enumerate(zip(FILES, NAMES, strict=True))
        ]
        assert sorted(ours) == sorted(lines)


def test_the_published_folds_share_patients_by_our_rule() -> None:
    """They part slides under types; by year and digits patients stand on both sides, slide 13412 in three folds."""
    patients = np.array([name.patient for name in NAMES])
    slides = np.array([name.slide for name in NAMES])
    folds = official_folds(NAMES)
    assert [len(shared_patients(fold, patients)) for fold in folds] == [8, 6, 7, 7, 6]
    assert [shared_patients(fold, slides) for fold in folds] == [("14-13412",), (), ("14-13412",), (), ("14-13412",)]
    assert all(not shared_patients(fold, np.array([name.typed_slide for name in NAMES])) for fold in folds)


def test_the_full_set_is_judged_on_the_published_test_parts_with_patients_apart() -> None:
    """Only the training sides lose images, and the protocol says how many."""
    data = full_set()
    plan = folds_for(data, 5, 0)
    require_patient_disjoint(plan.folds, data.patients)
    lost = []
    for fold, published in zip(plan.folds, official_folds(data.names), strict=True):
        assert np.array_equal(fold.judged, published.judged)
        assert set(data.labels[fold.train]) == set(data.labels[fold.judged]) == {0, 1}
        lost.append(len(published.train) - len(fold.train))
    assert all(lost)
    assert f"{min(lost)} to {max(lost)} training images a fold are left out" in plan.description
    assert "6814 of 7909 images are judged, some up to 4 times" in plan.description
    assert not plan.partition


def test_other_numbers_of_folds_are_seeded_on_the_full_set_too() -> None:
    """And the protocol says that they are not the official ones."""
    plan = folds_for(full_set(), 4, 3)
    assert len(plan.folds) == 4
    assert plan.partition
    assert "4 folds by patient, seed 3" in plan.description
    assert "not the official folds" in plan.description


def test_a_part_is_judged_on_seeded_folds() -> None:
    """One missing image is enough: numbers would no longer compare."""
    plan = folds_for(full_set(FILES[1:]), 5, 0)
    assert plan.partition
    assert "every image is judged once" in plan.description


def test_a_double_that_is_left_out_leaves_the_set_full() -> None:
    """The published set holds pixel-equal images; leaving them out does not make it a part."""
    kept, left_out = FILES[0], FILES[1]
    data = full_set([file for file in FILES if file != left_out])
    assert not is_full(data)
    with_double = DataSet(**{**vars(data), "doubles": ((Path(kept), Path(left_out)),)})
    assert is_full(with_double)
    assert not folds_for(with_double, 5, 0).partition


def test_a_foreign_slide_has_no_official_fold() -> None:
    """It is named."""
    with pytest.raises(DatasetError, match="DC-14-99999 is not of the published set"):
        official_folds([*NAMES[:3], parse_name("SOB_M_DC-14-99999-100-001.png")])


def test_a_full_set_has_no_differences() -> None:
    """All names, all counts."""
    found = completeness(full_set())
    assert (found.full, found.claims_full, found.differences, found.images) == (True, True, (), FULL_IMAGES)


def test_a_set_as_large_as_the_full_one_tells_how_it_differs() -> None:
    """A missing image and one too many: the cells and the missing name are reported."""
    files = [*FILES[1:], "SOB_M_PC-14-15704-400-999.png"]
    found = completeness(full_set(files))
    assert (found.full, found.claims_full) == (False, True)
    missing = parse_name(FILES[0])
    assert f"A at {missing.magnification}X: 112 images, published 113" in found.differences
    assert "PC at 400X: 139 images, published 138" in found.differences
    assert f"missing: {stem_of(FILES[0])}" in found.differences
    assert len(found.differences) == 3


def test_a_part_reports_the_share_of_each_cell(make_folder: MakeFolder, tmp_path: Path) -> None:
    """And no differences, because it claims nothing."""
    found = completeness(load_dataset(make_folder(tmp_path, 8)))
    assert (found.full, found.claims_full, found.differences) == (False, False, ())
    assert ("A", 100, 4, 113) in found.shares
    assert ("DC", 40, 0, 864) in found.shares
    assert len(found.shares) == 32


def test_nothing_is_left_out_without_doubles() -> None:
    """The empty case."""
    assert Doubles(agreeing=(), contradictory=()).left_out == frozenset()


@pytest.mark.parametrize("name", ["a.png", "a.b.jpg", "a.JPEG"])
def test_a_stem_is_a_name_without_its_ending(name: str) -> None:
    """Images may have been encoded anew."""
    assert stem_of(name) == name.rpartition(".")[0]


def test_the_typed_slide_is_what_the_authors_count() -> None:
    """Type, year, digits and letters."""
    name: ImageName = parse_name("SOB_B_A-14-22549AB-100-001.png")
    assert name.typed_slide == "A-14-22549AB"
