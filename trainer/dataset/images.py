"""The images of one source: parsed names, the pixels that serving sees, and larger ones to crop from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.dataset.arrays import LabelledFile, cached_arrays, decoded_arrays
from trainer.dataset.cache import Arrays
from trainer.dataset.doubles import Doubles, find_doubles
from trainer.dataset.names import ImageName, parse_name
from trainer.dataset.origins import FolderOrigin, Origin, mount
from trainer.dataset.pool import Listener, ignore
from trainer.errors import DatasetError

NAME = "BreakHis"
LICENCE = "CC BY 4.0"
ATTRIBUTION = (
    "BreakHis: F. A. Spanhol, L. S. Oliveira, C. Petitjean, L. Heutte, A Dataset for Breast Cancer "
    "Histopathological Image Classification, IEEE Transactions on Biomedical Engineering 63(7), 2016; "
    "Laboratory VRI, UFPR. CC BY 4.0."
)


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
    """Images of one source, sorted by file name.

    Attributes:
        paths, names: one entry an image; a member of an archive stands below the archive's path.
        labels: int64 (N,), benign 0, malignant 1.
        patients: str (N,), the groups that no split may cut.
        pixels: RGB uint8 (N, 96, 144, 3), made by core.imaging as in serving. Evaluation uses these only.
        fields: RGB uint8 (N, 192, 288, 3), the same fields at twice the size. Training crops from these.
        fingerprint: sha256 over the sorted sha256 of the files.
        unknown: images whose names do not follow the scheme; they take no part.
        broken: images that cannot be decoded, each with its reason; they take no part.
        doubles: groups of images with equal pixels and one label; the first takes part, the others do not.
        contradictory: groups of images with equal pixels and different labels; none takes part.
        hashes: sha256 of each file.
        origin: reads the files again.
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
    doubles: tuple[tuple[Path, ...], ...] = ()
    contradictory: tuple[tuple[Path, ...], ...] = ()
    hashes: tuple[str, ...] = ()
    origin: Origin = field(default=FolderOrigin(Path()), repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def patient_count(self) -> int:
        """Number of different patients."""
        return len(set(self.patients))

    def read(self, row: int) -> bytes:
        """Return the original bytes of an image.

        Raises:
            DatasetError: the file is gone or holds something else by now.
        """
        try:
            data = self.origin.read(self.paths[row])
        except DatasetError as error:
            raise DatasetError(f"{self.paths[row]} {error}: is the data set still there?") from error
        if self.hashes and hashlib.sha256(data).hexdigest() != self.hashes[row]:
            raise DatasetError(f"{self.paths[row]} has changed since the data set was loaded: start again")
        return data

    def training_images(self, rows: NDArray[np.int64]) -> TrainingImages:
        """Return the rows that a fit may see."""
        return TrainingImages(fields=self.fields[rows], labels=self.labels[rows], patients=self.patients[rows])


def load_dataset(source: Path, cache: Path | None = None, listener: Listener = ignore) -> DataSet:
    """Load every image of a source: the official BreaKHis_v1 tree, SOB_ files side by side, or either in a zip or tar.

    Args:
        source: a folder or an archive.
        cache: folder of decoded arrays, which are then mapped into memory and never decoded twice; None decodes all
            of them into memory.
        listener: called with the number of files looked at, and of all that need it.

    Raises:
        DatasetError: nothing there, a damaged or encrypted archive, no usable image, one class only, one name twice,
            or a cache that cannot be written.
    """
    return load_mounted(mount(source), cache, listener)


def load_mounted(origin: Origin, cache: Path | None = None, listener: Listener = ignore) -> DataSet:
    """Load every image of a source that is mounted; see load_dataset."""
    known, unknown = _find_images(origin)
    if not known:
        raise DatasetError(f"no BreakHis image (SOB_*.png or .jpg) in {origin.source}; {len(unknown)} other images")
    files = [LabelledFile(path, name.label) for path, name in known]
    arrays = cached_arrays(files, origin, cache, listener) if cache else decoded_arrays(files, origin, listener)
    return _dataset(origin, known, unknown, arrays)


def _dataset(origin: Origin, known: Sequence[tuple[Path, ImageName]], unknown: list[Path], arrays: Arrays) -> DataSet:
    paths = [path for path, _ in known]
    broken = tuple((path, r.fault) for path, r in zip(paths, arrays.records, strict=True) if r.fault)
    doubles = find_doubles([record.digest for record in arrays.records], [name.label for _, name in known])
    used = [slot for slot, record in enumerate(arrays.records) if record.row is not None]
    names = tuple(known[slot][1] for slot in used)
    _require_both_classes(origin.source, names, len(broken), doubles)
    hashes = tuple(arrays.records[slot].sha256 for slot in used)
    return DataSet(
        paths=tuple(paths[slot] for slot in used),
        names=names,
        labels=np.array([name.label for name in names], np.int64),
        patients=np.array([name.patient for name in names]),
        pixels=arrays.pixels,
        fields=arrays.fields,
        fingerprint=hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest(),
        unknown=tuple(unknown),
        broken=broken,
        doubles=tuple(tuple(paths[slot] for slot in group) for group in doubles.agreeing),
        contradictory=tuple(tuple(paths[slot] for slot in group) for group in doubles.contradictory),
        hashes=hashes,
        origin=origin,
    )


def _find_images(origin: Origin) -> tuple[list[tuple[Path, ImageName]], list[Path]]:
    """List images with parsed names sorted by name, and images with unknown names."""
    known: dict[str, tuple[Path, ImageName]] = {}
    unknown: list[Path] = []
    for path in origin.images():
        try:
            name = parse_name(path.name)
        except DatasetError:
            unknown.append(path)
            continue
        if path.stem in known:
            raise DatasetError(f"{path.stem} is there twice: {known[path.stem][0]} and {path}; keep one of them")
        known[path.stem] = (path, name)
    return [known[stem] for stem in sorted(known)], sorted(unknown)


def _require_both_classes(source: Path, names: Sequence[ImageName], broken: int, doubles: Doubles) -> None:
    labels = {name.label for name in names}
    if labels != {0, 1}:
        found = {0: "only benign", 1: "only malignant"}[labels.pop()] if labels else "no readable"
        out = f"{broken} broken, {len(doubles.left_out)} left out as doubles"
        raise DatasetError(f"{source} holds {found} images ({out}): training needs both classes")
