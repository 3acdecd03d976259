"""A folder of BreakHis images in memory: parsed names, the pixels that serving sees, and larger ones to crop from."""

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from core.errors import ImageRejected
from core.imaging import HEIGHT, WIDTH, decode_rgb
from trainer.errors import DatasetError
from trainer.names import IMAGE_SUFFIXES, ImageName, parse_name

NAME = "BreakHis"
LICENCE = "CC BY 4.0"
ATTRIBUTION = (
    "BreakHis: F. A. Spanhol, L. S. Oliveira, C. Petitjean, L. Heutte, A Dataset for Breast Cancer "
    "Histopathological Image Classification, IEEE Transactions on Biomedical Engineering 63(7), 2016; "
    "Laboratory VRI, UFPR. CC BY 4.0."
)
FULL_IMAGES, FULL_PATIENTS = 7909, 82

# Twice the network's input: crops down to half of the field keep real detail, and two by two of these pixels average
# to nearly what serving sees (Pillow's box counts border pixels whole or not at all). The full 700x460 would cost six
# times the memory for detail that the network's input cannot show.
FIELD_WIDTH, FIELD_HEIGHT = 2 * WIDTH, 2 * HEIGHT


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """What a fit may see.

    Attributes:
        fields: RGB uint8 (N, 192, 288, 3).
        labels: int64 (N,), benign 0, malignant 1.
        patients: str (N,).
    """

    fields: NDArray[np.uint8]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Images of one folder, sorted by file name.

    Attributes:
        paths, names: one entry an image.
        labels: int64 (N,), benign 0, malignant 1.
        patients: str (N,), the groups that no split may cut.
        pixels: RGB uint8 (N, 96, 144, 3), made by core.imaging as in serving. Evaluation uses these only.
        fields: RGB uint8 (N, 192, 288, 3), the same fields at twice the size. Training crops from these.
        fingerprint: sha256 over the sorted sha256 of the files.
        unknown: images whose names do not follow the scheme; they take no part.
        broken: images that cannot be decoded, each with its reason; they take no part.
    """

    paths: tuple[Path, ...]
    names: tuple[ImageName, ...]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    pixels: NDArray[np.uint8]
    fields: NDArray[np.uint8]
    fingerprint: str
    unknown: tuple[Path, ...]
    broken: tuple[tuple[Path, str], ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def patient_count(self) -> int:
        """Number of different patients."""
        return len(set(self.patients))

    def training_images(self, rows: NDArray[np.int64]) -> TrainingImages:
        """Return the rows that a fit may see."""
        return TrainingImages(fields=self.fields[rows], labels=self.labels[rows], patients=self.patients[rows])


def load_dataset(folder: Path) -> DataSet:
    """Read every image below a folder: the official BreaKHis_v1 tree, or SOB_ files side by side.

    Raises:
        DatasetError: no such folder, no usable image, one class only, or one name twice.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: name the one that holds BreaKHis_v1, or the SOB_ files")
    known, unknown = _find_images(folder)
    if not known:
        raise DatasetError(f"no BreakHis image (SOB_*.png or .jpg) below {folder}; {len(unknown)} other images")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = list(pool.map(_load_image, (path for path, _ in known)))
    broken = tuple((path, image) for (path, _), image in zip(known, loaded, strict=True) if isinstance(image, str))
    usable = [(p, n, image) for (p, n), image in zip(known, loaded, strict=True) if not isinstance(image, str)]
    _require_both_classes(folder, [name for _, name, _ in usable], broken)
    return DataSet(
        paths=tuple(path for path, _, _ in usable),
        names=tuple(name for _, name, _ in usable),
        labels=np.array([name.label for _, name, _ in usable], np.int64),
        patients=np.array([name.patient for _, name, _ in usable]),
        pixels=np.stack([image.pixels for _, _, image in usable]),
        fields=np.stack([image.field for _, _, image in usable]),
        fingerprint=hashlib.sha256("\n".join(sorted(image.sha256 for _, _, image in usable)).encode()).hexdigest(),
        unknown=tuple(unknown),
        broken=broken,
    )


@dataclass(frozen=True, kw_only=True)
class _LoadedImage:
    pixels: NDArray[np.uint8]
    field: NDArray[np.uint8]
    sha256: str


def decode_field(data: bytes) -> NDArray[np.uint8]:
    """Decode an image to the larger array that training crops from: RGB uint8 (192, 288, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.array(upright.resize((FIELD_WIDTH, FIELD_HEIGHT), Image.Resampling.BOX), dtype=np.uint8)


def _load_image(path: Path) -> _LoadedImage | str:
    """Decode one file, or say why that is impossible."""
    try:
        data = path.read_bytes()
        pixels = decode_rgb(data)  # first, because it refuses what the plain decoder below would accept
        return _LoadedImage(pixels=pixels, field=decode_field(data), sha256=hashlib.sha256(data).hexdigest())
    except ImageRejected as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _find_images(folder: Path) -> tuple[list[tuple[Path, ImageName]], list[Path]]:
    """List images with parsed names sorted by name, and images with unknown names."""
    known: dict[str, tuple[Path, ImageName]] = {}
    unknown: list[Path] = []
    for path in _image_files(folder):
        try:
            name = parse_name(path.name)
        except DatasetError:
            unknown.append(path)
            continue
        if path.stem in known:
            raise DatasetError(f"{path.stem} is there twice: {known[path.stem][0]} and {path}; keep one of them")
        known[path.stem] = (path, name)
    return [known[stem] for stem in sorted(known)], unknown


def _image_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _require_both_classes(folder: Path, names: list[ImageName], broken: tuple[tuple[Path, str], ...]) -> None:
    labels = {name.label for name in names}
    if labels != {0, 1}:
        found = {0: "only benign", 1: "only malignant"}[labels.pop()] if labels else "no readable"
        raise DatasetError(f"{folder} holds {found} images ({len(broken)} broken): training needs both classes")
