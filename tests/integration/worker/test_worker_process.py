"""Real worker processes: folders become rows, and no death, stop or forgetful broker loses or doubles one."""

import base64
import json
import pickle
import signal
import uuid

import pytest
from redis import Redis
from sqlmodel import func, select

from core.lanes import CLASSIFY_TASK, QUEUES, Lane
from core.queue import make_celery
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Result
from tests.assets import images
from tests.assets.programs import wait_until
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.watchdog import EXIT_RESTART


@pytest.fixture
def folder(images_root):
    """Small images of 460 different contents, in ten folders, a few of them broken."""
    for number in range(460):
        (images_root / f"case-{number % 10}").mkdir(exist_ok=True)
        (images_root / f"case-{number % 10}" / f"{number}.png").write_bytes(images.plain(number))
    for name, (data, _) in images.broken_files().items():
        (images_root / name).write_bytes(data)
    return images_root


def assert_whole(house, submission_id: str) -> None:
    """Each image has one outcome, each content one result, each counter its items."""
    items = items_of(house.database, submission_id)
    broken = images.broken_files()
    assert len(items) == 460 + len(broken)
    assert {path: items[path].reason for path in broken} == {path: reason for path, (_, reason) in broken.items()}
    assert sum(item.state == ItemState.DONE for item in items.values()) == 460
    with house.database.read() as session:
        assert session.exec(select(func.count()).select_from(Result)).one() == 460
    assert_counters_are_exact(house.database, submission_id)


def done_items(house) -> int:
    with house.database.read() as session:
        return session.exec(select(func.count()).select_from(Item).where(Item.state == ItemState.DONE)).one()


def test_a_folder_becomes_rows(any_house, folder, program):
    """From one message to a result or a reason for every file, on both databases; then the worker stops cleanly."""
    worker = program("worker", any_house.settings)
    mine = any_house.submit(folder)
    any_house.wait_done(mine)
    assert_whole(any_house, mine)
    assert worker.stop() == 0
    assert worker.is_logged("engine_chosen")


def test_two_workers_share_the_work(any_house, folder, program):
    """On one database and one broker, nothing is done twice and both take part."""
    for _ in range(2):
        program("worker", any_house.settings, worker_concurrency=1).wait_for_log("worker_ready")
    mine = any_house.submit(folder)
    any_house.wait_done(mine)
    assert_whole(any_house, mine)
    batches = batches_of(any_house.database, mine)
    assert all(batch.attempts <= 1 for batch in batches)
    assert len({batch.worker for batch in batches if batch.worker}) == 2


@pytest.mark.parametrize("grace_s", [8, 0], ids=["finishes", "hands-back"])
def test_a_stop_in_the_middle_loses_nothing(house, folder, program, grace_s):
    """SIGTERM: batches in hand finish or go back, the exit status is 0, and the next worker does the rest at once."""
    worker = program("worker", house.settings, shutdown_grace_s=grace_s, batch_size=40)
    mine = house.submit(folder)
    wait_until(lambda: done_items(house) > 0, "the first batch is done")
    assert worker.stop() == 0
    batches = batches_of(house.database, mine)
    states = {batch.state for batch in batches}
    assert BatchState.QUEUED in states, "the worker was not stopped in the middle"
    assert BatchState.RUNNING not in states
    assert all(batch.attempts == (batch.state == BatchState.DONE and batch.worker is not None) for batch in batches)
    program("worker", house.settings)
    program("beat", house.settings, reconcile_every_s=1)
    house.wait_done(mine)
    assert_whole(house, mine)


def test_a_kill_in_the_middle_loses_and_doubles_nothing(any_house, folder, program):
    """SIGKILL, twice: leases run out, the reconciler sends again, and every image has one outcome."""
    program("beat", any_house.settings, reconcile_every_s=1)
    mine = None
    for round_ in (1, 2):
        before = done_items(any_house)
        worker = program("worker", any_house.settings, lease_s=2, reconcile_every_s=1)
        mine = mine or any_house.submit(folder)
        wait_until(lambda before=before: done_items(any_house) > before, f"batches are done in round {round_}")
        worker.stop(signal.SIGKILL)
    program("worker", any_house.settings, lease_s=2, reconcile_every_s=1)
    any_house.wait_done(mine, 90)
    assert_whole(any_house, mine)


def test_a_broker_that_forgets_everything_loses_nothing(house, folder, program, redis_url):
    """FLUSHALL in the middle: what waits is in the database, and is sent again."""
    from worker import reconcile

    assert reconcile._JUST_SENT.total_seconds() < 30  # the wait below relies on it
    program("beat", house.settings, reconcile_every_s=1)
    program("worker", house.settings, reconcile_every_s=1, worker_concurrency=1)
    mine = house.submit(folder)
    wait_until(lambda: done_items(house) > 0, "the first batch is done")
    Redis.from_url(redis_url).flushall()
    house.wait_done(mine, 90)
    assert_whole(house, mine)


def test_queues_are_emptied_in_order_of_urgency(house, folder, program):
    """Urgent, then bulk, then nightly, whatever was sent first."""
    with house.database.write() as session:
        owners = {lane: add_submission(session, folder, lane=lane) for lane in Lane}
        batches = [(add_batch(session, owners[lane], [], lane=lane), lane) for lane in [*reversed(Lane)] * 4]
    for batch_id, lane in batches:
        house.queue.send_classify(batch_id, lane)
    program("worker", house.settings, worker_concurrency=1)
    for owner in owners.values():
        house.wait_done(owner)
    with house.database.read() as session:
        order = session.exec(select(Batch.lane).order_by(Batch.started_at)).all()
    assert order == ["urgent"] * 4 + ["bulk"] * 4 + ["nightly"] * 4


def test_a_listing_waits_for_no_batch(house, folder, program):
    """Its message goes before all lanes, and its folder is walked in a thread of its own while batches run."""
    (folder / "late").mkdir()
    with house.database.write() as session:
        owner = add_submission(session, folder)
        batches = [add_batch(session, owner, []) for _ in range(40)]
        accepted = add_submission(session, folder / "late", state=SubmissionState.ACCEPTED)
    for batch_id in batches:
        house.queue.send_classify(batch_id, Lane.BULK)
    house.queue.send_intake(accepted)
    program("worker", house.settings, worker_concurrency=1)
    house.wait_done(owner)
    ended = submission_of(house.database, accepted)
    assert ended.state == SubmissionState.FAILED
    assert ended.finished_at < submission_of(house.database, owner).finished_at


def test_a_worker_to_which_nothing_comes_ends_to_be_started_afresh(house, folder, program):
    """Connected, and yet deaf, as after some returns of a broker: it asks for a new process, which does the work."""
    worker = program("worker", house.settings, deaf_after_s=1, lease_s=1)
    worker.wait_for_log("worker_ready")
    app = make_celery(house.settings)
    for queue in QUEUES:
        app.control.cancel_consumer(queue, reply=True, timeout=5, limit=1)
    app.close()
    mine = house.submit(folder)
    assert worker.process.wait(60) == EXIT_RESTART
    assert worker.is_logged("worker_deaf")
    program("worker", house.settings)
    house.wait_done(mine)
    assert_whole(house, mine)


def test_a_worker_that_outgrew_its_memory_finishes_and_ends(house, folder, program):
    """It ends as on SIGTERM, so that nothing is lost and its supervisor starts a small one."""
    worker = program("worker", house.settings, worker_memory_bytes=1, lease_s=1)
    assert worker.process.wait(60) == 0
    assert worker.is_logged("worker_too_large")


def test_the_health_file_is_written_while_database_and_broker_answer(house, program, tmp_path):
    """Its age is what an orchestrator looks at."""
    file = tmp_path / "health"
    program("worker", house.settings, health_file=file, lease_s=0.4)
    wait_until(file.exists, "the file")
    first = json.loads(file.read_text())
    wait_until(lambda: json.loads(file.read_text())["at"] > first["at"], "a newer file")
    assert first["engine"] == "fake"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickled_message_is_refused(house, folder, program, redis_url, tmp_path):
    """Whoever reaches the broker can name a task and an id, and never run code; the next message is served."""
    body = base64.b64encode(pickle.dumps(((Bomb(str(tmp_path / "exploded")),), {}, {}))).decode()
    task_id = str(uuid.uuid4())
    message = {
        "body": body,
        "content-encoding": "binary",
        "content-type": "application/x-python-serialize",
        "headers": {"lang": "py", "task": CLASSIFY_TASK, "id": task_id, "retries": 0, "root_id": task_id},
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "urgent"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    client = Redis.from_url(redis_url)
    client.lpush("urgent", json.dumps(message))
    worker = program("worker", house.settings)
    worker.wait_for_log("worker_ready")
    wait_until(lambda: client.llen("urgent") == 0, "the message is taken")
    mine = house.submit(folder / "case-0")
    house.wait_done(mine)
    assert not (tmp_path / "exploded").exists()


def test_a_worker_that_cannot_start_says_why_in_one_line(house, program, tmp_path):
    """No model: status 1 and a line that names the remedy, no traceback."""
    (tmp_path / "none").mkdir()
    worker = program("worker", house.settings, engine="openvino", models=tmp_path / "none")
    assert worker.process.wait(60) == 1
    text = worker.log.read_text()
    assert "HISTOBATCH_MODEL" in text
    assert "Traceback" not in text


def test_names_and_paths_stay_out_of_the_log(house, images_root, program):
    """File names may hold patients' names: logs carry ids only."""
    (images_root / "Erika-Mustermann.png").write_bytes(b"broken")
    (images_root / "Max-Mustermann.png").write_bytes(images.plain())
    worker = program("worker", house.settings)
    mine = house.submit(images_root)
    house.wait_done(mine)
    assert worker.stop() == 0
    assert worker.is_logged("batch_done")
    assert "Mustermann" not in worker.log.read_text()
