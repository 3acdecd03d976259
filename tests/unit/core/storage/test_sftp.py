"""Folders of an SFTP server are listed and read by the rules of local ones, by known servers only."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3

from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.settings import Settings
from core.storage import sessions
from core.storage.opening import open_storage
from core.storage.protocol import Storage
from core.storage.reading import Expected, hash_content
from core.storage.walking import walk
from tests.assets.remote_servers import free_port, sftp_server

PICTURE = os.urandom(300_000)


class Server(NamedTuple):
    """A server that runs, what it serves, and the home of who enters it."""

    port: int
    served: Path
    home: Path


def make_home(home: Path, port: int) -> Path:
    """A home with a key that the server knows, and the server's key as known."""
    import asyncssh

    (home / ".ssh").mkdir(parents=True)
    key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(str(home / ".ssh" / "id_ed25519"))
    key.write_public_key(str(home / "authorized_keys"))
    host_key.write_private_key(str(home / "host_key"))
    public = host_key.export_public_key().decode()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    return home


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests."""
    served, port = tmp_path_factory.mktemp("served"), free_port()
    home = make_home(tmp_path_factory.mktemp("home"), port)
    with sftp_server(home, served, port):
        yield Server(port, served, home)


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The same, with a folder for this test, and an environment that enters it."""
    monkeypatch.setattr(sessions, "_SESSIONS", {})
    monkeypatch.setenv("HOME", str(running.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    served = running.served / tmp_path.name
    served.mkdir()
    return running._replace(served=served)


def storage_of(server: Server) -> Storage:
    root = f"sftp://me@127.0.0.1:{server.port}"
    return open_storage(f"{root}/{server.served.name}", Settings(remote_roots=(root,)), "folder")


def test_a_folder_is_listed_and_read(server: Server) -> None:
    """Names of any bytes, sizes, times, sidecars and links are judged as in folders; the bytes are all there."""
    (server.served / "d").mkdir()
    (server.served / "d" / "ü.png").write_bytes(PICTURE)
    os.utime(server.served / "d" / "ü.png", (0, 1_700_000_000))
    (server.served / os.fsdecode(b"\xe4.png")).write_bytes(b"1")
    (server.served / "notes.txt").touch()
    (server.served / "link.png").symlink_to("/etc/hostname")
    storage = storage_of(server)
    entries = {entry.path: entry for entry in walk(storage)}
    assert {path: entry.reason for path, entry in entries.items()} == {
        "d/ü.png": None,
        "\uf7e4.png": None,
        "notes.txt": Reason.SIDECAR_FILE,
        "link.png": Reason.NOT_A_FILE,
    }
    entry = entries["d/ü.png"]
    assert entry.mtime_ns == 1_700_000_000 * 10**9
    content = hash_content(storage, entry.path, 2**20, Expected(entry.size, entry.mtime_ns))
    assert (content.content_hash, content.data) == (blake3(PICTURE).hexdigest(), PICTURE)
    assert hash_content(storage, "\uf7e4.png", 99).data == b"1"


def test_a_file_that_is_gone_is_an_outcome_and_a_folder_its_storages(server: Server) -> None:
    """As with mounted folders."""
    with pytest.raises(ImageRejected) as caught:
        hash_content(storage_of(server), "gone.png", 99)
    assert caught.value.reason == Reason.VANISHED
    server.served.rmdir()
    with pytest.raises(StorageAway) as away:
        list(walk(storage_of(server)))
    assert isinstance(away.value.__cause__, FileNotFoundError)


def test_an_unknown_server_is_not_spoken_to(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever stands between would see every image."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes((server.home / ".ssh" / "id_ed25519").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FolderError, match="known_hosts"):
        list(walk(storage_of(server)))


def test_who_is_not_let_in_is_told(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder is refused; an image is not blamed."""
    home = make_home(tmp_path / "other", server.port)
    (home / ".ssh" / "known_hosts").write_bytes((server.home / ".ssh" / "known_hosts").read_bytes())
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(FolderError, match="let the worker in") as caught:
        list(walk(storage_of(server)))
    assert caught.value.reason == Reason.PERMISSION_DENIED
    with pytest.raises(StorageAway):
        hash_content(storage_of(server), "x.png", 99)


def test_a_connection_that_is_cut_is_the_storages_fault_until_it_is_back(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection that was kept is given up, and the next try connects anew."""
    port = free_port()
    home = make_home(tmp_path / "cut", port)
    monkeypatch.setenv("HOME", str(home))
    (server.served / "x.png").write_bytes(PICTURE)
    cut = server._replace(port=port)
    with sftp_server(home, server.served.parent, port):
        assert hash_content(storage_of(cut), "x.png", 2**20)
    for _ in range(2):
        with pytest.raises(StorageAway):
            hash_content(storage_of(cut), "x.png", 2**20)
        with pytest.raises(StorageAway):
            list(walk(storage_of(cut)))
    with sftp_server(home, server.served.parent, port):
        assert hash_content(storage_of(cut), "x.png", 2**20).data == PICTURE
