"""Archives that are read in place."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.imaging import decode_rgb
from tests.assets.images import plain
from tests.unit.trainer.dataset.conftest import name_of
from trainer.dataset.archives import MAX_TAR_BYTES
from trainer.dataset.files import MAX_IMAGE_BYTES
from trainer.dataset.images import load_dataset
from trainer.dataset.origins import mount
from trainer.errors import DatasetError

BENIGN, MALIGNANT = "SOB_B_A-14-22549AB-100-001.png", "SOB_M_DC-14-10926-100-001.png"


def pack_zip(archive: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, content in members.items():
            stream.writestr(name, content)
    return archive


def pack_tar(archive: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(archive, mode) as stream:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            stream.addfile(info, io.BytesIO(content))
    return archive


@pytest.fixture
def members() -> dict[str, bytes]:
    return {f"BreaKHis_v1/{BENIGN}": plain(1), f"BreaKHis_v1/{MALIGNANT}": plain(2)}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("cached", [False, True])
def test_an_archive_holds_what_its_folder_holds(flat: Path, tmp_path: Path, kind: str, cached: bool) -> None:
    """Names, pixels, fingerprint and original bytes are those of the unpacked folder, and nothing is unpacked."""
    content = {f"BreaKHis_v1/a/{path.name}": path.read_bytes() for path in sorted(flat.iterdir(), reverse=True)}
    place = tmp_path / "packed"
    place.mkdir()
    if kind == "zip":
        archive = pack_zip(place / "set.zip", content)
    else:
        archive = pack_tar(place / f"set.{kind}", content, "w:" + kind.partition(".")[2])
    packed, unpacked = load_dataset(archive, tmp_path / "cache" if cached else None), load_dataset(flat)
    assert packed.names == unpacked.names
    assert packed.fingerprint == unpacked.fingerprint
    assert np.array_equal(packed.pixels, unpacked.pixels)
    assert np.array_equal(packed.fields, unpacked.fields)
    for row in reversed(range(len(packed))):
        assert packed.read(row) == unpacked.paths[row].read_bytes()
    assert packed.paths[0] == archive / "BreaKHis_v1" / "a" / unpacked.paths[0].name
    assert list(place.iterdir()) == [archive]


def test_resource_files_of_macos_are_no_images(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Neither in an archive nor in a folder, and they are not called unknown either."""
    extra = {f"__MACOSX/BreaKHis_v1/._{BENIGN}": b"x", f"__MACOSX/{BENIGN}": b"x", f"BreaKHis_v1/._{BENIGN}": b"x"}
    data = load_dataset(pack_zip(tmp_path / "mac.zip", members | extra))
    assert (len(data), data.unknown, data.broken) == (2, (), ())
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in (members | extra).items():
        if "__MACOSX" not in name:
            (folder / Path(name).name).write_bytes(content)
    assert (len(load_dataset(folder)), load_dataset(folder).unknown) == (2, ())


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_names_that_lead_out_of_an_archive_stay_inside(tmp_path: Path, pack, members: dict[str, bytes]) -> None:
    """Absolute and climbing names are read like any other: no path points outside the archive."""
    tricks = {
        f"../../{BENIGN}": plain(3),
        f"/etc/{MALIGNANT}": plain(4),
        "..\\..\\SOB_M_DC-14-10926-100-002.png": plain(5),
    }
    data = load_dataset(pack(tmp_path / "tricks", tricks))
    assert len(data) == 3
    assert all(path.is_relative_to(tmp_path / "tricks") and ".." not in path.parts for path in data.paths)


def test_a_member_that_swells_is_listed_as_broken(tmp_path: Path, members: dict[str, bytes]) -> None:
    """A zip bomb costs the limit of one image, and is named with its reason."""
    bomb = {"SOB_M_DC-14-99999-100-001.png": bytes(MAX_IMAGE_BYTES + 1)}
    archive = pack_zip(tmp_path / "bomb.zip", members | bomb)
    assert archive.stat().st_size < MAX_IMAGE_BYTES / 100
    data = load_dataset(archive)
    assert len(data) == 2
    assert [(path.name, reason) for path, reason in data.broken] == [(next(iter(bomb)), "larger than 64 MiB")]


def test_a_tar_header_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    """A long name of a gigabyte is an attack: it is refused before it is read."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "bomb.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    with pytest.raises(DatasetError, match="a header claims"):
        mount(tmp_path / "bomb.tar")


def test_a_tar_that_claims_to_be_huge_is_refused_unread(tmp_path: Path) -> None:
    """The sum of sizes is known from headers; nothing is read to find it out."""
    info = tarfile.TarInfo("rest.bin")
    info.size = MAX_TAR_BYTES
    (tmp_path / "huge.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**10))
    with pytest.raises(DatasetError, match="more than 64 GiB"):
        mount(tmp_path / "huge.tar")


def test_links_in_a_tar_lead_nowhere(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Only regular members are images: a link could name any file of this machine."""
    archive = pack_tar(tmp_path / "links.tar", members)
    with tarfile.open(archive, "a") as stream:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"SOB_M_DC-14-77777-100-00{number}.png")
            info.type, info.linkname = kind, f"BreaKHis_v1/{BENIGN}"
            stream.addfile(info)
    assert len(mount(archive).images()) == 2


def test_an_encrypted_zip_says_what_to_do(tmp_path: Path, members: dict[str, bytes]) -> None:
    """The flag that encrypts a member is seen before anything is read."""
    archive = pack_zip(tmp_path / "secret.zip", members)
    content = bytearray(archive.read_bytes())
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + flags_at] |= 1
            start = content.find(signature, start + 4)
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"encrypted: unpack it with its password"):
        mount(archive)


def test_a_damaged_member_costs_one_image(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Its checksum betrays it; the others are used."""
    third = {"SOB_M_DC-14-10926-100-002.png": plain(3)}
    archive = pack_zip(tmp_path / "damaged.zip", members | third)
    with zipfile.ZipFile(archive) as stream:
        info = stream.infolist()[2]
    content = bytearray(archive.read_bytes())
    content[info.header_offset + 100] ^= 0xFF
    archive.write_bytes(content)
    data = load_dataset(archive)
    assert len(data) == 2
    assert "cannot be read from the zip" in data.broken[0][1]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_half_a_download_is_refused_with_the_cause(tmp_path: Path, kind: str) -> None:
    """An archive that is cut off would pass for a small data set."""
    content = {f"SOB_M_DC-14-10926-100-{number:03}.png": plain(number) for number in range(8)}
    archive = tmp_path / f"set.{kind}"
    whole = pack_zip(archive, content) if kind == "zip" else pack_tar(archive, content, f"w:{kind.partition('.')[2]}")
    for share in (0.3, 0.6, 0.9):
        archive.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        with pytest.raises(DatasetError, match="is the download whole"):
            mount(archive)


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(tmp_path: Path, members: dict[str, bytes]) -> None:
    """tarfile itself would stop there in silence, and the images behind it would be missing."""
    archive = pack_tar(tmp_path / "set.tar", members)
    second = mount(archive).members[archive / "BreaKHis_v1" / MALIGNANT][0] - tarfile.BLOCKSIZE  # type: ignore[attr-defined]
    content = bytearray(archive.read_bytes())
    content[second + 20] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=f"damaged or cut off at byte {second}"):
        mount(archive)


def test_one_name_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    """Nobody could say which of the two is meant."""
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as stream:
        stream.writestr(BENIGN, plain(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            stream.writestr(BENIGN, plain(2))
    with pytest.raises(DatasetError, match="under a name that another has"):
        mount(tmp_path / "twice.zip")


def test_a_file_that_is_no_archive_says_what_is_wanted(tmp_path: Path) -> None:
    """Also an image itself, an empty file, and nothing at all."""
    (tmp_path / BENIGN).write_bytes(plain(1))
    (tmp_path / "empty").write_bytes(b"")
    for name, reason in (
        (BENIGN, "cannot be read as a zip or tar"),
        ("empty", "cannot be read"),
        ("no", "is not a folder"),
    ):
        with pytest.raises(DatasetError, match=reason):
            mount(tmp_path / name)


def test_a_zip_with_a_false_count_of_bytes_is_damaged(tmp_path: Path, members: dict[str, bytes]) -> None:
    """A member that says it is smaller than it is does not yield half an image in silence."""
    archive = pack_zip(tmp_path / "lie.zip", members)
    content = bytearray(archive.read_bytes())
    directory = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, directory + 24, 100)
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match="only benign"):
        load_dataset(archive)


def test_a_changed_archive_has_another_stamp(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Members are known by their archive's stamp."""
    archive = pack_zip(tmp_path / "set.zip", members)
    origin = mount(archive)
    before = origin.stamp(origin.images()[0])
    pack_zip(archive, members | {"more.txt": b"x"})
    assert origin.stamp(origin.images()[0]) != before


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_many_members_are_decoded_in_processes(tmp_path: Path, kind: str) -> None:
    """Each process opens the archive for itself; a compressed tar is read by one and decoded by all."""
    content = {f"{number}/{name_of(number)}": plain(seed=number) for number in range(70)}
    archive = tmp_path / f"set.{kind}"
    whole = pack_zip(archive, content) if kind == "zip" else pack_tar(archive, content, f"w:{kind.partition('.')[2]}")
    data = load_dataset(whole, tmp_path / "cache")
    assert len(data) == 70
    for path, pixels in zip(data.paths, data.pixels, strict=True):
        assert np.array_equal(pixels, decode_rgb(content[str(path.relative_to(archive))]))
