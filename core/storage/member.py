"""Read one member of a container without unpacking the others."""

import struct
import zlib

from core.errors import ImageRejected, Reason
from core.storage.container import DEFLATED, Member, Source

_PIECE = 2**20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class MemberReader:
    """An open member. Never yields more bytes than the container said, whatever lies there."""

    is_near = False  # a second reading would need the table of contents in another process, and unpack again

    def __init__(self, source: Source, kind: str, member: Member) -> None:
        self.size = member.size
        self.mtime_ns = source.mtime_ns
        self._source = source
        self._member = member
        self._place = _data_of_zip(source, member) if kind == "zip" else member.offset
        self._end = self._place + member.packed
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
        self._is_checked = kind == "zip"
        self._crc = 0
        self._left = member.size

    def read(self, number: int) -> bytes:
        """Return up to number bytes; b"" at the end.

        Raises:
            ImageRejected: the member is damaged.
        """
        data = self._unpack(max(1, number))
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if self._left < 0:
            raise _damaged("it holds more than the container says")
        if not data:
            self._check()
        return data

    def _unpack(self, number: int) -> bytes:
        if self._inflater is None:
            return self._take(min(number, self._left)) if self._left else b""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._take(_PIECE)
            try:
                data = self._inflater.decompress(packed, number)
            except zlib.error as error:
                raise _damaged("it cannot be unpacked") from error
            if data or not packed:
                return data
        return b""

    def _take(self, number: int) -> bytes:
        data = self._source.read_at(self._place, min(number, self._end - self._place))
        self._place += len(data)
        return data

    def _check(self) -> None:
        if self._left:
            raise _damaged("it ends too early")
        if self._is_checked and self._crc != self._member.crc:
            raise _damaged("its check sum is another")


def _data_of_zip(source: Source, member: Member) -> int:
    header = source.read_at(member.offset, _LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise _damaged("its header is gone")
    magic, name, extra = _LOCAL_HEADER.unpack(header)
    if magic != b"PK\x03\x04":
        raise _damaged("its header is gone")
    return member.offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _damaged(why: str) -> ImageRejected:
    return ImageRejected(Reason.READ_FAILED, f"the member of the container is damaged: {why}")
