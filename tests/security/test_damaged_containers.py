"""Zip and tar files that are damaged on purpose: their members, or a reason."""

import io
import random
import tarfile
import zipfile
from contextlib import suppress

import pytest

from core.errors import ImageRejected
from core.storage.container import ContainerRefused
from core.storage.packed import list_container, open_member
from core.storage.protocol import Entry, Folder
from tests.security.memory import Bytes
from tests.security.mutations import mutate

_FILES = {"a/one.png": b"1" * 3000, "a/b/two.png": bytes(range(256)) * 20, "three.png": b"", "ä.png": b"3"}


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in _FILES.items():
            packed.writestr(name, data)
        packed.writestr(zipfile.ZipInfo("stored.png"), b"stored" * 100)
    return buffer.getvalue()


def _tar(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as packed:
        for name, data in {**_FILES, "long/" * 30 + "x.png": b"1"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _read_all(data: bytes) -> None:
    """List a container to its end and read every member, as intake and the workers do."""
    source, folders = Bytes(data), [""]
    while folders:
        inside = folders.pop()
        for found in list_container(source, inside, f"{inside}/" if inside else ""):
            if isinstance(found, Folder):
                folders.append(found.path)
            else:
                _read_member(source, found)


def _read_member(source: Bytes, entry: Entry) -> None:
    with suppress(ImageRejected):
        reader, taken = open_member(source, entry.path), 0
        while piece := reader.read(1000):
            taken += len(piece)
            assert taken <= reader.size, "more than the container says"


@pytest.mark.parametrize("kind", ["zip", "gnu", "pax", "ustar"])
def test_a_damaged_container_is_read_or_refused(kind: str) -> None:
    """Five hundred mutations each: members and outcomes, or one reason for the whole; never more than was said."""
    whole = _zip() if kind == "zip" else _tar({"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}.get(kind, 0))
    refused = 0
    for number in range(500):
        try:
            _read_all(mutate(whole, random.Random(f"{kind}/{number}")))
        except ContainerRefused:
            refused += 1
    assert 0 < refused < 500
