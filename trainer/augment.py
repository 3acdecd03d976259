"""Changes to training images that leave the diagnosis alone: view, stain, light. Whole batches at once."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from core.imaging import HEIGHT, WIDTH
from trainer.recipe import AugmentationRecipe

# Optical density of haematoxylin, eosin and a residual in R, G, B (Ruifrok and Johnston 2001), one a row.
_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1.0  # grey level; the logarithm of 0 would say that infinitely much dye lies there


def augment(fields_nchw: Tensor, recipe: AugmentationRecipe, generator: torch.Generator) -> Tensor:
    """Return changed views of the fields at the network's size.

    Args:
        fields_nchw: float (N, 3, 192, 288), 0..255.
        recipe: how much is changed.
        generator: the only source of chance, on the device of the fields.

    Returns:
        float (N, 3, 96, 144), 0..255.
    """
    views = change_view(fields_nchw, recipe, generator)
    stained = change_stain(views, recipe, generator)
    return change_light(stained, recipe, generator).clamp(0, 255)


def change_view(fields_nchw: Tensor, recipe: AugmentationRecipe, generator: torch.Generator) -> Tensor:
    """Flip, turn, zoom and shift; beyond the field's edge it is mirrored.

    Turned views keep the tissue's proportions: coordinates are scaled so that width and height have one unit.
    At no zoom each output pixel averages two by two of the field's, much as core.imaging's box filter does.
    """
    count = len(fields_nchw)
    zoom = _uniform(count, *recipe.zoom, generator)
    quarter = torch.randint(0, 4, (count,), generator=generator, device=generator.device) * (math.pi / 2)
    angle = quarter + _uniform(count, -1, 1, generator) * math.radians(recipe.turn_degrees)
    flip = torch.randint(0, 2, (count,), generator=generator, device=generator.device) * 2.0 - 1
    aspect = WIDTH / HEIGHT
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift_x, shift_y = (_uniform(count, -1, 1, generator) * 2 * recipe.shift for _ in range(2))
    rows_x = torch.stack([cosine * flip, -sine / aspect, shift_x], dim=1)
    rows_y = torch.stack([sine * flip * aspect, cosine, shift_y], dim=1)
    grid = F.affine_grid(torch.stack([rows_x, rows_y], dim=1), [count, 3, HEIGHT, WIDTH], align_corners=False)
    return F.grid_sample(fields_nchw, grid, padding_mode="reflection", align_corners=False)


def change_stain(images_nchw: Tensor, recipe: AugmentationRecipe, generator: torch.Generator) -> Tensor:
    """Change how much of each dye an image holds (after Tellez et al. 2018), in optical density."""
    count = len(images_nchw)
    dyes = F.normalize(torch.tensor(_HED, device=images_nchw.device), dim=1)
    density = -torch.log(images_nchw.clamp(min=_DARKEST) / 255)
    amounts = torch.einsum("nchw,cd->ndhw", density, torch.linalg.inv(dyes))
    factor = torch.exp(_normal(count, generator) * recipe.stain)
    offset = _normal(count, generator) * recipe.stain_offset
    changed = torch.einsum("ndhw,dc->nchw", amounts * factor + offset, dyes)
    return 255 * torch.exp(-changed)


def change_light(images_nchw: Tensor, recipe: AugmentationRecipe, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast around each image's mean."""
    shape = (len(images_nchw), 1, 1, 1)
    brightness = 1 + _uniform(len(images_nchw), -1, 1, generator).view(shape) * recipe.brightness
    contrast = 1 + _uniform(len(images_nchw), -1, 1, generator).view(shape) * recipe.contrast
    mean = images_nchw.mean(dim=(1, 2, 3), keepdim=True)
    return ((images_nchw - mean) * contrast + mean) * brightness


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _normal(count: int, generator: torch.Generator) -> Tensor:
    """Draw one number for each image and dye."""
    return torch.randn(count, 3, 1, 1, generator=generator, device=generator.device)
