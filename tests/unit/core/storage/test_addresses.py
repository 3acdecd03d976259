"""Addresses are read only below the allowed ones, and never hold a password."""

import pytest

from core.errors import FolderError, Reason
from core.storage.addresses import Host, is_address, parse_address, parse_host, resolve_address


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/scans/2026/", "s3://bucket/scans/2026"),
        ("sftp://me@host:2222/data/ü", "sftp://me@host:2222/data/ü"),
    ],
)
def test_addresses_are_stored_in_one_form(text: str, plain: str) -> None:
    """A slash at the end means nothing."""
    assert str(parse_address(text)) == plain
    assert is_address(text)
    assert not is_address("/a/folder")


@pytest.mark.parametrize(
    "text",
    [
        "sftp://me:secret@host/data",
        "s3://key:secret@bucket/data",
        "s3:///data",
        "sftp:///data",
        "s3://bucket/a//b",
        "s3://bucket/../other",
        "s3://bucket/./a",
        "http://host/a",
        "file:///etc",
        "s3://bucket/a\nb",
        "/a/folder",
    ],
)
def test_other_addresses_are_refused_without_repeating_them(text: str) -> None:
    """They may hold a password, and messages are shown and stored."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "root", "is_allowed"),
    [
        ("s3://bucket/scans", "s3://bucket/scans", True),
        ("s3://bucket/scans/a", "s3://bucket/scans/", True),
        ("s3://bucket/anything", "s3://bucket", True),
        ("s3://bucket/scans-secret", "s3://bucket/scans", False),
        ("s3://bucket", "s3://bucket/scans", False),
        ("s3://other/scans", "s3://bucket/scans", False),
        ("sftp://bucket/scans", "s3://bucket/scans", False),
        ("sftp://root@host/scans", "sftp://host/scans", False),
        ("sftp://host:2222/scans", "sftp://host/scans", False),
    ],
)
def test_only_what_lies_below_a_remote_root_is_allowed(folder: str, root: str, is_allowed: bool) -> None:
    """Another user or port is another place."""
    if is_allowed:
        assert str(resolve_address(folder, ("s3://unrelated", root))) == folder
        return
    with pytest.raises(FolderError) as caught:
        resolve_address(folder, (root,))
    assert caught.value.reason == Reason.FOLDER_NOT_ALLOWED


def test_without_remote_roots_nothing_remote_is_allowed() -> None:
    """As with folders."""
    with pytest.raises(FolderError):
        resolve_address("s3://bucket/scans", ())


def test_hosts_are_parted() -> None:
    """User and port may be left to the ssh configuration."""
    assert parse_host("me@host.example:2222") == Host("host.example", "me", 2222)
    assert parse_host("[::1]") == Host("::1", None, None)
