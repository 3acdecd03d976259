"""Buckets are listed and read by the rules of folders; what S3 answers when it fails is told apart."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.settings import Settings
from core.storage import sessions
from core.storage.opening import open_storage
from core.storage.protocol import Folder, Storage
from core.storage.reading import Expected, hash_content
from core.storage.walking import walk
from tests.assets.remote_servers import free_port, s3_server

PICTURE = os.urandom(300_000)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One S3 for all tests; each has a bucket of its own."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Credentials in the environment, and an empty bucket through AWS's own library."""
    enter(monkeypatch, server)
    import boto3

    made = boto3.resource("s3", endpoint_url=server).Bucket(f"b{abs(hash(request.node.name))}")
    made.create()
    return made


def enter(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(sessions, "_SESSIONS", {})
    values = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def storage_of(bucket: Any, prefix: str = "scans") -> Storage:
    return open_storage(f"s3://{bucket.name}/{prefix}", Settings(remote_roots=(f"s3://{bucket.name}",)), "folder")


def fill(bucket: Any, *keys: str) -> None:
    for key in keys:
        bucket.put_object(Key=key, Body=PICTURE)


def test_a_prefix_is_listed_and_read_as_a_folder(bucket: Any) -> None:
    """Names, sizes, sidecars, hidden files and containers are judged as in folders; the bytes are all there."""
    fill(
        bucket, "scans/x.png", "scans/d/ü y.png", "scans/d/notes.txt", "scans/.hidden/x", "scans-other/x", "scans/a.zip"
    )
    fill(bucket, "scans/", "scans/a.zip")
    storage = storage_of(bucket)
    entries = {entry.path: entry for entry in walk(storage)}
    assert {path: entry.reason for path, entry in entries.items()} == {
        "x.png": None,
        "d/ü y.png": None,
        "d/notes.txt": Reason.SIDECAR_FILE,
        ".hidden": Reason.SYSTEM_FILE,
        "a.zip": Reason.CONTAINER_UNREADABLE,
    }
    assert Folder("d") in list(storage.list_folder(""))
    entry = entries["d/ü y.png"]
    content = hash_content(storage, entry.path, 2**20, Expected(entry.size, entry.mtime_ns))
    assert content.content_hash == blake3(PICTURE).hexdigest()
    assert content.data == PICTURE, "what is far is kept for the decoder"


def test_more_than_one_page_is_listed(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers with so many keys at a time, files and folders together."""
    monkeypatch.setattr("core.storage.s3._PAGE", 2)
    fill(bucket, "scans/1", "scans/2", "scans/3/x", "scans/4/x", "scans/5", "scans/6/x", "scans/7")
    assert len(list(walk(storage_of(bucket)))) == 7


def test_an_object_that_was_replaced_within_a_second_has_changed(bucket: Any) -> None:
    """Its time is in whole seconds and its size the same: its tag tells."""
    bucket.put_object(Key="scans/x.png", Body=b"1" * 100)
    (before,) = walk(storage_of(bucket))
    bucket.put_object(Key="scans/x.png", Body=b"2" * 100)
    (after,) = walk(storage_of(bucket))
    assert before.mtime_ns != after.mtime_ns
    assert abs(before.mtime_ns - after.mtime_ns) < 3 * 10**9
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage_of(bucket), "x.png", 2**20, Expected(before.size, before.mtime_ns))
    assert caught.value.reason == Reason.STILL_CHANGING


def test_an_object_that_is_gone_or_too_large_is_an_outcome(bucket: Any) -> None:
    """As a file is."""
    fill(bucket, "scans/x.png")
    for path, reason in (
        ("gone.png", Reason.VANISHED),
        ("x.png", Reason.TOO_MANY_BYTES),
        ("../x", Reason.OUTSIDE_ROOT),
    ):
        with pytest.raises(ImageRejected) as caught:
            hash_content(storage_of(bucket), path, 100)
        assert caught.value.reason == reason


def test_a_bucket_that_is_gone_is_its_storages_fault(bucket: Any) -> None:
    """The cause tells a scan that its root is gone."""
    storage = storage_of(bucket)
    bucket.delete()
    with pytest.raises(StorageAway) as caught:
        list(walk(storage))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_an_address_outside_of_the_remote_roots_is_not_read(bucket: Any) -> None:
    """Roots may have changed since it was submitted."""
    fill(bucket, "scans/x.png")
    storage = open_storage(f"s3://{bucket.name}/scans", Settings(remote_roots=("s3://other",)), "folder")
    with pytest.raises(FolderError) as refused:
        list(walk(storage))
    assert refused.value.reason == Reason.FOLDER_NOT_ALLOWED
    with pytest.raises(ImageRejected) as rejected:
        hash_content(storage, "x.png", 2**20)
    assert rejected.value.reason == Reason.OUTSIDE_ROOT


def test_missing_credentials_are_said(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is refused with the variables to set; an image is not blamed."""
    fill(bucket, "scans/x.png")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(FolderError, match="AWS_ACCESS_KEY_ID") as caught:
        list(walk(storage_of(bucket)))
    assert caught.value.reason == Reason.PERMISSION_DENIED
    with pytest.raises(StorageAway, match="AWS_ACCESS_KEY_ID"):
        hash_content(storage_of(bucket), "x.png", 2**20)


def test_a_server_that_is_away_is_the_storages_fault_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries are finite, no image is blamed, and the next try connects anew."""
    port = free_port()
    enter(monkeypatch, f"http://127.0.0.1:{port}")
    import boto3

    with s3_server(port) as endpoint:
        bucket = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="away")
        fill(bucket, "scans/x.png")
        assert len(list(walk(storage_of(bucket)))) == 1
    with pytest.raises(StorageAway):
        list(walk(storage_of(bucket)))
    with pytest.raises(StorageAway):
        hash_content(storage_of(bucket), "x.png", 2**20)
    with s3_server(port):
        bucket.create()
        assert list(walk(storage_of(bucket))) == []


def test_a_machine_without_the_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have it, so that the submission waits."""
    import sys

    monkeypatch.setattr(sessions, "_SESSIONS", {})
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules, "core.storage.s3", raising=False)
    storage = open_storage("s3://bucket/x", Settings(remote_roots=("s3://bucket",)), "folder")
    with pytest.raises(StorageAway, match=r"pip install 'histobatch\[s3\]'"):
        list(walk(storage))


def test_programs_start_without_the_library(tmp_path: Path) -> None:
    """It takes a second to load, and most hospitals need it not."""
    import subprocess
    import sys

    code = (
        "import sys, core.storage.opening; print([n for n in ('s3fs', 'sshfs', 'fsspec', 're2') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
