"""Running APIs for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.database import Database
from core.settings import Settings
from tests.integration.api.server import Api, running, write_bundle


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two bundles."""
    folder = tmp_path / "models"
    write_bundle(folder / "old", "1.9.0")
    write_bundle(folder / "new", "1.10.0")
    return folder


@pytest.fixture
def api_settings(settings: Settings, models: Path) -> Settings:
    """Settings of the API on SQLite; of an engine that needs a model, which the API itself never loads."""
    return settings.model_copy(update={"models": models, "engine": "openvino"})


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """An open SQLite database with the newest tables."""
    database = Database(sqlite_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def api(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """A running API on SQLite, for rules that do not depend on the database."""
    with running(api_settings, sqlite) as opened:
        yield opened


@pytest.fixture
def each_api(api_settings: Settings, database: Database, database_url: str) -> Iterator[Api]:
    """A running API on each supported database."""
    with running(api_settings.model_copy(update={"database_url": database_url}), database) as opened:
        yield opened
