"""Pictures of a data set: the same images give the same bytes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.bundle import CLASSES, NOTICE
from trainer.dataset.images import ATTRIBUTION
from trainer.dataset.names import ImageName
from trainer.dataset.published import MAGNIFICATIONS
from trainer.errors import DatasetError
from trainer.network import Normalise

# Of one hue each, and told apart in print and by people who see no red or green.
_COLOURS = ("#1f5fa8", "#c75000")
_COLUMNS = 6
_DPI = 80


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """One image and what augmentation makes of it.

    Attributes:
        original: uint8 (96, 144, 3).
        views: uint8 (V, 96, 144, 3).
    """

    original: NDArray[np.uint8]
    name: ImageName
    views: NDArray[np.uint8]


def even_sample(labels: NDArray[np.int64], order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Take the first rows of an order, as many of each class as there are, up to half of the count."""
    rows = [order[labels[order] == label][: count // 2] for label in (0, 1)]
    return np.concatenate(rows)


def draw_samples(pixels: NDArray[np.uint8], names: Sequence[ImageName], path: Path) -> Path:
    """Draw images as the network sees them, normalised, with class, type, magnification and patient.

    Args:
        pixels: uint8 (N, 96, 144, 3).
        names: of the images.
        path: PNG to write.
    """
    figure, axes = _grid(-(-len(pixels) // _COLUMNS), _COLUMNS)
    normalised, low, high = normalise(pixels)
    for place, image, name in zip(axes, normalised, names, strict=False):
        place.imshow((image - low) / (high - low))
        place.set_title(_caption(name), fontsize=8)
    span = f"shown from {low:.2f} to {high:.2f} standard deviations of ImageNet"
    return _save(figure, path, f"Normalised samples, {span}")


def draw_counts(names: Sequence[ImageName], path: Path) -> Path:
    """Draw how many images and patients each class has, and how many images each magnification."""
    figure = Figure(figsize=(11, 4.2), dpi=_DPI)
    by_class, by_magnification = figure.subplots(1, 2)
    counts = [
        [sum(n.label == label and n.magnification == m for n in names) for m in MAGNIFICATIONS] for label in (0, 1)
    ]
    patients = [len({name.patient for name in names if name.label == label}) for label in (0, 1)]
    for label, colour in enumerate(_COLOURS):
        bars = by_class.bar(CLASSES[label], sum(counts[label]), color=colour)
        by_class.bar_label(bars, [f"{sum(counts[label])} images, {patients[label]} patients"])
    by_class.set(title="Classes", ylabel="images")
    places = np.arange(len(MAGNIFICATIONS))
    for label, colour in enumerate(_COLOURS):
        bars = by_magnification.bar(places + 0.4 * label - 0.2, counts[label], 0.4, color=colour, label=CLASSES[label])
        by_magnification.bar_label(bars, fontsize=8)
    by_magnification.set_xticks(places, [f"{magnification}X" for magnification in MAGNIFICATIONS])
    by_magnification.set(title="Magnifications", ylabel="images")
    by_magnification.legend()
    for place in (by_class, by_magnification):
        place.margins(y=0.12)
    return _save(figure, path, "Images that take part")


def draw_augmented(shown: Sequence[Augmented], recipe: str, path: Path) -> Path:
    """Draw each image, a row each, before what augmentation makes of it."""
    figure, axes = _grid(len(shown), 1 + max(len(image.views) for image in shown))
    columns = len(axes) // len(shown)
    for row, image in enumerate(shown):
        places = axes[row * columns : (row + 1) * columns]
        for place, pixels in zip(places, (image.original, *image.views), strict=False):
            place.imshow(pixels)
        places[0].set_title(_caption(image.name), fontsize=8)
    return _save(figure, path, f"Left as serving sees it, then as recipe '{recipe}' trains on it")


def normalise(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float, float]:
    """Return images float32 (N, 96, 144, 3) as the network's first layer makes them, and the range of any image."""
    layer = Normalise()
    images_NCHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    ends = [float(edge) for value in (0.0, 255.0) for edge in layer(torch.full((1, 3, 1, 1), value)).flatten()]
    normalised: NDArray[np.float32] = layer(images_NCHW).permute(0, 2, 3, 1).numpy()
    return normalised, min(ends), max(ends)


def _caption(name: ImageName) -> str:
    return f"{CLASSES[name.label]} {name.tumour_type} {name.magnification}X\n{name.patient}"


def _grid(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1.9 * columns, 1.75 * rows + 0.9), dpi=_DPI)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in axes:
        place.axis("off")
    return figure, axes


def _save(figure: Figure, path: Path, title: str) -> Path:
    figure.suptitle(f"{title}. {NOTICE}", fontsize=10)
    figure.supxlabel(ATTRIBUTION, fontsize=6, wrap=True)
    figure.tight_layout()
    temporary = path.with_name(f".{path.name}.part")
    metadata: dict[str, Any] = {"Software": None}  # with the software's version the bytes would change with it
    try:
        figure.savefig(temporary, format="png", metadata=metadata)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(f"{path} cannot be written ({error.strerror}): name another folder with --out") from error
    return path
