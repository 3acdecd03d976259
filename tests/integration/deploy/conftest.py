"""A running API and a real Prometheus for the tests of this folder."""

import shutil
from collections.abc import Iterator

import pytest

from core.database import Database
from core.settings import Settings
from tests.conftest import missing_part
from tests.integration.api.server import Api, running


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' checker of rules and configurations."""
    return shutil.which("promtool") or missing_part("promtool (the package prometheus)")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """A real Prometheus, to be run."""
    return shutil.which("prometheus") or missing_part("prometheus (the package prometheus)")


@pytest.fixture
def each_api(settings: Settings, database: Database, database_url: str) -> Iterator[Api]:
    """A running API on each supported database."""
    with running(settings.model_copy(update={"database_url": database_url}), database) as opened:
        yield opened
