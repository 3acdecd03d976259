"""How much of the published set a data set is."""

from dataclasses import dataclass

from trainer.dataset.images import DataSet
from trainer.dataset.names import ImageName, parse_name
from trainer.dataset.published import (
    FULL_IMAGES,
    MAGNIFICATIONS,
    TYPES,
    count_cells,
    differences,
    official,
    published_cell,
    stem_of,
)


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Images that are there, usable or not, against the published list.

    Attributes:
        images: number of images with a BreakHis name.
        full: whether every published image is there.
        claims_full: whether there are as many images as were published, or all of them.
        differences: where a set that claims to be full differs, a line each; empty for a part.
        shares: type, magnification, images there and images published, for every cell.
    """

    images: int
    full: bool
    claims_full: bool
    differences: tuple[str, ...]
    shares: tuple[tuple[str, int, int, int], ...]


def present_names(data: DataSet) -> dict[str, ImageName]:
    """Return the names of all images of the source by stem: used, double, contradictory and broken."""
    others = [
        *(path.name for path, _ in data.broken),
        *(path.name for group in (*data.doubles, *data.contradictory) for path in group),
    ]
    used = {stem_of(path.name): name for path, name in zip(data.paths, data.names, strict=True)}
    return used | {stem_of(other): parse_name(other) for other in others}


def completeness(data: DataSet) -> Completeness:
    """Compare a data set with the published one."""
    present = present_names(data)
    missing = official().stems - present.keys()
    claims_full = not missing or len(present) >= FULL_IMAGES
    counted = count_cells(present.values())
    return Completeness(
        images=len(present),
        full=not missing,
        claims_full=claims_full,
        differences=differences(present.values(), missing) if claims_full else (),
        shares=tuple((t, m, counted[t, m], published_cell(t, m)) for t in TYPES for m in MAGNIFICATIONS),
    )


def is_full(data: DataSet) -> bool:
    """Tell whether every published image is there; doubles and broken ones count as there."""
    return completeness(data).full
