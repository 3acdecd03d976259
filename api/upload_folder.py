"""The folder into which an upload is written: safe names, exclusive files, counted bytes."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from blake3 import blake3

from api.problems import ApiError, ProblemReason
from core.errors import Reason

INCOMING = ".incoming-"  # what begins so was not kept (yet)
_DRIVE = re.compile(r"^[A-Za-z]:")
_LONGEST_NAME_BYTES = 200  # file systems take 255; the rest is for " (2)"
_LONGEST_PATH_BYTES = 1000
_DEEPEST = 32


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may hold; a zip counts unpacked."""

    max_bytes: int
    max_files: int
    max_file_bytes: int


class UploadFolder:
    """Files of one upload, below one folder, until they are kept.

    Attributes:
        content: where the files lie.
        packed: where zip files lie until they are unpacked.
        check_room: called with the number of bytes before they are written; raises ApiError where there is no room.
    """

    def __init__(
        self, target: Path, limits: UploadLimits, check_room: Callable[[int], None] = lambda _bytes: None
    ) -> None:
        """Make an empty folder beside target, hidden until keep."""
        self._target = target
        self._incoming = target.with_name(INCOMING + target.name)
        self._limits = limits
        self.check_room = check_room
        self._bytes = 0
        self._next_number: dict[Path, int] = {}
        self._hash = blake3()
        self.files = 0
        self.content = self._incoming / "content"
        self.packed = self._incoming / "packed"
        self.content.mkdir(parents=True)
        self.packed.mkdir()

    @contextmanager
    def new_file(self, name: str) -> Iterator["UploadFile"]:
        """Open a new file under a safe form of the name.

        Raises:
            ApiError: there would be too many files.
        """
        file = self.open(name)
        try:
            yield file
        finally:
            file.close()

    def open(self, name: str) -> "UploadFile":
        """Open a new file as new_file does; the caller closes it."""
        self.files += 1
        if self.files > self._limits.max_files:
            raise too_large(f"an upload may hold {self._limits.max_files} files")
        parts = safe_parts(name)
        file = self._create(parts)
        self._hash.update(os.fsencode("/".join(parts)) + b"\0")
        return UploadFile(file, self)

    def count(self, data: bytes, file_bytes: int) -> None:
        """Count what is about to be written.

        Raises:
            ApiError: the file or the upload would be too large, or the disk too full.
        """
        self._bytes += len(data)
        if file_bytes > self._limits.max_file_bytes:
            raise too_large(f"an image may have {self._limits.max_file_bytes} bytes")
        if self._bytes > self._limits.max_bytes:
            raise too_large(f"an upload may have {self._limits.max_bytes} bytes, unpacked")
        self.check_room(len(data))
        self._hash.update(data)

    def end_file(self, file_bytes: int) -> None:
        """Mark the end of a file, so that two uploads that cut the same bytes otherwise differ."""
        self._hash.update(file_bytes.to_bytes(8, "big"))

    def digest(self) -> str:
        """Hash names and contents in the order of their coming."""
        return self._hash.hexdigest()

    def keep(self) -> None:
        """Move the files to the target in one step."""
        self.content.replace(self._target)

    def discard(self) -> None:
        """Delete what keep moved."""
        shutil.rmtree(self._target, ignore_errors=True)

    def clean(self) -> None:
        """Delete what was not kept."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    def _create(self, parts: list[str]) -> Path:
        folder = self.content
        for part in parts[:-1]:
            folder = self._make_folder(folder / part)
        wanted = folder / parts[-1]
        path = wanted
        while True:
            try:
                # Exclusive: an existing file, folder or link is never written to.
                path.touch(exist_ok=False)
            except FileExistsError:
                path = self._numbered(wanted)
            else:
                return path

    def _make_folder(self, wanted: Path) -> Path:
        path = wanted
        while not path.is_dir():
            try:
                path.mkdir()
            except FileExistsError:
                path = self._numbered(wanted)
        return path

    def _numbered(self, wanted: Path) -> Path:
        # Remembered, so that 20,000 files of one name take 20,000 steps and not their square.
        number = self._next_number.get(wanted, 2)
        self._next_number[wanted] = number + 1
        return wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")


class UploadFile:
    """A file that is being written below an UploadFolder."""

    def __init__(self, path: Path, folder: UploadFolder) -> None:
        self._stream = path.open("r+b")
        self._folder = folder
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append, within the upload's limits."""
        self._size += len(data)
        self._folder.count(data, self._size)
        self._stream.write(data)

    def close(self) -> None:
        """End the file."""
        self._folder.end_file(self._size)
        self._stream.close()


def safe_parts(name: str) -> list[str]:
    """Split a name from outside into folder and file names that stay below the folder they are put in.

    Backslashes count as slashes (zips made on Windows); drive letters, empty parts, "." and ".." go; NUL goes.
    What remains is kept as it is, newlines too. Never empty.
    """
    text = _DRIVE.sub("", name.replace("\0", "").replace("\\", "/"))
    parts = [_shorten(part) for part in text.split("/") if part not in {"", ".", ".."}]
    if len(parts) > _DEEPEST or len(os.fsencode("/".join(parts))) > _LONGEST_PATH_BYTES:
        parts = parts[-1:]
    return parts or ["unnamed"]


def too_large(detail: str) -> ApiError:
    """Make the error for an upload beyond its limits."""
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ProblemReason.UPLOAD_TOO_LARGE, detail)


def invalid(detail: str) -> ApiError:
    """Make the error for an upload that cannot be read."""
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, Reason.UPLOAD_INVALID, detail)


def _shorten(part: str) -> str:
    raw = os.fsencode(part)
    if len(raw) <= _LONGEST_NAME_BYTES:
        return part
    suffix = os.fsencode(Path(part).suffix)[-20:]
    return os.fsdecode(raw[: _LONGEST_NAME_BYTES - len(suffix)] + suffix)
