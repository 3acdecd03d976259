"""Taking an upload off the wire: parts of a form, or one zip, written to disk as they come."""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.upload_folder import UploadFile, UploadFolder, invalid, too_large
from api.zips import unpack

_FORM = b"multipart/form-data"
_ZIP = frozenset({b"application/zip", b"application/x-zip-compressed"})
# Beside the files themselves: boundaries, headers, small fields.
_FORM_BYTES_PER_FILE = 1024


class Receiver(Protocol):
    """Takes the pieces of a request's body."""

    def feed(self, data: bytes) -> None:
        """Take the next piece."""

    def finish(self) -> None:
        """Know that the body is complete."""


class PackedFiles:
    """Zips of an upload, kept aside until the body is complete."""

    def __init__(self, folder: UploadFolder, max_bytes: int, max_files: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._bytes = 0
        self._count = 0

    def begin(self) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """Open the next zip; returns its write and its close.

        Raises:
            ApiError: from write, when the zips are too large even packed, or the disk is too full.
        """
        if self._count >= self._max_files:
            raise too_large(f"an upload may hold {self._max_files} files")
        stream = (self._folder.packed / str(self._count)).open("xb")
        self._count += 1

        def write(data: bytes) -> None:
            self._bytes += len(data)
            if self._bytes > self._max_bytes:
                raise too_large(f"an upload may have {self._max_bytes} bytes")
            self._folder.check_room(len(data))
            stream.write(data)

        return write, stream.close

    def unpack(self) -> None:
        """Unpack them all, one after the other, each deleted once unpacked."""
        for number in range(self._count):
            packed = self._folder.packed / str(number)
            unpack(packed, self._folder, self._max_files)
            packed.unlink()


class ZipReceiver:
    """A body that is one zip."""

    def __init__(self, packed: PackedFiles) -> None:
        self._packed = packed
        self._write, self._close = packed.begin()

    def feed(self, data: bytes) -> None:
        """Take the next piece of the zip."""
        self._write(data)

    def finish(self) -> None:
        """Unpack."""
        self._close()
        self._packed.unpack()


class FormReceiver:
    """A multipart form (RFC 7578): each part that has a file name is a file, whatever its field is called."""

    def __init__(self, boundary: bytes, folder: UploadFolder, packed: PackedFiles, max_bytes: int) -> None:
        self._folder = folder
        self._packed = packed
        self._left = max_bytes
        self._is_complete = False
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._content_type = b""
        self._write: Callable[[bytes], None] | None = None
        self._close: Callable[[], None] | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next piece of the form."""
        self._left -= len(data)
        if self._left < 0:
            raise too_large("the request is longer than an upload may be")
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise invalid("the form is malformed") from error

    def finish(self) -> None:
        """Check that nothing is missing, and unpack the zips among the files."""
        if not self._is_complete:
            raise invalid("the form ends in the middle")
        self._packed.unpack()

    def _on_part_begin(self) -> None:
        self._disposition = self._content_type = b""
        self._write = self._close = None

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            self._disposition = value
        elif name.lower() == b"content-type":
            self._content_type = value

    def _on_headers_finished(self) -> None:
        name = _file_name(self._disposition)
        if name is None:
            return
        if parse_options_header(self._content_type)[0] in _ZIP or name.lower().endswith(".zip"):
            self._write, self._close = self._packed.begin()
            return
        file: UploadFile = self._folder.open(name)
        self._write, self._close = file.write, file.close

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._write is not None:
            self._write(data[start:end])

    def _on_part_end(self) -> None:
        if self._close is not None:
            self._close()
        self._write = self._close = None

    def _on_end(self) -> None:
        self._is_complete = True


def make_receiver(content_type: str, folder: UploadFolder, max_bytes: int, max_files: int) -> Receiver:
    """Make the receiver for a body of this content type.

    Raises:
        ApiError: neither a form nor a zip.
    """
    kind, options = parse_options_header(content_type)
    packed = PackedFiles(folder, max_bytes, max_files)
    if kind in _ZIP:
        return ZipReceiver(packed)
    boundary = options.get(b"boundary", b"")
    if kind != _FORM or not boundary:
        raise invalid("send multipart/form-data with files, or application/zip")
    try:
        return FormReceiver(boundary, folder, packed, max_bytes + (max_files + 64) * _FORM_BYTES_PER_FILE)
    except FormParserError as error:
        raise invalid("the form's boundary is malformed") from error


def _file_name(disposition: bytes) -> str | None:
    """Take the file name out of a part's Content-Disposition; None where it has none. Odd bytes survive."""
    _, options = parse_options_header(disposition)
    raw = options.get(b"filename")
    if raw is None and b"filename*=" in disposition.lower():
        # RFC 7578 forbids this form, some clients send it all the same, and their files must not be lost.
        at = disposition.lower().index(b"filename*=") + len(b"filename*=")
        value = disposition[at:].split(b";")[0].strip().strip(b'"')
        raw = unquote_to_bytes(value.rpartition(b"'")[2])
    return None if raw is None else raw.decode("utf-8", "surrogateescape")
