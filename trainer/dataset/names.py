"""File names of BreakHis: what an image shows is written in its name and nowhere else."""

import re
from dataclasses import dataclass

from trainer.errors import DatasetError

BENIGN_TYPES = {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumor", "TA": "tubular adenoma"}
MALIGNANT_TYPES = {
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

_NAME = re.compile(
    r"SOB_(?P<label>[BM])_(?P<type>[A-Z]{1,2})-(?P<year>\d{2})-(?P<number>\d+)(?P<letters>[A-Z]*)"
    r"-(?P<magnification>40|100|200|400)-(?P<sequence>\d{3})\.(?:png|jpe?g)",
)


@dataclass(frozen=True, kw_only=True)
class ImageName:
    """A parsed name, such as SOB_B_A-14-22549AB-100-001.png.

    Attributes:
        label: benign 0, malignant 1.
        tumour_type: the short code, such as "DC".
        year: two digits of the year in which the slide was made.
        slide: year and slide id, "14-22549AB".
        patient: year and the digits of the slide id, "14-22549". The letters number the slides of one patient,
            so splits must never tell them apart.
        magnification: of the objective and eyepiece: 40, 100, 200 or 400.
        sequence: number of the image on its slide.
    """

    label: int
    tumour_type: str
    year: str
    slide: str
    patient: str
    magnification: int
    sequence: int

    @property
    def typed_slide(self) -> str:
        """The slide under its type, "A-14-22549AB": what the authors count and split as a patient."""
        return f"{self.tumour_type}-{self.slide}"


def parse_name(filename: str) -> ImageName:
    """Read the official name of an image; PNG as published, or re-encoded as JPEG.

    Raises:
        DatasetError: the name does not follow the scheme, or its type belongs to the other class.
    """
    match = _NAME.fullmatch(filename)
    if match is None:
        raise DatasetError(f"{filename} is no BreakHis name (SOB_B_A-14-22549AB-100-001.png)")
    types = BENIGN_TYPES if match["label"] == "B" else MALIGNANT_TYPES
    if match["type"] not in types:
        raise DatasetError(f"{filename}: type {match['type']} does not belong to class {match['label']}")
    return ImageName(
        label=int(match["label"] == "M"),
        tumour_type=match["type"],
        year=match["year"],
        slide=f"{match['year']}-{match['number']}{match['letters']}",
        patient=f"{match['year']}-{match['number']}",
        magnification=int(match["magnification"]),
        sequence=int(match["sequence"]),
    )
