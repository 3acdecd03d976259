"""Containers: zip and tar files that are read in place, as if they were folders.

What a container says of itself is not believed: names never become paths of this machine, sizes are limits that
reading is held to, and what is ambiguous is refused with a reason.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from core.errors import PermanentError, Reason
from core.paths import path_to_text
from core.storage.judging import failed, judge_name
from core.storage.protocol import Entry, Folder

# Beyond these a container is a bomb, or should be several. Its table of contents is held in memory, 250 bytes a member.
MAX_MEMBERS = 200_000
MAX_RATIO = 100
FREE_BYTES = 2**30  # unpacked, whatever the ratio: white fields compress well
LONGEST_NAME = 4096

STORED, DEFLATED = 0, 8

_ENDINGS = (b".zip", b".tar", b".tgz", b".tbz2", b".txz", b".tzst", b".gz", b".bz2", b".xz", b".zst", b".lz4")
_LONGEST_ENDING = max(len(ending) for ending in _ENDINGS)

_DOUBLED = (Reason.MEMBER_REFUSED, "several members of the container have this name: which one is meant is unknown")
_LEADS_OUT = (Reason.MEMBER_REFUSED, "the member's name is absolute, or leads out of the container")
_NESTED = (Reason.CONTAINER_NESTED, "containers in containers are not read: unpack the outer one")


class ContainerRefused(PermanentError):
    """A container cannot be read as a whole.

    Attributes:
        reason, detail: recorded once, for all that it holds.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Source(Protocol):
    """The bytes of a container."""

    size: int
    mtime_ns: int

    def read_at(self, offset: int, number: int) -> bytes:
        """Return up to number bytes; fewer only at the end."""
        ...


class Member(NamedTuple):
    """Where one file lies in a container.

    Attributes:
        offset: of its data in a tar, of its header in a zip.
        size: unpacked; packed: as it lies there.
        refusal: reason and detail why it is not read.
    """

    offset: int = 0
    size: int = 0
    packed: int = 0
    method: int = STORED
    crc: int = 0
    refusal: tuple[Reason, str] | None = None


@dataclass(frozen=True)
class Index:
    """A container's table of contents.

    Attributes:
        kind: "zip" or "tar".
        names: sorted paths within the container, slashes between parts.
        members: in the order of names.
    """

    kind: str
    names: list[bytes]
    members: list[Member]

    def find(self, name: bytes) -> Member | None:
        """Look a member up."""
        place = bisect_left(self.names, name)
        return self.members[place] if place < len(self.names) and self.names[place] == name else None

    def list_level(self, folder: bytes, prefix: str, mtime_ns: int) -> Iterator[Entry | Folder]:
        """Yield what lies directly in a folder of the container.

        Args:
            folder: "" for the container itself.
            prefix: what the paths of entries begin with, as text.
        """
        inside = folder + b"/" if folder else b""
        place = bisect_left(self.names, inside)
        while place < len(self.names) and self.names[place].startswith(inside):
            name, slash, _ = self.names[place][len(inside) :].partition(b"/")
            text = prefix + path_to_text(name)
            if slash:
                # "0" follows "/": the first name behind all of the subfolder.
                place = bisect_left(self.names, inside + name + b"0", place)
                # Hidden ones are skipped whole, as in folders.
                yield judge_name(name, text) if name.startswith(b".") else Folder(text)  # type: ignore[misc]
            else:
                yield _judge(self.members[place], name, text, mtime_ns)
                place += 1


class IndexBuilder:
    """Gathers members, whatever they are called."""

    def __init__(self, kind: str, size: int) -> None:
        self._kind = kind
        self._size = size
        self._members: dict[bytes, Member] = {}
        self._unpacked = 0
        self._packed = 0

    def add(self, name: bytes, member: Member) -> None:
        """Take a member in.

        Raises:
            ContainerRefused: there are too many, or too much in them.
        """
        if len(self._members) >= MAX_MEMBERS:
            raise _too_large(f"the container holds more than {MAX_MEMBERS} files: split it")
        if min(member.offset, member.size, member.packed) < 0:
            raise ContainerRefused(Reason.CONTAINER_UNREADABLE, "the container's table of contents is damaged")
        self._unpacked += member.size
        self._packed += member.packed
        if self._packed > self._size:
            raise _too_large("members of the container overlap, or lie behind its end, as in a bomb")
        if self._unpacked > FREE_BYTES + MAX_RATIO * self._size:
            raise _too_large(f"unpacked, the container would be more than {MAX_RATIO} times as large")
        parts = name.split(b"/")
        if name.startswith(b"/") or b".." in parts or b"\0" in name or len(name) > LONGEST_NAME:
            # Shown in one part, so that nobody mistakes it for a path.
            name = name[:LONGEST_NAME].replace(b"\0", b"%00").replace(b"/", b"%2F")
            member = Member(refusal=_LEADS_OUT)
        else:
            name = b"/".join(part for part in parts if part not in {b"", b"."})
        if name in self._members:
            member = Member(refusal=_DOUBLED)
        elif member.refusal is None and has_container_name(name):
            member = member._replace(refusal=_NESTED)
        self._members[name or b"%00"] = member

    def build(self) -> Index:
        """Sort."""
        names = sorted(self._members)
        return Index(self._kind, names, [self._members[name] for name in names])


def has_container_name(name: bytes) -> bool:
    """Whether a file is called so that it is worth a look whether it is a container."""
    return name[-_LONGEST_ENDING:].lower().endswith(_ENDINGS)


def _judge(member: Member, name: bytes, path: str, mtime_ns: int) -> Entry:
    if member.refusal is not _LEADS_OUT and (unwanted := judge_name(name, path)):
        return unwanted
    if member.refusal:
        return failed(path, *member.refusal)
    return Entry(path, member.size, mtime_ns)


def _too_large(detail: str) -> ContainerRefused:
    return ContainerRefused(Reason.CONTAINER_TOO_LARGE, detail)
