"""Unpacking a zip that someone sent, who may mean harm."""

import io
import zipfile
import zlib
from pathlib import Path

from api.upload_folder import UploadFolder, invalid, too_large

_CHUNK = 2**20
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_DIRECTORY_BYTES_PER_FILE = 512


class _BoundedReader(io.BufferedReader):
    """A file that refuses reads too large to be honest.

    zipfile reads a zip's table of contents at once, so a zip that is nothing but such a table would fill the memory.
    """

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(io.FileIO(path))
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, up to the limit."""
        data = super().read(min(size, self._limit + 1) if size is not None and size >= 0 else self._limit + 1)
        if len(data) > self._limit:
            raise too_large("the zip's table of contents is too long")
        return data


def unpack(packed: Path, folder: UploadFolder, max_files: int) -> None:
    """Unpack a zip into the upload's folder, within its limits.

    Names are made safe as those of other files. A link becomes a small file with its target as content, which is
    then recorded as no image: nothing is lost and nothing is followed. Sizes are those of the bytes that come out;
    what the zip says of itself is not believed.

    Raises:
        ApiError: the zip is damaged, encrypted, or holds too much.
    """
    limit = max(_CHUNK, max_files * _DIRECTORY_BYTES_PER_FILE)
    try:
        with _BoundedReader(packed, limit) as stream, zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    _unpack_entry(archive, entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as error:
        raise invalid("the zip is damaged or of an unknown kind") from error


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: UploadFolder) -> None:
    if entry.flag_bits & 0x1:
        raise invalid("the zip is encrypted")
    if entry.compress_type not in _METHODS:
        # The other methods let a few bytes ask for gigabytes of memory.
        raise invalid("the zip is packed by another method than deflate: pack it again")
    with folder.new_file(entry.filename) as file, archive.open(entry) as source:
        while data := source.read(_CHUNK):
            file.write(data)
