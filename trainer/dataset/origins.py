"""Where images lie: a folder, or an archive that is mounted in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.dataset.archives import COMPRESSIONS, DAMAGE, mount_tar, mount_zip
from trainer.dataset.files import MAX_IMAGE_BYTES, file_stamp, is_image, within_limit
from trainer.errors import DatasetError


class Origin(Protocol):
    """Images that can be listed, and read again at any time, from any thread or process."""

    @property
    def source(self) -> Path:
        """The folder or the archive."""

    @property
    def in_order(self) -> bool:
        """Whether reading one image costs reading all before it, so that one reader must go from first to last."""

    def images(self) -> list[Path]:
        """List files that are named like images, in the order in which they are read fastest."""

    def read(self, path: Path) -> bytes:
        """Return the bytes of an image; DatasetError with the reason where that is impossible."""

    def stamp(self, path: Path) -> str:
        """Return what changes when the image's bytes change, without reading them."""


@dataclass(frozen=True)
class FolderOrigin:
    """Files below a folder."""

    source: Path
    in_order: bool = False

    def images(self) -> list[Path]:
        """List images below the folder by path; resource files of macOS are none."""
        return sorted(path for path in self.source.rglob("*") if is_image(path) and path.is_file())

    def read(self, path: Path) -> bytes:
        """Read a file."""
        try:
            with path.open("rb") as stream:
                return within_limit(stream.read(MAX_IMAGE_BYTES + 1))
        except OSError as error:
            raise DatasetError(f"cannot be read ({error.strerror})") from error

    def stamp(self, path: Path) -> str:
        """Return size, times and number of the file."""
        return file_stamp(path)


def mount(source: Path) -> Origin:
    """Open a folder, a zip or a tar (plain, gz, bz2, xz) for reading.

    Raises:
        DatasetError: there is nothing, or a file that is no archive, or one that is damaged or encrypted.
    """
    if source.is_dir():
        return FolderOrigin(source)
    if not source.is_file():
        raise DatasetError(
            f"{source} is not a folder and no file: name the folder that holds the SOB_ files, or an archive"
        )
    try:
        with source.open("rb") as stream:
            start = stream.read(8)
        if start.startswith(b"PK"):
            return mount_zip(source)
        return mount_tar(source, next((kind for magic, kind in COMPRESSIONS.items() if start.startswith(magic)), ""))
    except (*DAMAGE, OSError) as error:
        raise DatasetError(
            f"{source} is not a folder and cannot be read as a zip or tar ({error}): "
            "is the download whole? Otherwise name the folder that holds the SOB_ files"
        ) from error
