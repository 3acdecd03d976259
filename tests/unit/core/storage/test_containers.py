"""Zip and tar files are read in place as if they were folders, and none of them can do harm."""

import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from core.errors import ImageRejected, Reason
from core.states import ItemState
from core.storage import container
from core.storage.container import Index, Member
from core.storage.local import LocalStorage
from core.storage.protocol import Entry, Folder
from core.storage.reading import Expected, hash_content
from core.storage.shelf import Shelf
from core.storage.walking import walk

PICTURE = bytes(range(256)) * 9000
Pack = Callable[..., Path]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """A folder, and nothing in it yet."""
    return LocalStorage(os.fsencode(tmp_path), (tmp_path,))


def pack_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def pack_tar(path: Path, files: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path


def add_member(packed: tarfile.TarFile, name: str, kind: bytes, **values: object) -> None:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in values.items():
        setattr(member, key, value)
    packed.addfile(member)


def listed(storage: LocalStorage) -> dict[str, Entry]:
    entries = list(walk(storage))
    by_path = {entry.path: entry for entry in entries}
    assert len(by_path) == len(entries), "a file was listed twice"
    return by_path


def reasons(storage: LocalStorage) -> dict[str, Reason | None]:
    return {path: entry.reason for path, entry in listed(storage).items()}


def reason_of(storage: LocalStorage, path: str) -> Reason:
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage, path, 2**30)
    return caught.value.reason


@pytest.mark.parametrize(("pack", "name"), [(pack_zip, "a.zip"), (pack_tar, "a.TAR"), (pack_tar, "renamed.zip")])
def test_members_are_listed_and_read_as_files_below_the_container(
    storage: LocalStorage, tmp_path: Path, pack: Pack, name: str
) -> None:
    """Their path says where they lie, their time is the container's; the content tells zip from tar."""
    (tmp_path / "scans").mkdir()
    packed = pack(tmp_path / "scans" / name, {"x.png": PICTURE, "d/e/y.png": b"y", "d/z": b"", "d/notes.txt": b"n"})
    (tmp_path / "near.png").write_bytes(b"1")
    top = f"scans/{name}"
    entries = listed(storage)
    assert set(entries) == {
        "near.png", f"{top}/x.png", f"{top}/d/e/y.png", f"{top}/d/z", f"{top}/d/notes.txt"
    }  # fmt: skip
    assert entries[f"{top}/x.png"] == Entry(f"{top}/x.png", len(PICTURE), packed.stat().st_mtime_ns)
    assert entries[f"{top}/d/notes.txt"].reason == Reason.SIDECAR_FILE
    for path, data in {"x.png": PICTURE, "d/e/y.png": b"y", "d/z": b""}.items():
        entry = entries[f"{top}/{path}"]
        content = hash_content(storage, entry.path, 2**30, Expected(entry.size, entry.mtime_ns))
        assert (content.content_hash, content.data) == (blake3(data).hexdigest(), data)


def test_one_level_is_listed_at_a_time(storage: LocalStorage, tmp_path: Path) -> None:
    """A container is a folder like others, for scans too; names that begin alike are told apart."""
    pack_zip(tmp_path / "a.zip", {"d/x": b"", "d-/x": b"", "d0": b"", "d/e/x": b"", "dd/x": b""})
    assert list(storage.list_folder("")) == [Folder("a.zip")]
    level = {found.path: type(found) for found in storage.list_folder("a.zip")}
    assert level == {"a.zip/d": Folder, "a.zip/d-": Folder, "a.zip/d0": Entry, "a.zip/dd": Folder}
    assert {found.path for found in storage.list_folder("a.zip/d")} == {"a.zip/d/x", "a.zip/d/e"}


def test_what_only_is_called_like_a_container_is_a_file(storage: LocalStorage, tmp_path: Path) -> None:
    """Perhaps it is an image; and a folder may be called so, too."""
    (tmp_path / "image.zip").write_bytes(b"\x89PNG no zip")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip" / "x.png").write_bytes(b"1")
    assert reasons(storage) == {"image.zip": None, "empty.tar": None, "folder.zip/x.png": None}
    assert hash_content(storage, "image.zip", 99).content_hash == blake3(b"\x89PNG no zip").hexdigest()
    assert hash_content(storage, "folder.zip/x.png", 99)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_tars_that_were_compressed_as_a_whole_are_refused(storage: LocalStorage, tmp_path: Path, mode: str) -> None:
    """Each image would need all that lies before it unpacked again."""
    pack_tar(tmp_path / f"a.tar.{mode[2:]}", {"x.png": PICTURE}, mode)
    assert list(reasons(storage).values()) == [Reason.CONTAINER_UNREADABLE]


def test_harmful_names_stay_names(storage: LocalStorage, tmp_path: Path) -> None:
    """They are recorded, as one part, and never become paths of this machine."""
    pack_tar(tmp_path / "a.tar", {"../out.png": b"1", "/etc/x.png": b"1", "d/../../y": b"1", "./fine//x.png": b"1"})
    assert reasons(storage) == {
        "a.tar/..%2Fout.png": Reason.MEMBER_REFUSED,
        "a.tar/%2Fetc%2Fx.png": Reason.MEMBER_REFUSED,
        "a.tar/d%2F..%2F..%2Fy": Reason.MEMBER_REFUSED,
        "a.tar/fine/x.png": None,
    }
    (tmp_path / "out.png").write_bytes(b"secret")
    assert reason_of(storage, "a.tar/../out.png") == Reason.VANISHED


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_names_are_refused(storage: LocalStorage, tmp_path: Path) -> None:
    """Programs differ in which of two members they take."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for data in (b"1", b"2"):
            packed.writestr("x.png", data)
        packed.writestr("y.png", b"3")
    assert reasons(storage) == {"a.zip/x.png": Reason.MEMBER_REFUSED, "a.zip/y.png": None}
    assert reason_of(storage, "a.zip/x.png") == Reason.MEMBER_REFUSED


def test_links_devices_and_containers_within_are_refused(storage: LocalStorage, tmp_path: Path) -> None:
    """Nothing is followed, nothing is opened, nothing is unpacked twice."""
    with tarfile.open(tmp_path / "a.tar", "w:") as packed:
        add_member(packed, "link.png", tarfile.SYMTYPE, linkname="/etc/hostname")
        add_member(packed, "hard.png", tarfile.LNKTYPE, linkname="../x")
        add_member(packed, "pipe.png", tarfile.FIFOTYPE)
        add_member(packed, "folder", tarfile.DIRTYPE)
        add_member(packed, "inner.ZIP", tarfile.REGTYPE)
        add_member(packed, "__MACOSX/._x.png", tarfile.REGTYPE)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/hostname")
        packed.writestr(zipfile.ZipInfo("packed.png"), PICTURE, zipfile.ZIP_LZMA)
    assert reasons(storage) == {
        "a.tar/link.png": Reason.MEMBER_REFUSED,
        "a.tar/hard.png": Reason.MEMBER_REFUSED,
        "a.tar/pipe.png": Reason.MEMBER_REFUSED,
        "a.tar/inner.ZIP": Reason.CONTAINER_NESTED,
        "a.tar/__MACOSX/._x.png": Reason.SYSTEM_FILE,
        "b.zip/link.png": Reason.MEMBER_REFUSED,
        "b.zip/packed.png": Reason.MEMBER_REFUSED,
    }


def test_encrypted_members_are_refused_and_their_neighbours_read(storage: LocalStorage, tmp_path: Path) -> None:
    """Who packed it must unpack it."""
    packed = pack_zip(tmp_path / "a.zip", {"x.png": b"1", "y.png": b"2"})
    data = bytearray(packed.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    packed.write_bytes(data)
    assert reasons(storage) == {"a.zip/x.png": Reason.MEMBER_REFUSED, "a.zip/y.png": None}


def test_a_container_that_is_damaged_is_one_outcome(storage: LocalStorage, tmp_path: Path) -> None:
    """Its neighbours are listed."""
    packed = pack_zip(tmp_path / "a.zip", {"x.png": PICTURE})
    packed.write_bytes(packed.read_bytes()[:-40])
    cut = pack_tar(tmp_path / "b.tar", {"x.png": b"1", "y.png": PICTURE})
    cut.write_bytes(cut.read_bytes()[:5000])
    (tmp_path / "c.png").touch()
    assert reasons(storage) == {
        "a.zip/": Reason.CONTAINER_UNREADABLE,
        "b.tar/": Reason.CONTAINER_UNREADABLE,
        "c.png": None,
    }
    assert listed(storage)["a.zip/"].state == ItemState.FAILED


def test_a_member_that_holds_more_than_it_says_stops_there(storage: LocalStorage, tmp_path: Path) -> None:
    """A gigabyte of zeros that calls itself a hundred bytes takes no gigabyte of memory."""
    packed = pack_zip(tmp_path / "a.zip", {"x.png": bytes(2**26)})
    data = bytearray(packed.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 100)
    packed.write_bytes(data)
    tracemalloc.start()
    assert reason_of(storage, "a.zip/x.png") == Reason.READ_FAILED
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("fault", ["check sum", "bytes", "header"])
def test_damaged_members_are_outcomes(storage: LocalStorage, tmp_path: Path, fault: str) -> None:
    """Bytes that are not those that were packed are never classified."""
    packed = pack_zip(tmp_path / "a.zip", {"x.png": os.urandom(5000)}, zipfile.ZIP_STORED)
    data = bytearray(packed.read_bytes())
    place = {"check sum": data.index(b"PK\x01\x02") + 16, "bytes": 3000, "header": 0}[fault]
    data[place + (2 if fault == "header" else 0)] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    if fault == "header":
        assert reasons(storage) == {"a.zip": None}
    else:
        assert reason_of(storage, "a.zip/x.png") == Reason.READ_FAILED


def test_too_large_members_are_refused_before_they_are_unpacked(storage: LocalStorage, tmp_path: Path) -> None:
    """The limit of images is that of files."""
    pack_zip(tmp_path / "a.zip", {"x.png": bytes(1000)})
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage, "a.zip/x.png", 999)
    assert caught.value.reason == Reason.TOO_MANY_BYTES


def test_overlapping_members_are_a_bomb(storage: LocalStorage, tmp_path: Path) -> None:
    """Many members over the same bytes unpack to petabytes; the sum of their packed sizes betrays them."""
    packed = pack_zip(tmp_path / "a.zip", {f"{number}.png": PICTURE for number in range(9)})
    data = bytearray(packed.read_bytes())
    place = 0
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        struct.pack_into("<I", data, place + 20, 2**16)
    packed.write_bytes(data)
    assert reasons(storage) == {"a.zip/": Reason.CONTAINER_TOO_LARGE}


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "FREE_BYTES"])
def test_containers_beyond_the_limits_are_refused_whole(
    storage: LocalStorage, tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many members, or far too much in them."""
    pack_zip(tmp_path / "a.zip", {f"{number}.png": bytes(2**20) for number in range(5)})
    assert len(reasons(storage)) == 5
    monkeypatch.setattr(container, limit, 4 if limit == "MAX_MEMBERS" else 2**20)
    os.utime(tmp_path / "a.zip")
    assert reasons(storage) == {"a.zip/": Reason.CONTAINER_TOO_LARGE}


def test_a_container_that_changed_is_read_anew(storage: LocalStorage, tmp_path: Path) -> None:
    """The table that was kept belongs to what lay there before."""
    pack_zip(tmp_path / "a.zip", {"x.png": b"1", "gone.png": b"2"})
    assert len(reasons(storage)) == 2
    before = listed(storage)["a.zip/x.png"]
    pack_zip(tmp_path / "a.zip", {"x.png": b"345"})
    assert hash_content(storage, "a.zip/x.png", 99).content_hash == blake3(b"345").hexdigest()
    assert reason_of(storage, "a.zip/gone.png") == Reason.VANISHED
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage, "a.zip/x.png", 99, Expected(before.size, before.mtime_ns))
    assert caught.value.reason == Reason.STILL_CHANGING


@pytest.mark.parametrize("name", ["Gewebe ü.png", "two\nlines.png", "d\\x.png"])
def test_names_of_any_kind_are_read(storage: LocalStorage, tmp_path: Path, name: str) -> None:
    """What is listed can be read by the path that is listed."""
    pack_zip(tmp_path / "a.zip", {name: b"1"})
    pack_tar(tmp_path / "b.tar", {name: b"2", "bytes\udce4.png": b"3"})
    entries = listed(storage)
    assert len(entries) == 3
    assert "b.tar/bytes\uf7e4.png" in entries
    assert all(hash_content(storage, path, 99) for path in entries)


def test_no_descriptor_stays_open(storage: LocalStorage, tmp_path: Path) -> None:
    """Tables are kept, files are not."""
    pack_zip(tmp_path / "a.zip", {"x.png": b"1"})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        reasons(storage)
        hash_content(storage, "a.zip/x.png", 99)
        reason_of(storage, "a.zip/gone")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_tables_that_are_kept_are_bounded() -> None:
    """The oldest goes first, the newest always stays."""
    shelf, built = Shelf(most_members=5), []

    def get(key: str, members: int) -> None:
        def build() -> Index:
            built.append(key)
            return Index("zip", [b""] * members, [Member()] * members)

        shelf.get(key, build)

    for key, members in (("a", 2), ("b", 2), ("a", 2), ("c", 2), ("a", 2), ("b", 2), ("big", 9), ("big", 9), ("a", 2)):
        get(key, members)
    assert built == ["a", "b", "c", "b", "big", "a"]
