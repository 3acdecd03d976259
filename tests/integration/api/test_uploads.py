"""Uploads: what is sent is kept, what attacks is refused, and refusals leave nothing behind."""

import http.client
import io
import json
import os
import shutil
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from core.database import Database
from core.settings import Settings
from core.tables import Submission
from tests.integration.api.server import Api, running


@pytest.fixture
def small(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """An API with small limits."""
    limits = {"max_upload_bytes": 300_000, "max_upload_files": 5, "max_image_bytes": 100_000}
    with running(api_settings.model_copy(update=limits), sqlite) as opened:
        yield opened


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _send_zip(api: Api, data: bytes) -> tuple[int, str]:
    answer = api.http.post("/v1/submissions/upload", content=data, headers={"Content-Type": "application/zip"})
    body = answer.json()
    return answer.status_code, body.get("reason") or body["id"]


def _stored(api: Api, submission_id: str) -> dict[str, bytes]:
    root = api.settings.uploads_dir / submission_id
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _assert_nothing_left(api: Api) -> None:
    assert list(api.settings.uploads_dir.iterdir()) == []
    with api.database.read() as session:
        assert session.exec(select(Submission)).all() == []


def test_files_of_a_form_are_kept_under_their_names(api: Api) -> None:
    """Images, one name twice, a folder in a name, a zip among them: every file is there, byte for byte."""
    large = os.urandom(3_000_000)
    answer = api.http.post(
        "/v1/submissions/upload?lane=urgent",
        files=[
            ("files", ("a.png", b"one")),
            ("files", ("a.png", b"two")),
            ("files", ("../../sub/b.png", large)),
            ("anything", ("café 🔬.jpg", b"")),
            ("files", ("night.zip", _zip({"in/c.png": b"three", "a.png": b"four"}))),
        ],
        data={"comment": "not a file"},
    )
    assert answer.status_code == 202
    body = answer.json()
    assert (body["source"], body["lane"], body["state"]) == ("upload", "urgent", "accepted")
    assert _stored(api, body["id"]) == {
        "a.png": b"one",
        "a (2).png": b"two",
        "sub/b.png": large,
        "café 🔬.jpg": b"",
        "in/c.png": b"three",
        "a (3).png": b"four",
    }
    with api.database.read() as session:
        row = session.exec(select(Submission)).one()
    assert Path(row.folder) == api.settings.uploads_dir / body["id"]
    assert [path.name for path in api.settings.uploads_dir.iterdir()] == [body["id"]]


def test_zip_as_the_body_keeps_its_folders(api: Api) -> None:
    """A zip sent by itself is unpacked, folders and all."""
    status, submission_id = _send_zip(api, _zip({"p1/a.png": b"1", "p2/a.png": b"2", "empty/": b""}))
    assert status == 202
    assert _stored(api, submission_id) == {"p1/a.png": b"1", "p2/a.png": b"2"}


def test_zip_cannot_write_outside_its_folder(api: Api, tmp_path: Path) -> None:
    """Names with .., absolute names, drive letters and backslashes all land inside."""
    names = ["../../escape1", "/escape2", "C:\\escape3", "..\\..\\escape4", "a/../../../escape5"]
    status, submission_id = _send_zip(api, _zip({name: name.encode() for name in names}))
    assert status == 202
    assert sorted(_stored(api, submission_id).values()) == sorted(name.encode() for name in names)
    inside = api.settings.uploads_dir / submission_id
    assert all(inside in path.parents for path in tmp_path.rglob("*escape*"))


def test_link_in_a_zip_is_not_followed(api: Api) -> None:
    """A symbolic link becomes a plain file with its target as text, which the worker then records as no image."""
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    _, submission_id = _send_zip(api, buffer.getvalue())
    path = api.settings.uploads_dir / submission_id / "link.png"
    assert not path.is_symlink()
    assert path.read_bytes() == b"/etc/passwd"


def test_zip_that_unpacks_to_too_much_is_refused(small: Api) -> None:
    """Bytes that come out count, not those that went in: 10 MB of zeros in 10 kB are refused on the way."""
    bomb = _zip({f"{number}.png": b"\0" * 99_000 for number in range(5)})
    assert len(bomb) < 10_000
    assert _send_zip(small, bomb) == (413, "upload_too_large")
    _assert_nothing_left(small)


def test_zip_that_lies_about_its_sizes_is_refused(small: Api) -> None:
    """A table of contents that claims one byte does not let more through."""
    data = bytearray(_zip({"a.png": b"\0" * 5_000_000}))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1)
    status, reason = _send_zip(small, bytes(data))
    assert (status, reason) in {(413, "upload_too_large"), (422, "upload_invalid")}
    _assert_nothing_left(small)


def test_zip_of_too_many_files_is_refused(small: Api) -> None:
    """Six where five are allowed; and a table of contents that alone would fill the memory is not even read."""
    assert _send_zip(small, _zip({str(number): b"" for number in range(6)})) == (413, "upload_too_large")
    assert _send_zip(small, _zip({f"{number:01000}": b"" for number in range(140)}))[0] == 413
    _assert_nothing_left(small)


def test_zip_with_an_endless_table_of_contents_is_not_read(api_settings: Settings, sqlite: Database) -> None:
    """A table beyond what the allowed files could need is refused before it is parsed."""
    settings = api_settings.model_copy(update={"max_upload_files": 100})
    with running(settings, sqlite) as api:
        answer = api.http.post(
            "/v1/submissions/upload",
            content=_zip({f"{number:06}" + "n" * 200: b"" for number in range(12_000)}),
            headers={"Content-Type": "application/zip"},
        )
        assert answer.status_code == 413
        assert "table of contents" in answer.json()["detail"]
        _assert_nothing_left(api)


def _encrypted() -> bytes:
    data = bytearray(_zip({"a.png": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def _damaged() -> bytes:
    data = bytearray(_zip({"a.png": os.urandom(5000)}))
    data[1000] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip",
        _zip({"a.png": b"1"})[:-10],
        _damaged(),
        _encrypted(),
        _zip({}),
        _zip({"only/": b""}),
        _zip({"a.png": b"1" * 1000}, zipfile.ZIP_LZMA),
    ],
    ids=["empty", "text", "cut", "damaged", "encrypted", "no entries", "only folders", "lzma"],
)
def test_zip_that_cannot_be_read_is_refused(api: Api, data: bytes) -> None:
    """Damaged, encrypted, empty or oddly packed zips are upload_invalid, and leave nothing."""
    assert _send_zip(api, data) == (422, "upload_invalid")
    _assert_nothing_left(api)


@pytest.mark.parametrize(
    "files",
    [
        [("f", (f"{number}.png", b"x")) for number in range(6)],
        [("f", ("large.png", b"x" * 100_001))],
        [("f", (f"{number}.png", b"x" * 90_000)) for number in range(4)],
        [("f", ("packed.zip", os.urandom(300_001)))],
    ],
    ids=["too many files", "large file", "large whole", "large packed"],
)
def test_form_beyond_the_limits_is_refused(small: Api, files: list[tuple[str, tuple[str, bytes]]]) -> None:
    """Count, size of one, size of all: 413, and what had been written is deleted."""
    answer = small.http.post("/v1/submissions/upload", files=files)
    assert (answer.status_code, answer.json()["reason"]) == (413, "upload_too_large")
    _assert_nothing_left(small)


def test_length_beyond_the_limits_is_refused_before_it_is_sent(small: Api) -> None:
    """A client that announces 10 GB is told at once."""
    connection = http.client.HTTPConnection(small.http.base_url.host, small.http.base_url.port, timeout=20)
    connection.putrequest("POST", "/v1/submissions/upload")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(10**10))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    _assert_nothing_left(small)


def test_upload_is_refused_before_it_is_sent_while_the_disk_is_low(api_settings: Settings, sqlite: Database) -> None:
    """507 with a reason and a time to come back, though not a byte of the body was sent."""
    with running(api_settings.model_copy(update={"min_free_bytes": 2**60}), sqlite) as api:
        connection = http.client.HTTPConnection(api.http.base_url.host, api.http.base_url.port, timeout=20)
        connection.putrequest("POST", "/v1/submissions/upload")
        connection.putheader("Content-Type", "application/zip")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["reason"]) == (507, "disk_low")
        assert int(answer.headers["Retry-After"]) > 0
        connection.close()
        _assert_nothing_left(api)


def test_upload_that_would_leave_too_little_free_is_refused(api_settings: Settings, sqlite: Database) -> None:
    """The announced length counts: half of what is free may be sent where next to nothing must stay free, else not."""
    free = shutil.disk_usage(api_settings.data_dir.parent).free
    limits = {"min_free_bytes": int(free * 0.6), "max_upload_bytes": free}
    with running(api_settings.model_copy(update=limits), sqlite) as api:
        connection = http.client.HTTPConnection(api.http.base_url.host, api.http.base_url.port, timeout=20)
        connection.putrequest("POST", "/v1/submissions/upload")
        connection.putheader("Content-Type", "application/zip")
        connection.putheader("Content-Length", str(free // 2))
        connection.endheaders()
        assert connection.getresponse().status == 507
        connection.close()
        assert _send_zip(api, _zip({"a.png": b"1"}))[0] == 202


def test_what_a_killed_api_left_is_deleted_at_the_next_start(api_settings: Settings, sqlite: Database) -> None:
    """An upload that was broken off yesterday goes; one of this moment stays."""
    for name, age_s in ((".incoming-old", 2 * 86400), (".incoming-new", 0)):
        folder = api_settings.uploads_dir / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age_s,) * 2)
    with running(api_settings, sqlite):
        assert [path.name for path in api_settings.uploads_dir.iterdir()] == [".incoming-new"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhalf',
        ),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--b--\r\n'),
        ("multipart/form-data; boundary=b", b""),
        ("", b"x"),
    ],
)
def test_body_that_is_no_upload_is_refused(api: Api, content_type: str, body: bytes) -> None:
    """Other types, malformed or cut forms, and forms without a file are upload_invalid."""
    answer = api.http.post("/v1/submissions/upload", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["reason"]) == (422, "upload_invalid")
    _assert_nothing_left(api)


def test_name_that_is_not_utf8_keeps_its_bytes(api: Api) -> None:
    """A form may name files by any bytes, in either form of the header."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="caf\xe9.png"\r\n\r\n1\r\n'
        b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename*=UTF-8''na%C3%AFve.png\r\n\r\n2\r\n--b--\r\n"
    )
    answer = api.http.post(
        "/v1/submissions/upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    folder = os.fsencode(api.settings.uploads_dir / answer.json()["id"])
    assert sorted(os.listdir(folder)) == sorted([b"caf\xe9.png", "naïve.png".encode()])


def test_client_that_goes_away_leaves_nothing(api: Api) -> None:
    """Half an upload is deleted when its connection ends."""
    connection = http.client.HTTPConnection(api.http.base_url.host, api.http.base_url.port, timeout=20)
    connection.putrequest("POST", "/v1/submissions/upload")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", "5000000")
    connection.endheaders()
    connection.send(b"x" * 2_000_000)
    deadline = time.monotonic() + 20
    while not list(api.settings.uploads_dir.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.close()
    while list(api.settings.uploads_dir.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    _assert_nothing_left(api)
