"""Folders of SFTP servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import asyncssh
from sshfs import SSHFileSystem

from core.storage.addresses import Host
from core.storage.session import Found, LoginRefused, RemoteAway, RemoteBroken, RemoteDenied, RemoteFile, RemoteMissing

_CONNECT_S = 10
_KEEPALIVE_S = 10
_SECOND_NS = 10**9
_KINDS = {"file": "file", "directory": "folder"}


def connect_sftp(host: Host) -> "SftpSession":
    """Connect; user, keys and further options come from the worker's ssh configuration, as for ssh itself.

    Raises:
        LoginRefused: the worker is not let in, or does not know the server's key.
        RemoteAway: the server does not answer.
    """
    options: dict[str, Any] = {"username": host.user, "port": host.port}
    try:
        files = SSHFileSystem(
            host.name,
            **{key: value for key, value in options.items() if value is not None},
            # sshfs would take any server's key; this asks ~/.ssh/known_hosts.
            known_hosts=(),
            connect_timeout=_CONNECT_S,
            keepalive_interval=_KEEPALIVE_S,
            sftp_client_kwargs={"path_errors": "surrogateescape"},
            skip_instance_cache=True,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise LoginRefused("the worker does not know the server's key: add it to ~/.ssh/known_hosts there") from error
    except (PermissionError, asyncssh.PermissionDenied, asyncssh.KeyImportError) as error:
        raise LoginRefused("the server does not let the worker in: see its user and ~/.ssh/config") from error
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise RemoteAway(f"the SFTP server does not answer ({type(error).__name__})") from error
    return SftpSession(files)


class SftpSession:
    """One server."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def list_level(self, path: bytes) -> Iterator[Found]:
        """List a folder; the library hands it out at once, so that memory grows with the largest folder."""
        with _translated():
            found = self._files.ls(_absolute(path), detail=True)
        for info in found:
            name = info["name"].rpartition("/")[2].encode("utf-8", "surrogateescape")
            # Links are not followed: where they lead to is the server's matter, and may be out of the root.
            yield Found(name, _KINDS.get(info["type"], "other"), info["size"] or 0, _time(info["mtime"]))  # type: ignore[arg-type]

    @contextmanager
    def open(self, path: bytes) -> Iterator[RemoteFile]:
        """Open a file."""
        with _translated():
            info = self._files.info(_absolute(path))
            if info["type"] != "file":
                raise RemoteBroken("no longer a file")
            with self._files.open(_absolute(path), "rb") as file:
                yield _File(file, info)


class _File:
    """A file that is being read."""

    def __init__(self, file: Any, info: Any) -> None:
        self.size = int(info["size"])
        self.mtime_ns = _time(info["mtime"])
        self._file = file

    def read(self, number: int) -> bytes:
        data: bytes = self._file.read(number)
        return data


def _absolute(path: bytes) -> str:
    return "/" + path.decode("utf-8", "surrogateescape")


def _time(modified: datetime | None) -> int:
    return int(modified.timestamp()) * _SECOND_NS if modified else 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
        raise RemoteMissing("there is no such file or folder on the server") from error
    except (PermissionError, asyncssh.SFTPPermissionDenied) as error:
        raise RemoteDenied("the worker may not read this on the server") from error
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
        raise RemoteAway(f"the SFTP server does not answer ({type(error).__name__})") from error
    except asyncssh.SFTPError as error:
        raise RemoteBroken(f"the server cannot give this ({type(error).__name__})") from error
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise RemoteAway(f"the SFTP server does not answer ({type(error).__name__})") from error
