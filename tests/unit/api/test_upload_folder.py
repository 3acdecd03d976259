"""Names from outside become files below one folder, and nothing is lost or overwritten."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.multipart import PackedFiles
from api.problems import ApiError
from api.upload_folder import UploadFolder, UploadLimits, safe_parts
from core.errors import Reason

_LIMITS = UploadLimits(max_bytes=1000, max_files=50, max_file_bytes=100)


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path / "target", _LIMITS)


def _write(folder: UploadFolder, name: str, data: bytes) -> None:
    with folder.new_file(name) as file:
        file.write(data)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.png", ["a.png"]),
        ("folder/a.png", ["folder", "a.png"]),
        ("../../etc/passwd", ["etc", "passwd"]),
        ("/etc/passwd", ["etc", "passwd"]),
        ("C:\\Users\\x\\a.png", ["Users", "x", "a.png"]),
        ("c:a.png", ["a.png"]),
        ("..\\..\\a.png", ["a.png"]),
        ("a\0.png", ["a.png"]),
        ("./a/./b", ["a", "b"]),
        ("two\nlines.png", ["two\nlines.png"]),
        ("...", ["..."]),
        ("..", ["unnamed"]),
        ("", ["unnamed"]),
    ],
)
def test_name_keeps_its_folders_and_loses_what_could_escape(name: str, parts: list[str]) -> None:
    """.., absolute paths, drive letters and NUL go; everything else stays."""
    assert safe_parts(name) == parts


@given(st.text(max_size=400))
def test_no_name_escapes(name: str) -> None:
    """Whatever the name, its parts are ordinary names that a file system takes."""
    parts = safe_parts(name)
    assert parts
    assert not {"", ".", ".."} & set(parts)
    assert not any("/" in part or "\0" in part or len(os.fsencode(part)) > 255 for part in parts)


def test_long_name_keeps_its_suffix() -> None:
    """A name that no file system takes is cut, but stays recognisable as an image."""
    (name,) = safe_parts("ä" * 300 + ".png")
    assert name.endswith(".png")
    assert len(os.fsencode(name)) <= 255


def test_files_of_one_name_are_all_kept(folder: UploadFolder) -> None:
    """Three files of one name become three files."""
    for data in (b"1", b"22", b"333"):
        _write(folder, "a/b.png", data)
    folder.keep()
    found = {path.name: path.read_bytes() for path in (folder.content.parent.parent / "target" / "a").iterdir()}
    assert found == {"b.png": b"1", "b (2).png": b"22", "b (3).png": b"333"}


def test_file_and_folder_of_one_name_are_both_kept(folder: UploadFolder) -> None:
    """ "a" as a file and "a/b" as a file in a folder do not shut each other out, in either order."""
    _write(folder, "a", b"file")
    _write(folder, "a/b", b"below")
    _write(folder, "c/d", b"below")
    _write(folder, "c", b"file")
    contents = [path.read_bytes() for path in folder.content.rglob("*") if path.is_file()]
    assert sorted(contents) == [b"below", b"below", b"file", b"file"]


def test_link_that_is_there_is_not_written_through(folder: UploadFolder, tmp_path: Path) -> None:
    """An existing link keeps its target as it was."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (folder.content / "a.png").symlink_to(outside)
    _write(folder, "a.png", b"evil")
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize(("sizes", "said"), [([101], "an image may"), ([99] * 11, "unpacked"), ([0] * 51, "50 files")])
def test_limits_are_those_of_written_bytes(folder: UploadFolder, sizes: list[int], said: str) -> None:
    """One file beyond its limit, the whole beyond its limit, and too many files are each refused."""
    for number, size in enumerate(sizes[:-1]):
        _write(folder, str(number), b"x" * size)
    with pytest.raises(ApiError, match=said):
        _write(folder, "last", b"x" * sizes[-1])


def test_same_names_and_contents_have_the_same_digest(tmp_path: Path) -> None:
    """The digest tells uploads apart by names, contents, and where one file ends and the next begins."""

    def digest(number: int, *files: tuple[str, bytes]) -> str:
        folder = UploadFolder(tmp_path / str(number), _LIMITS)
        for name, data in files:
            _write(folder, name, data)
        return folder.digest()

    same = digest(1, ("a", b"12"), ("b", b"3"))
    assert digest(2, ("a", b"12"), ("b", b"3")) == same
    assert digest(3, ("a", b"1"), ("b", b"23")) != same
    assert digest(4, ("a", b"12"), ("c", b"3")) != same


def test_nothing_is_left_of_an_upload_that_was_not_kept(folder: UploadFolder, tmp_path: Path) -> None:
    """clean leaves the parent folder as it was."""
    _write(folder, "a/b", b"1")
    folder.clean()
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_meanwhile_ends_the_upload(tmp_path: Path) -> None:
    """Files and zips ask for room before each piece is written, and write nothing where there is none."""

    def refuse(number_of_bytes: int) -> None:
        if number_of_bytes > 10:
            raise ApiError(507, Reason.DISK_LOW, "no room")

    folder = UploadFolder(tmp_path / "target", _LIMITS, refuse)
    _write(folder, "small", b"x" * 10)
    with pytest.raises(ApiError, match="no room"):
        _write(folder, "large", b"x" * 11)
    write, close = PackedFiles(folder, max_bytes=1000, max_files=5).begin()
    with pytest.raises(ApiError, match="no room"):
        write(b"x" * 11)
    close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 10
