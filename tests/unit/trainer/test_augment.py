"""Augmentation changes the view and the light, never the scale that serving sees."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.imaging import decode_rgb
from tests.conftest import SAMPLES
from trainer.augment import augment, change_stain, change_view
from trainer.dataset.decoding import decode_views
from trainer.recipe import AugmentationRecipe

pytestmark = pytest.mark.trainer

STILL = AugmentationRecipe(zoom=(1.0, 1.0), turn_degrees=0, shift=0, stain=0, stain_offset=0, brightness=0, contrast=0)


@pytest.fixture(scope="module")
def data() -> bytes:
    return (SAMPLES / "SOB_M_DC-14-10926-100-001.png").read_bytes()


@pytest.fixture
def fields(data: bytes) -> torch.Tensor:
    """Eight times one real field: float (8, 3, 192, 288)."""
    return torch.from_numpy(decode_views(data).field).permute(2, 0, 1).float().expand(8, -1, -1, -1)


def test_the_untouched_view_is_what_serving_sees(fields: torch.Tensor, data: bytes) -> None:
    """Without zoom each view is the serving image, at most flipped or turned by half: same scale, same sharpness."""
    serving = torch.from_numpy(decode_rgb(data)).permute(2, 0, 1).float()
    views = augment(fields, STILL, torch.Generator().manual_seed(0))
    allowed = [serving, serving.flip(1), serving.flip(2), serving.flip(1, 2)]
    nearest = sorted(min(float((view - image).abs().mean()) for image in allowed) for view in views)
    # Two of four quarter turns are half turns; the others show the field's middle across.
    assert nearest[1] < 2.5
    assert nearest[-1] > 10


def test_quarter_turns_keep_the_tissue_in_proportion() -> None:
    """A round nucleus stays round: the turned view of a disc is the same disc."""
    y, x = torch.meshgrid(torch.arange(192) - 95.5, torch.arange(288) - 143.5, indexing="ij")
    disc = ((x**2 + y**2) < 40**2).float().expand(1, 3, -1, -1) * 255
    still = F.avg_pool2d(disc, 2)
    for seed in range(8):
        turned = change_view(disc, STILL, torch.Generator().manual_seed(seed))
        assert (turned - still).abs().mean() < 1.0


def test_no_change_of_stain_changes_nothing(fields: torch.Tensor) -> None:
    """The way to dyes and back loses nothing."""
    restored = change_stain(fields, STILL, torch.Generator().manual_seed(0))
    assert (restored - fields.clamp(min=1)).abs().max() < 0.1


def test_chance_comes_from_the_generator_alone(fields: torch.Tensor) -> None:
    """The same seed gives the same batch, another seed another one."""
    torch.manual_seed(7)
    first = augment(fields, AugmentationRecipe(), torch.Generator().manual_seed(1))
    torch.manual_seed(8)
    again = augment(fields, AugmentationRecipe(), torch.Generator().manual_seed(1))
    other = augment(fields, AugmentationRecipe(), torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_have_the_networks_size_and_range(fields: torch.Tensor) -> None:
    """Whatever the recipe does, the network sees (N, 3, 96, 144) of 0..255, each image changed its own way."""
    views = augment(fields, AugmentationRecipe(), torch.Generator().manual_seed(3)).numpy()
    assert views.shape == (8, 3, 96, 144)
    assert np.isfinite(views).all()
    assert views.min() >= 0
    assert views.max() <= 255
    assert np.abs(views[0] - views[1]).mean() > 1
