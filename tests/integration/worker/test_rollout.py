"""Real workers with real engines: another model serves without a restart, and no image pays for it."""

import signal
from pathlib import Path

import pytest
from sqlmodel import col, select

from core.activation import activate, read_active, read_earlier, roll_back, verify_bundle
from core.presence import PresentWorker, WorkerState, read_workers
from core.settings import Settings
from core.states import BatchState, ItemState
from core.tables import Audit, Result
from tests.assets import images
from tests.assets.bundles import copy_bundle
from tests.assets.programs import wait_until
from tests.assets.rows import assert_counters_are_exact, batches_of, items_of
from tests.integration.worker.conftest import House

IMAGES = 160


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The bundles of the API's machine, an old and a new one."""
    folder = tmp_path / "models"
    for version in ("8.0.0", "9.0.0"):
        copy_bundle(folder, version)
    return folder


@pytest.fixture
def folder(images_root: Path) -> Path:
    """Images of as many contents."""
    for number in range(IMAGES):
        (images_root / f"{number}.png").write_bytes(images.plain(number))
    return images_root


def with_models(settings: Settings, models: Path) -> Settings:
    return settings.model_copy(update={"engine": "openvino", "models": models, "batch_size": 10})


def model_of(models: Path, version: str) -> str:
    return f"histobatch-breakhis@{version}"


OLD, NEW = model_of(Path(), "8.0.0"), model_of(Path(), "9.0.0")


def roll_out(house: House, models: Path, model: str) -> None:
    """As the API does it."""
    settings = with_models(house.settings, models)
    bundle = verify_bundle(settings, model)
    with house.database.write() as session:
        activate(session, settings, bundle, "anna")


def roll_back_as_the_api(house: House, models: Path) -> str:
    settings = with_models(house.settings, models)
    with house.database.read() as session:
        bundle = verify_bundle(settings, read_earlier(session).model_version)
    with house.database.write() as session:
        return roll_back(session, bundle, "anna").model_version


def worker_of(house: House) -> PresentWorker | None:
    with house.database.read() as session:
        found = [worker for worker in read_workers(session) if worker.state is not WorkerState.AWAY]
    return found[0] if found else None


def wait_for(house: House, model: str, state: WorkerState = WorkerState.SERVING) -> PresentWorker:
    def is_there() -> bool:
        worker = worker_of(house)
        return worker is not None and (worker.state, worker.wanted or worker.model_version) == (state, model)

    wait_until(is_there, f"the worker is {state} {model}")
    worker = worker_of(house)
    assert worker is not None
    return worker


def models_by_batch(house: House, submission_id: str) -> dict[int, set[str]]:
    """Which models made the results of each batch."""
    with house.database.read() as session:
        made_by = dict(session.exec(select(Result.id, Result.model_version)).all())
    found: dict[int, set[str]] = {}
    for item in items_of(house.database, submission_id).values():
        found.setdefault(item.batch_id, set()).add(made_by[item.result_id])
    return found


def assert_whole(house: House, submission_id: str) -> None:
    """Each image has one outcome, each batch one model."""
    items = items_of(house.database, submission_id)
    assert len(items) == IMAGES
    assert {item.state for item in items.values()} == {ItemState.DONE}
    assert all(len(models) == 1 for models in models_by_batch(house, submission_id).values())
    assert_counters_are_exact(house.database, submission_id)


def has_done_batches(house: House, submission_id: str) -> bool:
    return any(batch.state == BatchState.DONE for batch in batches_of(house.database, submission_id))


def test_a_model_is_swapped_in_the_middle_and_rolled_back(any_house, models, folder, program):
    """No restart, no image lost or doubled, no batch with two models; a rollback swaps as an activation does."""
    house = any_house
    roll_out(house, models, OLD)
    worker = program("worker", with_models(house.settings, models), models=models, lease_s=2)
    wait_for(house, OLD)
    mine = house.submit(folder)
    wait_until(lambda: has_done_batches(house, mine), "the first batch is done")
    roll_out(house, models, NEW)
    house.wait_done(mine, 120)
    assert_whole(house, mine)
    found = models_by_batch(house, mine)
    assert {model for models in found.values() for model in models} == {OLD, NEW}
    order = [found[batch.id] for batch in sorted(batches_of(house.database, mine), key=lambda batch: batch.started_at)]
    assert order == sorted(order, key=lambda models: models == {NEW}), "the old model came back"
    assert {batch.attempts for batch in batches_of(house.database, mine)} == {1}
    assert roll_back_as_the_api(house, models) == OLD
    wait_for(house, OLD)
    assert worker.stop() == 0
    assert worker_of(house) is None
    with house.database.read() as session:
        actions = session.exec(select(Audit.action).order_by(col(Audit.number))).all()
    assert actions == ["model.activate", "model.activate", "model.rollback"]


def test_a_worker_without_the_bundle_begins_nothing_until_it_has_it(house, models, folder, program, tmp_path):
    """It says why, leaves batches to others, and goes on by itself: when the bundle comes, or after a rollback."""
    roll_out(house, models, OLD)
    own = tmp_path / "own-models"
    copy_bundle(own, "8.0.0")
    program("worker", with_models(house.settings, own), models=own, lease_s=2, reconcile_every_s=1)
    program("beat", house.settings, reconcile_every_s=1)
    wait_for(house, OLD)
    roll_out(house, models, NEW)
    waiting = wait_for(house, NEW, WorkerState.WAITING)
    assert NEW in (waiting.detail or "")
    assert waiting.model_version == OLD
    mine = house.submit(folder)
    wait_until(lambda: len(items_of(house.database, mine)) == IMAGES, "the folder is listed all the same")
    assert {batch.state for batch in batches_of(house.database, mine)} == {BatchState.QUEUED}
    copy_bundle(own, "9.0.0")
    house.wait_done(mine, 120)
    assert_whole(house, mine)
    assert set.union(*models_by_batch(house, mine).values()) == {NEW}
    assert {batch.attempts for batch in batches_of(house.database, mine)} == {1}


def test_a_kill_while_swapping_loses_nothing(house, models, folder, program):
    """SIGKILL between two engines: a fresh worker begins with the active model and does the rest."""
    roll_out(house, models, OLD)
    settings = with_models(house.settings, models)
    first = program("worker", settings, models=models, lease_s=2)
    wait_for(house, OLD)
    mine = house.submit(folder)
    wait_until(lambda: has_done_batches(house, mine), "the first batch is done")
    roll_out(house, models, NEW)
    wait_until(lambda: first.log.read_text().count('"model_loading"') == 2, "the worker loads the new model")
    first.stop(signal.SIGKILL)
    assert first.log.read_text().count('"model_swapped"') == 1, "it was killed too late"
    program("worker", settings, models=models, lease_s=2, reconcile_every_s=1)
    program("beat", house.settings, reconcile_every_s=1)
    house.wait_done(mine, 120)
    assert_whole(house, mine)
    with house.database.read() as session:
        assert read_active(session).model_version == NEW
