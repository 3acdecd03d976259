"""The table of contents of a tar that is not compressed."""

import tarfile

from core.errors import Reason
from core.storage.container import ContainerRefused, Index, IndexBuilder, Member, Source
from core.storage.zip_index import BoundedStream

_LONGEST_HEADER = 2**20
_LINK = (Reason.MEMBER_REFUSED, "the member is a link: links in containers are not followed")
_SPECIAL = (Reason.MEMBER_REFUSED, "the member is sparse, a device or of an unknown kind")
_CUT = (Reason.TRUNCATED, "the container ends in the middle of the member")


def looks_like_tar(head: bytes) -> bool:
    """Whether 512 bytes are a header of a tar, or of an empty one."""
    if head == bytes(len(head)):
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def read_tar(source: Source) -> Index:
    """Read where each member of a tar lies.

    Raises:
        ContainerRefused: it is damaged, or a bomb.
    """
    builder = IndexBuilder("tar", source.size)
    try:
        with tarfile.open(
            fileobj=BoundedStream(source, _LONGEST_HEADER),
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",
            ignore_zeros=False,
        ) as packed:
            while member := packed.next():
                packed.members = []  # type: ignore[attr-defined]  # kept for extracting, which nobody does
                if not member.isdir():
                    builder.add(_name(member), _member(member, source.size))
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ContainerRefused(Reason.CONTAINER_UNREADABLE, "the tar is damaged, or ends too early") from error
    return builder.build()


def _name(member: tarfile.TarInfo) -> bytes:
    return member.name.encode("utf-8", "surrogateescape")


def _member(member: tarfile.TarInfo, end: int) -> Member:
    if member.issym() or member.islnk():
        return Member(refusal=_LINK)
    if not member.isreg() or member.issparse():
        return Member(refusal=_SPECIAL)
    if member.offset_data + member.size > end:
        return Member(refusal=_CUT)
    return Member(member.offset_data, member.size, member.size)
