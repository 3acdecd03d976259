"""DATASET.md."""

import shutil
from pathlib import Path

from core.bundle import NOTICE
from tests.unit.trainer.dataset.conftest import MakeFolder, name_of
from tests.unit.trainer.dataset.test_protocols import FILES, full_set
from trainer.dataset.card import dataset_card
from trainer.dataset.images import ATTRIBUTION, LICENCE, load_dataset


def test_the_card_names_everything_that_is_left_out(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Doubles, contradictions, broken and unknown images, each by name, beside counts, licence and notice."""
    folder = make_folder(tmp_path, 8)
    shutil.copy(folder / name_of(1), folder / "SOB_M_DC-14-1001-100-900.png")
    shutil.copy(folder / name_of(0), folder / "SOB_M_DC-14-1001-100-901.png")
    (folder / "SOB_M_DC-14-1001-100-902.png").write_bytes(b"no image")
    (folder / "holiday\x1b[31m`.jpg").write_bytes(b"x")
    data = load_dataset(folder)
    card = dataset_card(data, ["samples.png"])
    assert f"`{name_of(1)}` is kept, left out: `SOB_M_DC-14-1001-100-900.png`" in card
    assert f"- `{name_of(0)}`, `SOB_M_DC-14-1001-100-901.png`" in card
    assert "- `SOB_M_DC-14-1001-100-902.png`: " in card
    assert "holiday" in card
    assert "\x1b" not in card
    assert "7 images of 4 patients take part: 3 benign images of 2 patients, 4 malignant ones of 2" in card
    assert "| benign | adenosis (A) | 0 / 114 | 3 / 113 |" in card
    assert "11 of the 7,909 published images (0.1%)" in card
    for text in (NOTICE, ATTRIBUTION, LICENCE, data.fingerprint, "![samples.png](samples.png)"):
        assert text in card


def test_the_same_images_give_the_same_card(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Wherever they lie: no path, no date."""
    first, second = make_folder(tmp_path / "a", 6), make_folder(tmp_path / "b" / "deep", 6)
    card = dataset_card(load_dataset(first))
    assert card == dataset_card(load_dataset(second))
    assert str(tmp_path) not in card


def test_a_full_set_is_called_full() -> None:
    """And one that differs is not."""
    assert "This is the full set: all 7,909 published images" in dataset_card(full_set())
    card = dataset_card(full_set([*FILES[1:], "SOB_M_PC-14-15704-400-999.png"]))
    assert "This is not the published set" in card
    assert "- PC at 400X: 139 images, published 138" in card


def test_long_lists_are_cut_with_their_length() -> None:
    """A card with thousands of missing names would not be read."""
    files = [*FILES[200:], *(f"SOB_M_PC-14-15704-400-{number:03}.png" for number in range(700, 900))]
    card = dataset_card(full_set(files))
    assert "- and " in card
    assert card.count("- missing") < 51
