"""What every kind of remote storage offers, and how it says what went wrong."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from core.errors import PermanentError, TransientError


class RemoteMissing(PermanentError):
    """There is no such file or folder."""


class RemoteDenied(PermanentError):
    """The worker may not read this file or folder."""


class RemoteBroken(PermanentError):
    """The storage answers, and cannot give this one file."""


class LoginRefused(PermanentError):
    """The storage does not let the worker in at all."""


class RemoteAway(TransientError):
    """The storage does not answer, or asks to be left alone for a while."""


@dataclass(frozen=True)
class Found:
    """What a remote folder holds.

    Attributes:
        name: the last part of its path, as bytes.
    """

    name: bytes
    kind: Literal["file", "folder", "other"]
    size: int = 0
    mtime_ns: int = 0


class RemoteFile(Protocol):
    """An open remote file."""

    size: int
    mtime_ns: int

    def read(self, number: int) -> bytes:
        """Return up to number bytes; b"" at the end."""
        ...


class Session(Protocol):
    """A connection to one bucket or host. Safe to use from several threads.

    All methods raise the errors of this module and no others.
    """

    def list_level(self, path: bytes) -> Iterator[Found]:
        """Yield what lies directly in a folder."""
        ...

    def open(self, path: bytes) -> AbstractContextManager[RemoteFile]:
        """Open a file."""
        ...
