"""The file of archives is the truth about what it names, and changes nothing while it has a fault."""

from pathlib import Path

import pytest

from core.archive_definitions import ArchiveDefinition
from core.archive_file import ArchiveFileError, read_archive_file, store_archive_file
from core.archive_tables import Archive
from core.archives import create_archive, find_archive
from core.database import Database
from core.settings import Settings
from tests.unit.core.test_archives import audits

NORTH = """
[archives.north]
root = "{images}/north"
schedule = "0 22 * * *"
"""
SOUTH = """
[archives.south]
root = "{images}/south"
webhook = { url = "https://hospital.example", secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" }
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "north").mkdir(parents=True)
    return folder


@pytest.fixture
def read(tmp_path: Path, images: Path):
    """Read a file of this text."""

    def read_text(text: str) -> list[ArchiveDefinition]:
        path = tmp_path / "archives.toml"
        path.write_text(text.replace("{images}", str(images)))
        return read_archive_file(path, Settings(roots=(images,)))

    return read_text


def stored(database: Database, name: str) -> Archive | None:
    with database.read() as session:
        return find_archive(session, name)


def store(database: Database, definitions: list[ArchiveDefinition]) -> list[str]:
    with database.write() as session:
        return store_archive_file(session, definitions)


def test_the_file_makes_changes_and_switches_off(database: Database, read) -> None:
    """What is gone from it keeps all that is known of it, and may be changed by the API from then on."""
    assert store(database, read(NORTH + SOUTH)) == ["north", "south"]
    assert stored(database, "south").webhook_secret.startswith("whsec_")
    assert store(database, read(NORTH.replace("22", "23"))) == ["north", "south"]
    assert stored(database, "north").next_at.hour == 23
    south = stored(database, "south")
    assert (south.enabled, south.defined_by) == (False, "api")
    assert store(database, read(NORTH.replace("22", "23") + SOUTH)) == ["south"]
    assert (stored(database, "south").enabled, stored(database, "south").defined_by) == (True, "file")
    actions = [action for _, action, subject in audits(database) if subject == "south"]
    assert actions == ["archive.create", "archive.release", "archive.change"]


def test_reading_it_again_writes_nothing(database: Database, read) -> None:
    """It is read every few seconds."""
    store(database, read(NORTH + SOUTH))
    before = audits(database)
    assert store(database, read(NORTH + SOUTH)) == []
    assert audits(database) == before


def test_the_file_takes_over_what_the_api_made(database: Database, read) -> None:
    """The same name is the same archive: what its scans know is kept."""
    with database.write() as session:
        made = create_archive(session, ArchiveDefinition(name="north", root="/elsewhere"), "anna")
    store(database, read(NORTH))
    north = stored(database, "north")
    assert (north.id, north.defined_by, Path(north.root).name) == (made.id, "file", "north")


def test_storage_that_is_away_is_no_fault_of_the_file(read, images: Path) -> None:
    """Otherwise one unmounted disk would keep every archive from being changed."""
    (definition,) = read(SOUTH)
    assert not Path(definition.root).exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[archives.north", "no TOML"),
        ("[archive.north]\nroot = '/'", "not archive"),
        ("archives = 3", "[archives.NAME]"),
        ("[archives]\nnorth = '/images'", "with its fields"),
        ("[archives.north]\nname = 'south'\nroot = '{images}'", "brackets only"),
        ("[archives.North]\nroot = '{images}'", "a name is"),
        ("[archives.north]", "root"),
        ("[archives.north]\nroot = '/etc'", "HISTOBATCH_ROOTS"),
        ("[archives.north]\nroot = '{images}'\nschedule = '0 0 31 2 *'", "never fires"),
        ("[archives.north]\nroot = '{images}'\nwebhook = { url = 'https://h' }", "needs a secret"),
        ("#" * 2**21, "larger than"),
    ],
)
def test_a_fault_names_its_archive(read, text: str, says: str) -> None:
    """Nothing of a file with a fault is used."""
    with pytest.raises(ArchiveFileError) as caught:
        read(NORTH.replace("north", "other") * ("archives." in text) + text)
    assert says in str(caught.value)


def test_all_faults_are_named_at_once(read) -> None:
    """Of all archives in the file."""
    with pytest.raises(ArchiveFileError) as caught:
        read("[archives.a]\nroot = 'x'\nsettle_s = -1\n[archives.b]\nroot = '/etc'")
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, make) -> None:
    """Missing, a folder, or not UTF-8: it is not taken for an empty one, which would switch every archive off."""
    path = tmp_path / "archives.toml"
    make(path)
    with pytest.raises(ArchiveFileError):
        read_archive_file(path, Settings())


def test_an_empty_file_names_no_archive(read) -> None:
    """A file of comments is what compose comes with."""
    assert read("# nothing yet\n") == []
