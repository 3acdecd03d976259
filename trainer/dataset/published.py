"""What the authors published about the full set, and what a copy of it lacks."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainer.dataset.names import BENIGN_TYPES, IMAGE_SUFFIXES, MALIGNANT_TYPES, ImageName
from trainer.errors import DatasetError

MAGNIFICATIONS = (40, 100, 200, 400)
TYPES = (*BENIGN_TYPES, *MALIGNANT_TYPES)
# Spanhol et al. 2016, table of images by type at 40X, 100X, 200X and 400X.
PUBLISHED_COUNTS: Mapping[str, tuple[int, int, int, int]] = {
    "A": (114, 113, 111, 106),
    "F": (253, 260, 264, 237),
    "PT": (109, 121, 108, 115),
    "TA": (149, 150, 140, 130),
    "DC": (864, 903, 896, 788),
    "LC": (156, 170, 163, 137),
    "MC": (205, 222, 196, 169),
    "PC": (145, 142, 135, 138),
}
FULL_IMAGES = 7909
# The authors count each slide id under each type as a patient. By year and digits alone, as this trainer has it,
# the same images show FULL_PATIENTS_BY_DIGITS patients: see docs/dataset.md.
FULL_PATIENTS, FULL_PATIENTS_BY_DIGITS = 82, 70


@dataclass(frozen=True, kw_only=True)
class OfficialFold:
    """One of the authors' five folds.

    Attributes:
        test: slides under their types ("DC-14-10926") whose images are tested.
        images: number of images tested.
        sha256: of the sorted stems of their names, joined by newlines.
    """

    test: frozenset[str]
    images: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Official:
    """The published list of images, and its folds.

    Attributes:
        stems: all 7,909 names without their endings.
        slides: all 82 slides under their types.
    """

    stems: frozenset[str]
    slides: frozenset[str]
    folds: tuple[OfficialFold, ...]


@lru_cache(maxsize=1)
def official() -> Official:
    """Read the list that comes with the trainer.

    Raises:
        DatasetError: the file was changed: its names do not have the digest that it states.
    """
    content = json.loads(Path(__file__).with_name("official_folds.json").read_text(encoding="utf-8"))
    stems = frozenset(
        f"SOB_{'B' if slide.partition('-')[0] in BENIGN_TYPES else 'M'}_{slide}-{magnification}-{number:03}"
        for slide, numbers in content["slides"].items()
        for magnification, ranges in numbers.items()
        for number in _numbers(ranges)
    )
    if stems_sha256(stems) != content["names_sha256"]:
        raise DatasetError("official_folds.json does not hold the published names: install the trainer again")
    folds = tuple(
        OfficialFold(test=frozenset(fold["test"]), images=fold["images"], sha256=fold["sha256"])
        for fold in content["folds"]
    )
    return Official(stems=stems, slides=frozenset(content["slides"]), folds=folds)


def stems_sha256(stems: Iterable[str]) -> str:
    """Return the digest by which sets of names are compared."""
    return hashlib.sha256("\n".join(sorted(stems)).encode()).hexdigest()


def count_cells(names: Iterable[ImageName]) -> Counter[tuple[str, int]]:
    """Count images by type and magnification."""
    return Counter((name.tumour_type, name.magnification) for name in names)


def published_cell(tumour_type: str, magnification: int) -> int:
    """Return the published number of images of a type at a magnification."""
    return PUBLISHED_COUNTS[tumour_type][MAGNIFICATIONS.index(magnification)]


def differences(names: Iterable[ImageName], missing: Iterable[str]) -> tuple[str, ...]:
    """Say in one line each where a set that should be full differs from the published one.

    Args:
        names: of all images that are there, usable or not.
        missing: stems of published images that are not.
    """
    counted = count_cells(names)
    cells = [
        f"{tumour_type} at {magnification}X: {counted[tumour_type, magnification]} images, published {published}"
        for tumour_type in TYPES
        for magnification in MAGNIFICATIONS
        if counted[tumour_type, magnification] != (published := published_cell(tumour_type, magnification))
    ]
    return (*cells, *(f"missing: {stem}" for stem in sorted(missing)))


def stem_of(filename: str) -> str:
    """Return a name without the ending of an image."""
    stem, dot, ending = filename.rpartition(".")
    return stem if f"{dot}{ending}".lower() in IMAGE_SUFFIXES else filename


def _numbers(ranges: str) -> list[int]:
    """Read "1-3,7" as 1, 2, 3, 7."""
    pairs = [part.partition("-") for part in ranges.split(",")]
    return [number for first, _, last in pairs for number in range(int(first), int(last or first) + 1)]
