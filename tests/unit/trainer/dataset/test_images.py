"""Folders of images, and the pixels that training and serving share."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.imaging import decode_rgb
from trainer.dataset.images import load_dataset
from trainer.errors import DatasetError


def test_official_tree_and_flat_folder_hold_the_same_data(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the files lie says nothing; the names say all."""
    root = tmp_path_factory.mktemp("official")
    breast = root / "BreaKHis_v1" / "histology_slides" / "breast"
    for path in flat.iterdir():
        kind, name = ("benign", "adenosis") if "_B_" in path.name else ("malignant", "ductal_carcinoma")
        folder = breast / kind / "SOB" / name / path.stem.rsplit("-", 2)[0] / "100X"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    official, side_by_side = load_dataset(root), load_dataset(flat)
    assert official.names == side_by_side.names
    assert official.fingerprint == side_by_side.fingerprint
    assert np.array_equal(official.pixels, side_by_side.pixels)


def test_training_judges_the_very_pixels_that_serving_sees(flat: Path) -> None:
    """Evaluation pixels equal core.imaging's on the same bytes, bit by bit."""
    data = load_dataset(flat)
    for path, pixels in zip(data.paths, data.pixels, strict=True):
        assert np.array_equal(pixels, decode_rgb(path.read_bytes()))


def test_fields_average_to_what_serving_sees(flat: Path) -> None:
    """Two by two pixels of the larger array are one serving pixel: the same place, scale and sharpness."""
    data = load_dataset(flat)
    count, height, width, _ = data.pixels.shape
    averaged = data.fields.reshape(count, height, 2, width, 2, 3).mean(axis=(2, 4))
    assert np.abs(averaged - data.pixels).mean() < 2.5
    shifted = np.roll(averaged, 1, axis=2)
    assert np.abs(shifted - data.pixels).mean() > 2 * np.abs(averaged - data.pixels).mean()


def test_broken_and_foreign_images_are_listed_and_the_rest_is_used(flat: Path) -> None:
    """One bad file costs one file, and is named."""
    complete = load_dataset(flat)
    (flat / "SOB_M_DC-14-99999-100-001.png").write_bytes(b"no image")
    (flat / "holiday.jpg").write_bytes(b"whatever")
    data = load_dataset(flat)
    assert [path.name for path, _ in data.broken] == ["SOB_M_DC-14-99999-100-001.png"]
    assert "not_an_image" in data.broken[0][1]
    assert [path.name for path in data.unknown] == ["holiday.jpg"]
    assert data.fingerprint == complete.fingerprint


def test_fingerprint_follows_the_content(flat: Path) -> None:
    """Another set of images has another fingerprint."""
    before = load_dataset(flat).fingerprint
    next(flat.glob("SOB_M_*")).unlink()
    assert load_dataset(flat).fingerprint != before


def test_one_image_under_two_folders_is_refused(flat: Path) -> None:
    """A double would be counted and drawn twice."""
    (flat / "more").mkdir()
    first = sorted(flat.glob("SOB_*"))[0]
    shutil.copy(first, flat / "more" / first.name)
    with pytest.raises(DatasetError, match="twice"):
        load_dataset(flat)


def test_a_folder_that_cannot_be_trained_on_says_why(flat: Path) -> None:
    """Missing, empty and one-class folders are refused with the cause."""
    with pytest.raises(DatasetError, match="not a folder"):
        load_dataset(flat / "nowhere")
    for path in flat.glob("SOB_M_*"):
        path.unlink()
    with pytest.raises(DatasetError, match="only benign"):
        load_dataset(flat)
    for path in flat.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="no BreakHis image"):
        load_dataset(flat)
