"""The table of contents of a zip."""

import io
import stat
import zipfile

from typing_extensions import Buffer

from core.errors import Reason
from core.storage.container import (
    DEFLATED,
    MAX_MEMBERS,
    STORED,
    ContainerRefused,
    Index,
    IndexBuilder,
    Member,
    Source,
)

_BYTES_A_MEMBER = 512
_ENCRYPTED = (Reason.MEMBER_REFUSED, "the member is encrypted")
_METHOD = (Reason.MEMBER_REFUSED, "the member is packed by another method than deflate: pack it again")
_LINK = (Reason.MEMBER_REFUSED, "the member is a link: links in containers are not followed")


class BoundedStream(io.RawIOBase):
    """A source as a file that refuses reads too large to be honest.

    zipfile and tarfile read tables and headers at once, however long they say they are, so that a file which is
    nothing but such a table would fill the memory.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._source.size}[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._source.size - self._place)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self._limit:
            raise ContainerRefused(Reason.CONTAINER_TOO_LARGE, "the container's table of contents is too long")
        data = self._source.read_at(self._place, wanted)
        self._place += len(data)
        return data

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def read_zip(source: Source) -> Index:
    """Read where each member of a zip lies.

    Raises:
        ContainerRefused: it is damaged, or a bomb.
    """
    builder = IndexBuilder("zip", source.size)
    try:
        with zipfile.ZipFile(BoundedStream(source, MAX_MEMBERS * _BYTES_A_MEMBER)) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    builder.add(_name(entry), _member(entry))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeError, ValueError) as error:
        raise ContainerRefused(Reason.CONTAINER_UNREADABLE, "the zip is damaged, or of an unknown kind") from error
    return builder.build()


def _name(entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a member's name, as they lie in the zip."""
    name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
    # Some programs on Windows write backslashes. In other encodings that byte may be half of a character.
    is_windows = entry.create_system == 0 and (name.isascii() or entry.flag_bits & 0x800)
    return name.replace(b"\\", b"/") if is_windows and b"/" not in name else name


def _member(entry: zipfile.ZipInfo) -> Member:
    return Member(
        offset=entry.header_offset,
        size=entry.file_size,
        packed=entry.compress_size,
        method=entry.compress_type,
        crc=entry.CRC,
        refusal=_refusal(entry),
    )


def _refusal(entry: zipfile.ZipInfo) -> tuple[Reason, str] | None:
    if entry.flag_bits & 0x1:
        return _ENCRYPTED
    if entry.compress_type not in {STORED, DEFLATED}:
        # The other methods let a few bytes ask for gigabytes of memory.
        return _METHOD
    return _LINK if stat.S_ISLNK(entry.external_attr >> 16) else None
