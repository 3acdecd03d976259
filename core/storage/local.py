"""Local and mounted folders."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.paths import check_allowed, path_to_text, text_to_path
from core.states import ItemState
from core.storage.away import is_storage_away
from core.storage.container import ContainerRefused, has_container_name
from core.storage.judging import failed, judge_name, skipped
from core.storage.packed import HEAD_BYTES, container_prefixes, judge_container, list_container, open_member
from core.storage.protocol import Entry, Folder, Reader


@dataclass(frozen=True)
class LocalStorage:
    """A folder of this machine, and the roots that links in it may lead to.

    Attributes:
        root: absolute path.
    """

    root: bytes
    roots: tuple[Path, ...]

    def list_folder(self, path: str) -> Iterator[Entry | Folder]:
        """List one level; links are followed only to files, and only below the roots."""
        if path == "":
            self._check_root()
        elif packed := self._container_of(path):
            yield from self._list_container(*packed, f"{path}/")
            return
        prefix = f"{path}/" if path else ""
        try:
            with self._open_folder(path) as place, os.scandir(place) as found:
                for entry in found:
                    text = prefix + path_to_text(entry.name)
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(b"."):
                        yield Folder(text)
                    elif has_container_name(entry.name):
                        yield self._look_into(self._judge(entry, text))
                    else:
                        yield self._judge(entry, text)
        except ImageRejected as rejected:
            yield failed(prefix, rejected.reason, rejected.detail)
        except OSError as error:
            if is_storage_away(error, self.root):
                raise _away(error) from error
            if path == "":
                raise _folder_error(error) from error
            yield failed(prefix, _reason_of(error), f"the folder cannot be listed ({error.strerror})")

    @contextmanager
    def open(self, path: str) -> Iterator[Reader]:
        """Open a file, or a member of a container; never waits for a pipe, never follows a link out."""
        container, inside = self._container_of(path) or (path, "")
        with self._open_file(container) as file:
            if not inside:
                yield file
                return
            try:
                yield open_member(file, inside)
            except ContainerRefused as error:
                raise ImageRejected(error.reason, error.detail) from error

    @contextmanager
    def _open_file(self, path: str) -> "Iterator[LocalReader]":
        try:
            resolved = self._resolve(path)
            if not is_below(resolved, self.roots):
                raise ImageRejected(Reason.OUTSIDE_ROOT, "the file lies outside the allowed roots")
            # Non-blocking: a pipe that took the file's name must not hold the worker.
            fd = os.open(resolved, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            raise self._verdict(error) from error
        try:
            if not is_below(_where_is(fd, resolved), self.roots):
                raise ImageRejected(Reason.OUTSIDE_ROOT, "a folder on its way became a link while it was opened")
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ImageRejected(Reason.NOT_A_FILE, "no longer a file")
            yield LocalReader(fd, status)
        except OSError as error:
            raise self._verdict(error) from error
        finally:
            os.close(fd)

    @contextmanager
    def _open_folder(self, path: str) -> Iterator[bytes]:
        """Hold a folder open, and name it in a way that nobody can lead elsewhere meanwhile."""
        named = os.path.join(self.root, text_to_path(path))
        fd = os.open(named, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            if path and not is_below(_where_is(fd, self._resolve(path)), self.roots):
                raise ImageRejected(Reason.OUTSIDE_ROOT, "the folder became a link that leads out of the roots")
            held = f"/proc/self/fd/{fd}".encode()
            yield held if os.path.exists(held) else named
        finally:
            os.close(fd)

    def _resolve(self, path: str) -> bytes:
        return os.path.realpath(os.path.join(self.root, text_to_path(path)))

    def _container_of(self, path: str) -> tuple[str, str] | None:
        """Part a path into the container that holds it and what follows; None where no file is on its way."""
        for outer, inside in container_prefixes(path):
            try:
                status = os.stat(os.path.join(self.root, text_to_path(outer)))
            except OSError:
                return None  # opening what lies behind says why
            if stat.S_ISREG(status.st_mode):
                return outer, inside
        return None

    def _look_into(self, entry: Entry) -> Entry | Folder:
        if entry.state != ItemState.PENDING:
            return entry
        try:
            with self._open_file(entry.path) as file:
                return judge_container(entry, file.read_at(0, HEAD_BYTES))
        except ImageRejected as rejected:
            return failed(entry.path, rejected.reason, rejected.detail)

    def _list_container(self, container: str, inside: str, prefix: str) -> Iterator[Entry | Folder]:
        try:
            with self._open_file(container) as file:
                found = list_container(file, inside, prefix)
        except (ContainerRefused, ImageRejected) as error:
            found = iter([failed(prefix, error.reason, error.detail)])
        yield from found

    def _check_root(self) -> None:
        # Checked again: the API's machine may have other roots, and links may have moved since.
        check_allowed(Path(os.fsdecode(os.path.realpath(self.root))), self.roots)

    def _judge(self, entry: "os.DirEntry[bytes]", path: str) -> Entry:
        if unwanted := judge_name(entry.name, path):
            return unwanted
        try:
            if entry.is_symlink() and (refused := self._judge_link(entry, path)):
                return refused
            status = entry.stat()
        except OSError as error:
            if is_storage_away(error, self.root):
                raise _away(error) from error
            return failed(path, _reason_of(error), f"the file cannot be looked at ({error.strerror})")
        if not stat.S_ISREG(status.st_mode):
            return skipped(path, Reason.NOT_A_FILE, "a pipe, socket or device")
        return Entry(path, status.st_size, status.st_mtime_ns)

    def _judge_link(self, entry: "os.DirEntry[bytes]", path: str) -> Entry | None:
        if entry.is_dir():
            return skipped(path, Reason.FOLDER_LINK, "links to folders are not followed: submit the folder itself")
        if not is_below(os.path.realpath(entry.path), self.roots):
            return failed(path, Reason.OUTSIDE_ROOT, "the link leads out of the allowed roots")
        return None

    def _verdict(self, error: OSError) -> ImageRejected | StorageAway:
        if is_storage_away(error, self.root):
            return StorageAway(f"the storage of the folder does not answer ({error.strerror}): is it mounted?")
        if isinstance(error, FileNotFoundError):
            return ImageRejected(Reason.VANISHED, "the file was listed, but is gone")
        if isinstance(error, PermissionError):
            return ImageRejected(Reason.PERMISSION_DENIED, "the worker may not read the file")
        if error.errno == errno.ELOOP:
            return ImageRejected(Reason.OUTSIDE_ROOT, "the file became a link while it was opened")
        return ImageRejected(Reason.READ_FAILED, f"reading failed ({error.strerror})")


class LocalReader:
    """An open file of this machine.

    Attributes:
        identity: tells it from other files, and from itself before a change.
    """

    is_near = True

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self._fd = fd
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.identity: tuple[object, ...] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, number: int) -> bytes:
        """Return up to number bytes; b"" at the end."""
        return os.read(self._fd, number)

    def read_at(self, offset: int, number: int) -> bytes:
        """Return number bytes from a place; fewer only at the end."""
        data = os.pread(self._fd, number, offset)
        while 0 < len(data) < number and (more := os.pread(self._fd, number - len(data), offset + len(data))):
            data += more
        return data


def is_below(path: bytes, roots: tuple[Path, ...]) -> bool:
    """Whether a resolved path lies below one of the roots."""
    return any(path.startswith(os.path.join(os.fsencode(root), b"")) for root in roots)


def _where_is(fd: int, resolved: bytes) -> bytes:
    """Ask Linux which file is open: a folder on its way may have been replaced since it was resolved."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}".encode())
    except OSError:
        return resolved  # no /proc, as on a developer's machine, or one that is shut off


def _reason_of(error: OSError) -> Reason:
    if isinstance(error, FileNotFoundError):
        return Reason.VANISHED
    return Reason.PERMISSION_DENIED if isinstance(error, PermissionError) else Reason.READ_FAILED


def _folder_error(error: OSError) -> FolderError:
    if isinstance(error, PermissionError):
        return FolderError(Reason.PERMISSION_DENIED, "the worker may not read the folder: grant its user read access")
    return FolderError(Reason.READ_FAILED, f"the folder cannot be listed ({error.strerror})")


def _away(error: OSError) -> StorageAway:
    return StorageAway(f"the worker cannot list the folder ({error.strerror}): is its storage mounted there?")
