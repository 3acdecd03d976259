"""Storage that is away is told from a file that is at fault, so that no outage is recorded against an image."""

import errno
import os
import subprocess
import sys

import pytest

from core.settings import PROJECT
from core.storage.away import is_gone_or_empty, is_storage_away
from tests.conftest import missing_part

# What only storage answers, whatever the folder shows.
AWAY = [
    "ESTALE",
    "ENOTCONN",
    "ETIMEDOUT",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENODEV",
    "ENXIO",
    "ENOMEDIUM",
]
# What a file may answer, too.
DOUBTFUL = ["ENOENT", "ENOTDIR", "EIO", "EREMOTEIO"]
# What only a file answers.
OWN_FAULT = ["EACCES", "EPERM", "ELOOP", "ENAMETOOLONG", "EISDIR", "EINVAL", "EMFILE"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def is_away(name: str, folder) -> bool:
    return is_storage_away(OSError(getattr(errno, name), "why"), os.fsencode(folder))


@pytest.mark.parametrize("name", AWAY)
def test_some_errors_are_always_the_storages(folder, name):
    """A network that is down says so itself: nobody need look at the folder."""
    (folder / "x").touch()
    assert is_away(name, folder)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_folder_that_is_gone_speaks_for_its_storage(folder, name):
    """It held the file when it was listed."""
    folder.rmdir()
    assert is_away(name, folder)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_an_empty_folder_speaks_for_its_storage(folder, name):
    """So looks a mount point on which nothing is mounted."""
    assert is_away(name, folder)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_in_a_folder_that_shows_files_the_file_is_at_fault(folder, name):
    """One that vanished, or a bad sector: its neighbours are there."""
    (folder / "sub").mkdir()
    assert not is_away(name, folder)


@pytest.mark.parametrize("name", OWN_FAULT)
def test_other_errors_are_the_files_own(folder, name):
    """Even where the folder is empty or gone."""
    assert not is_away(name, folder)
    folder.rmdir()
    assert not is_away(name, folder)


def test_an_error_without_a_number_is_the_files_own(folder):
    """Nothing speaks for the storage."""
    assert not is_storage_away(OSError("why"), os.fsencode(folder))


def test_real_errors_are_judged_like_made_ones(folder):
    """What the kernel raises for a file that is gone, before and after its folder goes."""
    (folder / "other").touch()

    def judge() -> bool:
        with pytest.raises(FileNotFoundError) as caught:
            (folder / "gone").read_bytes()
        return is_storage_away(caught.value, os.fsencode(folder))

    assert not judge()
    (folder / "other").unlink()
    assert judge()
    folder.rmdir()
    assert judge()


def test_a_file_in_the_folders_place_is_no_outage(folder):
    """Someone replaced the folder: its storage answers, and waiting for it would not help."""
    folder.rmdir()
    folder.touch()
    assert not is_gone_or_empty(os.fsencode(folder))
    assert not is_away("ENOTDIR", folder)


def test_hidden_files_are_files(folder):
    """What lies there shows that storage is there, whether it is an image or not."""
    (folder / ".hidden").touch()
    assert not is_gone_or_empty(os.fsencode(folder))


def test_a_folder_that_may_not_be_read_is_there(folder):
    """Permissions are no outage: it answered. Run as a user whom permissions bind."""
    folder.chmod(0)
    script = """
import os, sys
from core.storage.away import is_gone_or_empty
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(is_gone_or_empty(b"images"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder.parent)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT)},
    )
    if "Operation not permitted" in done.stderr:
        missing_part("a user whom permissions bind")
    assert done.stdout.strip() == "False", done.stderr
