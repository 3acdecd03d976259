"""Addresses of remote folders, and the rule which of them may be read."""

import re
from dataclasses import dataclass

from core.errors import FolderError, Reason

SCHEMES = ("s3", "sftp")
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9]*)://(?P<host>[^/]*)(?P<path>/.*)?", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOST = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Address:
    """A remote folder.

    Attributes:
        host: the bucket, or user@host:port.
        path: below it, without a slash at either end; "" is the bucket or the host's root.
    """

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/")


@dataclass(frozen=True)
class Host:
    """Where an SFTP server listens, and as whom to enter; None leaves it to the worker's ssh configuration."""

    name: str
    user: str | None
    port: int | None


def is_address(folder: str) -> bool:
    """Whether a folder is named by an address, of whatever kind, rather than by a path."""
    return _ADDRESS.fullmatch(folder) is not None


def parse_address(text: str) -> Address:
    """Understand an address.

    Raises:
        ValueError: one sentence for people, without the address, which may hold a password.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or found["scheme"] not in SCHEMES:
        raise ValueError("an address begins with s3:// or sftp://")
    host, path = found["host"], (found["path"] or "").strip("/")
    if ":" in host.rpartition("@")[0]:
        raise ValueError("an address may not hold a password: credentials belong to the worker's configuration")
    if found["scheme"] == "s3" and not _BUCKET.fullmatch(host):
        raise ValueError("the address names no bucket: write s3://bucket/prefix")
    if found["scheme"] == "sftp" and not _HOST.fullmatch(host):
        raise ValueError("the address names no host: write sftp://host/folder or sftp://user@host:port/folder")
    if path and any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError("the parts of an address may not be empty, . or ..")
    if not path.isprintable():
        raise ValueError("an address may not hold control characters")
    return Address(found["scheme"], host, path)


def parse_host(host: str) -> Host:
    """Part the host of an sftp address, which parse_address let pass."""
    found = _HOST.fullmatch(host)
    if found is None:
        raise ValueError("the address names no host")
    return Host(found["name"].strip("[]"), found["user"], int(found["port"]) if found["port"] else None)


def resolve_address(folder: str, remote_roots: tuple[str, ...]) -> Address:
    """Understand an address that someone asks for, and check that it lies below an allowed one.

    Raises:
        FolderError: FOLDER_NOT_ALLOWED.
    """
    try:
        address = parse_address(folder)
        roots = [parse_address(root) for root in remote_roots]
    except ValueError as error:
        raise FolderError(Reason.FOLDER_NOT_ALLOWED, str(error)) from error
    if not any(_is_below(address, root) for root in roots):
        raise FolderError(
            Reason.FOLDER_NOT_ALLOWED, "the address is not below an allowed one; see HISTOBATCH_REMOTE_ROOTS"
        )
    return address


def _is_below(address: Address, root: Address) -> bool:
    if (address.scheme, address.host) != (root.scheme, root.host):
        return False
    return not root.path or f"{address.path}/".startswith(f"{root.path}/")
