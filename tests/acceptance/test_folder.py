"""The promise: a folder of 2,000 images with 40 broken ones ends with 1,960 results and 40 reasons."""

import random
import threading

import numpy as np
import psutil
import pytest
from PIL import Image
from redis import Redis
from sqlmodel import func, select

from core.bundle import newest_bundle_folder
from core.database import Database
from core.errors import BundleError
from core.lanes import Lane
from core.queue import WorkQueue
from core.settings import Settings
from core.states import ItemState, SubmissionState
from core.tables import Result
from tests.assets import images
from tests.assets.programs import Program, wait_until
from tests.assets.rows import add_submission, assert_counters_are_exact, items_of, submission_of
from tests.conftest import SAMPLES

_WHOLE = 1960
_BROKEN = 40
_MEMORY_LIMIT_BYTES = 1.2e9


def write_images(folder) -> dict[str, str]:
    """Write 1,960 whole images of as many contents and 40 broken ones; the broken names with their reasons."""
    dice = random.Random(40)
    originals = [path.read_bytes() for path in sorted(SAMPLES.glob("*.[jp][pn]g"))]
    for number in range(_WHOLE):
        name = f"{number % 20:02}/slide-{number}"
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if number % 10 == 0:
            # A sample at its full size; bytes after its end change the content's hash, and no pixel.
            path.write_bytes(dice.choice(originals) + number.to_bytes(4, "big"))
        else:
            pixels = images.noise(64, 90, seed=number)
            kind = ("PNG", "JPEG", "BMP")[number % 3]
            path.write_bytes(
                images.encode(Image.fromarray(pixels), kind, **({"compress_level": 1} if kind == "PNG" else {}))
            )
    reasons = {}
    kinds = list(images.broken_files().items())
    for number in range(_BROKEN):
        name, (data, reason) = kinds[number % len(kinds)]
        path = f"{dice.randrange(20):02}/{number}-{name}"
        (folder / path).write_bytes(data)
        reasons[path] = reason
    return reasons


class MemoryWatch(threading.Thread):
    """Notes the most memory that a process holds at once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._process = psutil.Process(pid)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.05) and self._process.is_running():
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def stop(self) -> int:
        self._end.set()
        self.join()
        return self.peak_bytes


@pytest.fixture
def serving(settings: Settings) -> Settings:
    """The released model on the CPU where the repository holds one, otherwise the fake."""
    try:
        newest_bundle_folder(settings.models)
    except BundleError:
        return settings
    pytest.importorskip("openvino")
    return settings.model_copy(update={"engine": "openvino", "batch_size": Settings().batch_size})


@pytest.mark.timeout(240)
def test_a_night_of_images_with_broken_ones(serving, images_root, tmp_path, redis_url):
    """1,960 results, 40 reasons, exact counters, bounded memory, an empty queue."""
    reasons = write_images(images_root)
    database, queue = Database(serving.database), WorkQueue(serving)
    database.migrate()
    worker = Program("worker", serving, tmp_path / "worker.log")
    beat = Program("beat", serving, tmp_path / "beat.log")
    try:
        worker.wait_for_log("worker_ready")
        memory = MemoryWatch(worker.process.pid)
        memory.start()
        with database.write() as session:
            mine = add_submission(session, images_root, state=SubmissionState.ACCEPTED)
        queue.send_intake(mine)
        wait_until(lambda: submission_of(database, mine).state == SubmissionState.DONE, "the submission is done", 200)
        peak_bytes = memory.stop()
        assert (worker.stop(), beat.stop()) == (0, 0)
    finally:
        worker.process.kill()
        beat.process.kill()
    items = items_of(database, mine)
    assert len(items) == _WHOLE + _BROKEN
    assert {path: item.reason for path, item in items.items() if item.state == ItemState.FAILED} == reasons
    assert sum(item.state == ItemState.DONE and item.result_id is not None for item in items.values()) == _WHOLE
    with database.read() as session:
        results = session.exec(select(Result)).all()
        assert session.exec(select(func.count(func.distinct(Result.content_hash)))).one() == _WHOLE
    assert len(results) == _WHOLE
    assert all(0 <= result.probability <= 1 for result in results)
    assert np.std([result.probability for result in results]) > 0.001, "every image got the same answer"
    assert_counters_are_exact(database, mine)
    depths = queue.depths()
    # In the queue of control, beat may have left what the worker did not hear any more.
    assert [depths[lane] for lane in Lane] == [0, 0, 0]
    assert peak_bytes < _MEMORY_LIMIT_BYTES
    assert Redis.from_url(redis_url).hlen("unacked") == 0
    queue.close()
    database.close()
