"""Real worker processes on a real GPU: a queue is served, and a worker that is killed costs no image."""

import os
import signal

import pytest

from core.settings import Settings
from core.states import ItemState
from tests.assets import images
from tests.assets.programs import Program, wait_until
from tests.assets.rows import items_of
from tests.integration.worker.conftest import House


@pytest.fixture
def gpu_house(settings: Settings, gpu_settings: Settings):
    """SQLite, a broker, and workers that may serve on the GPU only."""
    opened = House(settings.model_copy(update={"engine": "tensorrt", "engines": gpu_settings.data_dir / "engines"}))
    yield opened
    opened.close()


def test_a_killed_worker_is_replaced_and_nothing_is_lost(gpu_house: House, images_root, tmp_path) -> None:
    """SIGKILL in the middle: a new process takes the engine from the cache, and every image has its outcome."""
    for number in range(600):
        (images_root / f"{number}.png").write_bytes(images.plain(number))
    house = gpu_house
    first = Program("worker", house.settings, tmp_path / "first.log", batch_size=20)
    mine = house.submit(images_root)
    wait_until(
        lambda: any(item.state == ItemState.DONE for item in items_of(house.database, mine).values()),
        "the first image is done",
        280,
    )
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    second = Program("worker", house.settings, tmp_path / "second.log", batch_size=20)
    try:
        house.wait_done(mine, 200)
        items = items_of(house.database, mine)
        assert len(items) == 600
        assert {item.state for item in items.values()} == {ItemState.DONE}
        assert '"state": "found"' in (tmp_path / "second.log").read_text()
        assert second.stop() == 0
    finally:
        second.process.kill()
        second.process.wait()
