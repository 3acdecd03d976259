"""Names of BreakHis images."""

import pytest

from trainer.dataset.names import parse_name
from trainer.errors import DatasetError


def test_a_name_tells_all_it_holds() -> None:
    """Class, type, year, slide, patient, magnification and number come from the name alone."""
    name = parse_name("SOB_B_A-14-22549AB-100-001.png")
    assert (name.label, name.tumour_type, name.year, name.slide) == (0, "A", "14", "14-22549AB")
    assert (name.patient, name.magnification, name.sequence) == ("14-22549", 100, 1)


def test_malignant_is_one() -> None:
    """Labels are benign 0, malignant 1, everywhere."""
    assert parse_name("SOB_M_DC-14-10926-400-012.jpg").label == 1


@pytest.mark.parametrize("slide", ["22549AB", "22549CD", "22549G", "22549"])
def test_letters_number_the_slides_of_one_patient(slide: str) -> None:
    """Slides that differ in letters only belong to one patient, and no split may part them."""
    assert parse_name(f"SOB_B_A-14-{slide}-100-001.png").patient == "14-22549"


def test_the_year_belongs_to_the_patient() -> None:
    """The same digits in another year are another patient."""
    assert parse_name("SOB_M_LC-15-190EF-100-001.png").patient != parse_name("SOB_M_LC-14-190EF-100-001.png").patient


@pytest.mark.parametrize(
    "filename",
    [
        "cat.png",
        "SOB_X_A-14-22549AB-100-001.png",
        "SOB_B_DC-14-22549AB-100-001.png",
        "SOB_M_A-14-22549AB-100-001.png",
        "SOB_B_A-14-22549AB-150-001.png",
        "SOB_B_A-14-22549AB-100-1.png",
        "SOB_B_A-14-AB-100-001.png",
        "SOB_B_A-14-22549AB-100-001.gif",
        "copy of SOB_B_A-14-22549AB-100-001.png",
        "SOB_B_A-14-22549AB-100-001 (1).png",
    ],
)
def test_other_names_are_refused_by_name(filename: str) -> None:
    """A name that does not follow the scheme is never guessed at, and the message repeats it."""
    with pytest.raises(DatasetError) as caught:
        parse_name(filename)
    assert filename in str(caught.value)
