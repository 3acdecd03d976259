"""Remote folders: what is listed and read there follows the rules of local ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.paths import path_to_text, text_to_path
from core.storage.addresses import Address, resolve_address
from core.storage.container import has_container_name
from core.storage.judging import failed, judge_name, skipped
from core.storage.protocol import Entry, Folder, Reader
from core.storage.session import (
    Found,
    LoginRefused,
    RemoteAway,
    RemoteBroken,
    RemoteDenied,
    RemoteFile,
    RemoteMissing,
    Session,
)
from core.storage.sessions import drop_session, get_session

_PACKED = "containers are read in place in local and mounted folders only: unpack it there"


@dataclass(frozen=True)
class RemoteStorage:
    """A folder of a bucket or a server.

    Attributes:
        address: as it was submitted.
        remote_roots: addresses below which it must lie.
    """

    address: str
    remote_roots: tuple[str, ...]

    def list_folder(self, path: str) -> Iterator[Entry | Folder]:
        """List one level; a folder that cannot be listed is one outcome."""
        address = resolve_address(self.address, self.remote_roots)
        prefix = f"{path}/" if path else ""
        try:
            with _session(address) as session:
                for found in session.list_level(_join(address, path)):
                    yield _judge(found, prefix + path_to_text(found.name))
        except RemoteMissing as error:
            if path == "":
                # It was there when it was handed in. The cause tells a scan that its root is gone.
                raise StorageAway(f"the folder is gone: {error}") from FileNotFoundError(str(error))
            yield failed(prefix, Reason.VANISHED, "the folder was listed, but is gone")
        except (LoginRefused, RemoteDenied) as error:
            if path == "" or isinstance(error, LoginRefused):
                raise FolderError(Reason.PERMISSION_DENIED, str(error)) from error
            yield failed(prefix, Reason.PERMISSION_DENIED, str(error))
        except RemoteBroken as error:
            if path == "":
                raise FolderError(Reason.READ_FAILED, str(error)) from error
            yield failed(prefix, Reason.READ_FAILED, str(error))

    @contextmanager
    def open(self, path: str) -> Iterator[Reader]:
        """Open a file. Who is not let in at all tells nothing of the file: that is the storage's fault."""
        try:
            address = resolve_address(self.address, self.remote_roots)
        except FolderError as error:
            raise ImageRejected(Reason.OUTSIDE_ROOT, error.detail) from error
        if ".." in path.split("/"):
            raise ImageRejected(Reason.OUTSIDE_ROOT, "the name leads out of the folder")
        try:
            with _session(address) as session, session.open(_join(address, path)) as file:
                yield _FarReader(file)
        except RemoteMissing as error:
            raise ImageRejected(Reason.VANISHED, "the file was listed, but is gone") from error
        except RemoteDenied as error:
            raise ImageRejected(Reason.PERMISSION_DENIED, str(error)) from error
        except RemoteBroken as error:
            raise ImageRejected(Reason.READ_FAILED, str(error)) from error
        except LoginRefused as error:
            raise StorageAway(str(error)) from error


class _FarReader:
    """An open remote file; reading it again would cost as much as the first time."""

    is_near = False

    def __init__(self, file: RemoteFile) -> None:
        self.size = file.size
        self.mtime_ns = file.mtime_ns
        self.read = file.read


@contextmanager
def _session(address: Address) -> Iterator[Session]:
    session = None
    try:
        session = get_session(address.scheme, address.host)
        yield session
    except (RemoteAway, LoginRefused) as error:
        if session is not None:
            drop_session(address.scheme, address.host, session)
        if isinstance(error, RemoteAway):
            raise StorageAway(str(error)) from error
        raise


def _join(address: Address, path: str) -> bytes:
    return b"/".join(part for part in (text_to_path(address.path), text_to_path(path)) if part)


def _judge(found: Found, path: str) -> Entry | Folder:
    if found.kind == "folder" and not found.name:
        return failed(f"{path}/", Reason.READ_FAILED, "names with empty parts (//) cannot be read: rename the objects")
    if found.kind == "folder" and not found.name.startswith(b"."):
        return Folder(path)
    if unwanted := judge_name(found.name, path):
        return unwanted
    if found.kind != "file":
        return skipped(path, Reason.NOT_A_FILE, "a link, pipe, socket or device on the server")
    if has_container_name(found.name):
        return failed(path, Reason.CONTAINER_UNREADABLE, _PACKED)
    return Entry(path, found.size, found.mtime_ns)
