"""Running APIs for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.database import Database
from core.settings import Settings
from tests.integration.api.server import Api, running, write_bundle
from tests.integration.api.visits import Visit


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
def api(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """A running API on SQLite, for rules that do not depend on the database."""
    with running(api_settings, sqlite) as opened:
        yield opened


@pytest.fixture
def each_api(api_settings: Settings, database: Database, database_url: str) -> Iterator[Api]:
    """A running API on each supported database."""
    with running(api_settings.model_copy(update={"database_url": database_url}), database) as opened:
        yield opened


@pytest.fixture
def visit(chromium: Any, api: Api) -> Iterator[Visit]:
    """A fresh page; any console error or foreign request fails the test at its end."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    opened = Visit(page, str(api.http.base_url).rstrip("/"))
    page.on("console", opened.note_message)
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("requestfailed", lambda request: opened.errors.append(f"{request.url} {request.failure}"))
    page.on("request", opened.note_request)
    yield opened
    page.goto("about:blank")
    context.close()
    assert [error for error in opened.errors if "ERR_ABORTED" not in error] == []
    assert opened.foreign == []
