"""A worker with a GPU engine, on a device of the tests' own: a lost context or a full memory costs no image."""

from pathlib import Path

import pytest

from core.states import BatchState, ItemState
from core.tables import utc_now
from tests.assets import images
from tests.assets.engines import with_engine
from tests.assets.gpu import FakeDevice
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of
from worker.classify import EngineBroken, classify_batch
from worker.context import WorkerContext
from worker.engines.device import DeviceFault, DeviceOutOfMemory
from worker.engines.key import Profile
from worker.engines.streams import StreamedEngine


def on(context: WorkerContext, device: FakeDevice) -> WorkerContext:
    """The worker with an engine on this device."""
    return with_engine(context, StreamedEngine(device, "tensorrt-fp16", Profile(opt_batch=4, max_batch=8)))


@pytest.fixture
def batch(context: WorkerContext, images_root: Path) -> tuple[str, int]:
    """A submission, and its batch of twenty images."""
    for number in range(20):
        (images_root / f"{number}.png").write_bytes(images.plain(number, value=number * 12))
    with context.database.write() as session:
        mine = add_submission(session, images_root, listed_at=utc_now())
        return mine, add_batch(session, mine, [f"{number}.png" for number in range(20)])


def test_a_lost_context_ends_the_process_and_a_fresh_one_finishes_the_batch(
    context: WorkerContext, batch: tuple[str, int]
) -> None:
    """The batch goes back uncounted; what was computed before is kept."""
    mine, batch_id = batch
    lost = FakeDevice()
    lost.finish_errors.extend([None, DeviceFault("cuEventSynchronize failed: unspecified launch failure")])
    with pytest.raises(EngineBroken, match="fails on an empty image, too"):
        classify_batch(on(context, lost), batch_id)
    (found,) = batches_of(context.database, mine)
    assert (found.state, found.attempts, found.suspect) == (BatchState.QUEUED, 0, False)
    classify_batch(on(context, FakeDevice()), batch_id)
    (found,) = batches_of(context.database, mine)
    assert (found.state, found.engine) == (BatchState.DONE, "tensorrt-fp16")
    assert {item.state for item in items_of(context.database, mine).values()} == {ItemState.DONE}
    assert_counters_are_exact(context.database, mine)


def test_a_full_memory_makes_calls_smaller_and_fails_nothing(context: WorkerContext, batch: tuple[str, int]) -> None:
    """Every image has its result, from calls of fewer images."""
    mine, batch_id = batch
    tight = FakeDevice()
    worker = on(context, tight)
    tight.begin_errors.extend([DeviceOutOfMemory("cuMemAlloc failed: out of memory")] * 4)
    classify_batch(worker, batch_id)
    assert {item.state for item in items_of(context.database, mine).values()} == {ItemState.DONE}
    assert sum(tight.calls) == 20
    assert max(tight.calls) < 8
