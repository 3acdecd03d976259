"""Images with equal pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.trainer.dataset.conftest import MakeFolder, name_of
from trainer.dataset.doubles import find_doubles
from trainer.dataset.images import load_dataset
from trainer.errors import DatasetError


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 1)), max_size=12))
def test_what_is_left_is_different_and_nothing_else_is_lost(images: list[tuple[str, int]]) -> None:
    """One image remains of each that has one label, none of those that have two, and broken ones equal nothing."""
    digests, labels = [digest for digest, _ in images], [label for _, label in images]
    left = [images[i] for i in range(len(images)) if i not in find_doubles(digests, labels).left_out]
    agreeing = {digest for digest, _ in images if digest and len({lab for d, lab in images if d == digest}) == 1}
    assert sorted(digest for digest, _ in left if digest) == sorted(agreeing)
    assert digests.count("") == sum(not digest for digest, _ in left)


@pytest.mark.parametrize("cached", [False, True])
def test_the_first_of_equal_images_is_kept(make_folder: MakeFolder, tmp_path: Path, cached: bool) -> None:
    """Equal pixels under two names of one class: the pair is listed, the first by name takes part, at its own row."""
    folder, cache = make_folder(tmp_path / "set", 6), tmp_path / "cache" if cached else None
    shutil.copy(folder / name_of(1), folder / "SOB_M_DC-14-1001-100-900.png")
    with Image.open(folder / name_of(3)) as image:  # other bytes, the same pixels
        image.save(folder / "SOB_M_LC-14-1001-100-900.png", compress_level=9)
    for _ in range(2):
        data = load_dataset(folder, cache)
        assert [[path.name for path in group] for group in data.doubles] == [
            [name_of(1), "SOB_M_DC-14-1001-100-900.png"],
            [name_of(3), "SOB_M_LC-14-1001-100-900.png"],
        ]
        assert [path.name for path in data.paths] == sorted(name_of(number) for number in range(6))
        for row, path in enumerate(data.paths):
            assert np.array_equal(data.pixels[row], load_pixels(path))


@pytest.mark.parametrize("cached", [False, True])
def test_equal_images_of_both_classes_are_left_out(make_folder: MakeFolder, tmp_path: Path, cached: bool) -> None:
    """Nothing says which name is right, so neither takes part, and both are named."""
    folder, cache = make_folder(tmp_path / "set", 6), tmp_path / "cache" if cached else None
    shutil.copy(folder / name_of(0), folder / "SOB_M_DC-14-1001-100-900.png")
    for _ in range(2):
        data = load_dataset(folder, cache)
        assert [[path.name for path in group] for group in data.contradictory] == [
            [name_of(0), "SOB_M_DC-14-1001-100-900.png"]
        ]
        assert [path.name for path in data.paths] == sorted(name_of(number) for number in range(1, 6))
        for row, path in enumerate(data.paths):
            assert np.array_equal(data.pixels[row], load_pixels(path))


def test_a_set_of_contradictions_cannot_be_trained_on(make_folder: MakeFolder, tmp_path: Path) -> None:
    """The message says that doubles are the cause."""
    folder = make_folder(tmp_path / "set", 1)
    shutil.copy(folder / name_of(0), folder / name_of(1))
    with pytest.raises(DatasetError, match=r"no readable images .*2 left out as doubles"):
        load_dataset(folder)


def load_pixels(path: Path) -> np.ndarray:
    from core.imaging import decode_rgb

    return decode_rgb(path.read_bytes())
