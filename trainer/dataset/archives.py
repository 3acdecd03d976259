"""Zip and tar archives that are mounted in place: members are read, never unpacked."""

import bz2
import gzip
import lzma
import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from trainer.dataset.files import MAX_IMAGE_BYTES, file_stamp, is_image, within_limit
from trainer.errors import DatasetError

# BreakHis has 7,909 members of half a megabyte. What is far beyond that is no data set but an attack, or an accident.
MAX_MEMBERS = 200_000
MAX_TAR_BYTES = 64 * 2**30
_MAX_HEADER_BYTES = 2**20

COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz"}
# What the decoders of the standard library raise on damaged archives.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class ZipOrigin:
    """Members of a zip; `members` holds the name inside the archive for each path."""

    source: Path
    members: dict[Path, str] = field(repr=False)
    in_order: bool = False

    def images(self) -> list[Path]:
        """List image members."""
        return list(self.members)

    def read(self, path: Path) -> bytes:
        """Read a member, however much its header lies about its size."""
        try:
            with _opened_zip(self.source, file_stamp(self.source)).open(self.members[path]) as stream:
                return within_limit(stream.read(MAX_IMAGE_BYTES + 1))
        except (*DAMAGE, OSError) as error:
            raise DatasetError(f"cannot be read from the zip ({error})") from error

    def stamp(self, path: Path) -> str:
        """Return the archive's stamp: a member changes only with its archive."""
        return file_stamp(self.source)


@dataclass(frozen=True)
class TarOrigin:
    """Members of a tar; `members` holds offset and size for each path, `compression` is "" for none."""

    source: Path
    members: dict[Path, tuple[int, int]] = field(repr=False)
    compression: str

    @property
    def in_order(self) -> bool:
        """Compressed tars have no way to the middle."""
        return bool(self.compression)

    def images(self) -> list[Path]:
        """List image members in the archive's order."""
        return sorted(self.members, key=lambda path: self.members[path][0])

    def read(self, path: Path) -> bytes:
        """Read a member; from a compressed tar this is fast only for members behind the last one read."""
        offset, size = self.members[path]
        stream, lock = _opened_tar(self.source, self.compression, file_stamp(self.source), os.getpid())
        try:
            with lock:
                stream.seek(offset)
                data = stream.read(min(size, MAX_IMAGE_BYTES + 1))
        except (*DAMAGE, OSError) as error:
            raise DatasetError(f"cannot be read from the tar ({error})") from error
        if len(data) < min(size, MAX_IMAGE_BYTES + 1):
            raise DatasetError("the tar ends before the image does")
        return within_limit(data)

    def stamp(self, path: Path) -> str:
        """Return the archive's stamp: a member changes only with its archive."""
        return file_stamp(self.source)


def mount_zip(source: Path) -> ZipOrigin:
    """List the images of a zip.

    Raises:
        DatasetError: it is encrypted, swollen, or holds two members under one name.
        zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(source) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
    _require_few(source, len(members))
    images = {path: info for info in members if is_image(path := _path_inside(source, info.filename))}
    if any(info.flag_bits & 0x1 for info in images.values()):
        raise DatasetError(f"{source} is encrypted: unpack it with its password and name the folder")
    _require_different(source, len(images), sum(is_image(_path_inside(source, info.filename)) for info in members))
    return ZipOrigin(source, {path: info.filename for path, info in images.items()})


def mount_tar(source: Path, compression: str) -> TarOrigin:
    """List the images of a tar; of a compressed one that takes reading it to its end.

    Raises:
        DatasetError: it is swollen, or holds two members under one name.
        tarfile.TarError: it is damaged.
    """
    found: list[tuple[Path, tuple[int, int]]] = []
    with _open_stream(source, compression) as stream:
        tar = tarfile.open(fileobj=cast(BinaryIO, _BoundedHeaders(stream)), mode="r:")  # noqa: SIM115 - stream closes
        for number, member in enumerate(tar):
            _require_few(source, number)
            if member.offset_data + member.size > MAX_TAR_BYTES:
                raise DatasetError(f"{source} holds more than {MAX_TAR_BYTES >> 30} GiB: this is not BreakHis")
            path = _path_inside(source, member.name)
            if member.isreg() and not member.issparse() and is_image(path):
                found.append((path, (member.offset_data, member.size)))
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every member it has seen
        # tarfile takes a damaged header for the end; a whole archive ends in blocks of zeros.
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"damaged or cut off at byte {tar.offset}")
    _require_different(source, len(dict(found)), len(found))
    return TarOrigin(source, dict(found), compression)


class _BoundedHeaders:
    """A stream that tarfile reads headers from: none may ask for more memory than a long name needs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._stream.read(size)


@lru_cache(maxsize=2)
def _opened_zip(archive: Path, stamp: str) -> zipfile.ZipFile:
    """Keep a zip open for the process: reading its directory again for every member would cost more than the member."""
    return zipfile.ZipFile(archive)


@lru_cache(maxsize=2)
def _opened_tar(archive: Path, compression: str, stamp: str, pid: int) -> tuple[BinaryIO, threading.Lock]:
    """Keep a stream open; a position must not be shared between processes, so the process id is part of the key."""
    return _open_stream(archive, compression), threading.Lock()


def _open_stream(archive: Path, compression: str) -> BinaryIO:
    if compression == "gz":
        return cast(BinaryIO, gzip.open(archive, "rb"))
    if compression == "bz2":
        return cast(BinaryIO, bz2.open(archive, "rb"))
    if compression == "xz":
        return cast(BinaryIO, lzma.open(archive, "rb"))
    return archive.open("rb")


def _path_inside(source: Path, name: str) -> Path:
    """Join archive and member for show; the parts that would lead out of the archive are left out."""
    parts: Sequence[str] = PurePosixPath(name.replace("\\", "/")).parts
    return source.joinpath(*(part for part in parts if part.strip("/") not in ("", "..")))


def _require_few(source: Path, members: int) -> None:
    if members > MAX_MEMBERS:
        raise DatasetError(f"{source} has more than {MAX_MEMBERS:,} members: this is not BreakHis")


def _require_different(source: Path, different: int, members: int) -> None:
    if different < members:
        raise DatasetError(f"{source} holds {members - different} members under a name that another has: pack it anew")
