"""List and open what lies in a zip or tar file, wherever the file itself lies."""

from collections.abc import Iterator
from typing import Protocol

from core.errors import ImageRejected, Reason
from core.paths import text_to_path
from core.storage.container import Index, Source, has_container_name
from core.storage.judging import failed
from core.storage.member import MemberReader
from core.storage.protocol import Entry, Folder
from core.storage.shelf import SHELF
from core.storage.tar_index import looks_like_tar, read_tar
from core.storage.zip_index import read_zip

HEAD_BYTES = 512
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06")
# gzip, bzip2, xz, zstd, lz4
_COMPRESSED_HEADS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_COMPRESSED = "what was compressed as a whole cannot be read in place: unpack it, or pack it as plain tar or zip"


class NamedSource(Source, Protocol):
    """The bytes of a container, and what tells it from others and from itself before a change."""

    identity: tuple[object, ...]


def judge_container(entry: Entry, head: bytes) -> Entry | Folder:
    """Turn a file that is called like a container into a folder, if its content is one.

    A file that only is called so stays what it is: perhaps an image.
    """
    if _kind(head):
        return Folder(entry.path)
    if head.startswith(_COMPRESSED_HEADS):
        return failed(entry.path, Reason.CONTAINER_UNREADABLE, _COMPRESSED)
    return entry


def list_container(source: NamedSource, inside: str, prefix: str) -> Iterator[Entry | Folder]:
    """Yield what lies directly in a folder of a container.

    Args:
        inside: path within the container as text; "" for all of it.
        prefix: what the paths of entries begin with.

    Raises:
        ContainerRefused: it cannot be read as a whole.
    """
    return _index(source).list_level(text_to_path(inside), prefix, source.mtime_ns)


def open_member(source: NamedSource, inside: str) -> MemberReader:
    """Open a file in a container.

    Raises:
        ContainerRefused: the container cannot be read as a whole.
        ImageRejected: the file is gone, or may not be read.
    """
    index = _index(source)
    member = index.find(text_to_path(inside))
    if member is None:
        raise ImageRejected(Reason.VANISHED, "the container no longer holds the file")
    if member.refusal:
        raise ImageRejected(*member.refusal)
    return MemberReader(source, index.kind, member)


def container_prefixes(path: str) -> Iterator[tuple[str, str]]:
    """Yield each part of a path that may be a container, outermost first, and what follows it."""
    parts = path.split("/")
    for number, part in enumerate(parts, start=1):
        if has_container_name(text_to_path(part)):
            yield "/".join(parts[:number]), "/".join(parts[number:])


def _index(source: NamedSource) -> Index:
    return SHELF.get(source.identity, lambda: _read(source))


def _read(source: NamedSource) -> Index:
    return read_zip(source) if _kind(source.read_at(0, HEAD_BYTES)) == "zip" else read_tar(source)


def _kind(head: bytes) -> str | None:
    if head.startswith(_ZIP_HEADS):
        return "zip"
    return "tar" if len(head) == HEAD_BYTES and looks_like_tar(head) else None
