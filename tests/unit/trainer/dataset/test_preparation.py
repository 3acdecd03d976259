"""The seven steps of the preparation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.imaging import HEIGHT, WIDTH
from tests.unit.trainer.dataset.conftest import MakeFolder
from trainer.dataset import pictures, preparation
from trainer.dataset.images import DataSet, load_dataset
from trainer.dataset.origins import FolderOrigin
from trainer.errors import DatasetError
from trainer.network import MEAN, STD
from trainer.recipe import RECIPES

pytestmark = pytest.mark.trainer
CPU = torch.device("cpu")
RECIPE = replace(RECIPES["smoke"], batch=5)


@pytest.fixture
def data(make_folder: MakeFolder, tmp_path: Path) -> DataSet:
    return load_dataset(make_folder(tmp_path / "set", 10))


def test_the_steps_after_one_another_are_load_dataset(make_folder: MakeFolder, tmp_path: Path, data: DataSet) -> None:
    """Mounting and resizing give what training reads."""
    origin = preparation.mounting(tmp_path / "set")
    assert origin == FolderOrigin(tmp_path / "set")
    resized = preparation.resizing(origin, None)
    assert resized.fingerprint == data.fingerprint
    assert np.array_equal(resized.pixels, data.pixels)
    assert resized.pixels.shape == (10, 96, 144, 3)


def test_reshaping_moves_channels_and_no_pixel(data: DataSet) -> None:
    """Channel c of pixel (y, x) stands at (c, y, x), and the bytes lie channels last."""
    images_NCHW = preparation.reshaping(data.fields, CPU)
    assert images_NCHW.shape == (10, 3, 192, 288)
    assert images_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert images_NCHW[4, 2, 7, 9] == data.fields[4, 7, 9, 2]


def test_encoding_is_benign_0_malignant_1(data: DataSet) -> None:
    """As the names say."""
    assert preparation.encoding(data, CPU).tolist() == ["_M_" in path.name for path in data.paths]


def test_shuffling_is_decided_by_its_seed() -> None:
    """Every row once, another order for another seed, the same for the same."""
    assert sorted(preparation.shuffling(50, 1)) == list(range(50))
    assert preparation.shuffling(50, 1).tolist() == preparation.shuffling(50, 1).tolist()
    assert preparation.shuffling(50, 1).tolist() != preparation.shuffling(50, 2).tolist()


def test_generation_yields_batches_at_the_network_s_size(data: DataSet) -> None:
    """So many as asked, of the recipe's size, changed anew each time, the same again at the same seed."""
    images = data.training_images(np.arange(len(data)))
    batches = list(preparation.generation(images, RECIPE, 3, CPU, 2))
    again = list(preparation.generation(images, RECIPE, 3, CPU, 2))
    assert [tuple(views.shape) for views, _ in batches] == [(5, 3, HEIGHT, WIDTH)] * 2
    assert all(views.min() >= 0 and views.max() <= 255 and len(targets) == 5 for views, targets in batches)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(batches[0][0], batches[1][0])


def test_pictures_are_drawn_and_repeat_to_the_byte(data: DataSet, tmp_path: Path) -> None:
    """Three PNGs; the same images and seed give the same bytes, another seed others."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        drawn = preparation.visualisation(data, RECIPE, folder, seed)
        assert [path.name for path in drawn] == ["samples.png", "counts.png", "augmented.png"]
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in drawn)
        for path in drawn:
            with Image.open(path) as image:
                assert min(image.size) > 200
                assert np.asarray(image.convert("L")).std() > 5
    contents = [[(folder / name).read_bytes() for name in ("samples.png", "augmented.png")] for folder in folders]
    assert contents[0] == contents[1]
    assert contents[0][1] != contents[2][1]


def test_normalised_samples_are_what_the_first_layer_makes() -> None:
    """(value - mean) / deviation of ImageNet, by channel."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 144, 3), np.uint8)
    normalised, low, high = pictures.normalise(pixels)
    assert np.allclose(normalised, (pixels - np.array(MEAN)) / np.array(STD), atol=1e-5)
    assert low <= normalised.min()
    assert normalised.max() <= high


def test_samples_show_both_classes_where_one_is_rare() -> None:
    """Half of each, as far as there are images."""
    labels = np.array([0] * 98 + [1] * 2)
    rows = pictures.even_sample(labels, preparation.shuffling(100, 0), 24)
    assert (len(rows), labels[rows].sum()) == (14, 2)


def test_a_picture_that_cannot_be_written_is_named(data: DataSet, tmp_path: Path) -> None:
    """With the way out, and without a half-written file."""
    with pytest.raises(DatasetError, match=r"counts.png cannot be written .*--out"):
        pictures.draw_counts(data.names, tmp_path / "nowhere" / "counts.png")
