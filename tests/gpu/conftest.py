"""What needs a GPU: skipped, and said so, where there is none. CI has none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.bundle import Bundle, load_bundle, newest_bundle_folder
from core.settings import Settings
from worker.engines.choice import candidates, look_at_machine
from worker.engines.driver import Driver, ask_driver
from worker.engines.flavours import Flavour, find_flavour
from worker.engines.gpu import open_gpu_engine
from worker.engines.streams import StreamedEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked, and skipped where something is missing."""
    obstacle = look_at_machine().gpu_obstacle
    for item in items:
        if "tests/gpu/" in item.nodeid:
            item.add_marker(pytest.mark.gpu)
            if obstacle:
                item.add_marker(pytest.mark.skip(reason=f"no GPU engine can run here: {obstacle}"))


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(newest_bundle_folder(Settings().models))


@pytest.fixture(scope="session")
def driver() -> Driver:
    return ask_driver()


@pytest.fixture(scope="session")
def flavour() -> Flavour:
    """The library that `auto` would take."""
    return find_flavour(candidates(Settings())[0].kind)


@pytest.fixture(scope="session")
def gpu_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One folder of engines for all tests, so that one build serves them."""
    return Settings(data_dir=tmp_path_factory.mktemp("gpu"), gpu_opt_batch=64, gpu_max_batch=256)


@pytest.fixture(scope="module")
def engine(bundle: Bundle, gpu_settings: Settings, flavour: Flavour, driver: Driver) -> Iterator[StreamedEngine]:
    """A GPU engine that passed the gate."""
    opened = open_gpu_engine(bundle, gpu_settings, flavour, driver)
    yield opened
    opened.close()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A folder in which processes leave marks."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder
