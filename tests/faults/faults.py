"""The faults. Each does its damage, lasts for a while where it is one that lasts, and takes it back."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import psutil
from sqlmodel import col, select

from core.lanes import Lane
from core.states import OPEN_BATCHES, OPEN_SUBMISSIONS
from core.tables import Batch, Submission
from tests.faults.house import House
from tests.faults.proxy import Proxy
from tests.faults.supervisor import Kept

Fault = Callable[[House, Random], None]
_HOUR_S = 3600


def kill_worker(house: House, random: Random) -> None:
    """SIGKILL a worker that has a batch in hand, if any has."""
    _victim(house, random).kill()


def stop_worker(house: House, random: Random) -> None:
    """SIGTERM a worker, as a deployment does; its supervisor starts another."""
    _victim(house, random).send(signal.SIGTERM)


def freeze_worker(house: House, random: Random) -> None:
    """SIGSTOP a worker for longer than a lease; when it wakes, others have its batches."""
    _freeze(_victim(house, random), house.settings.lease_s * random.uniform(1.5, 2.5))


def doze_worker(house: House, random: Random) -> None:
    """SIGSTOP a worker for less than a lease: nobody need notice."""
    _freeze(_victim(house, random), house.settings.lease_s * random.uniform(0.1, 0.5))


def kill_decoder(house: House, random: Random) -> None:
    """SIGKILL a process below a worker: one that decodes, or the server that forks those."""
    with suppress(psutil.Error):
        worker = _victim(house, random).process()
        children = worker.children(recursive=True) if worker else []
        if children:
            random.choice(children).kill()


def kill_beat(house: House, random: Random) -> None:
    """SIGKILL a beat."""
    random.choice(house.beats).kill()


def kill_api(house: House, _: Random) -> None:
    """SIGKILL the API, whatever it is in the middle of."""
    assert house.api is not None
    house.api.kill()


def restart_broker(house: House, random: Random) -> None:
    """SIGKILL Valkey, and start it again with its data."""
    house.broker.restart(down_s=random.uniform(0, 2), keeps_data=True)


def replace_broker(house: House, random: Random) -> None:
    """SIGKILL Valkey, and start it again with nothing."""
    house.broker.restart(down_s=random.uniform(0, 2), keeps_data=False)


def wipe_broker(house: House, _: Random) -> None:
    """FLUSHALL on Valkey while it serves."""
    house.broker.wipe()


def cut_broker(house: House, _: Random) -> None:
    """Reset every connection to Valkey, in the middle of whatever it carries."""
    house.broker.proxy.cut()


def hold_broker(house: House, random: Random) -> None:
    """Let nothing through to Valkey, without a word; then it goes on its way, or is lost."""
    _hold(house.broker.proxy, random)


def restart_database(house: House, random: Random) -> None:
    """Restart PostgreSQL, as after a crash or in order."""
    house.store.server.restart(random.choice(["immediate", "fast"]))


def cut_database(house: House, _: Random) -> None:
    """Reset every connection to PostgreSQL, before or after a commit."""
    house.store.proxy.cut()


def hold_database(house: House, random: Random) -> None:
    """Let nothing through to PostgreSQL, without a word; then it goes on its way, or is lost."""
    _hold(house.store.proxy, random)


def lock_database(house: House, random: Random) -> None:
    """Keep every writer out of the SQLite file for a while."""
    house.store.lock(random.uniform(0.5, 3))


def fill_disk(house: House, random: Random) -> None:
    """Leave not one byte on the disk of the SQLite file for a while."""
    house.store.disk.fill()
    try:
        time.sleep(random.uniform(0.5, 3))
    finally:
        house.store.disk.free()


def jump_clock(house: House, random: Random) -> None:
    """Set the clock of one program an hour ahead or back, and right again."""
    clock = house.clocks[random.choice(sorted(house.clocks))]
    clock.jump(random.choice([-_HOUR_S, _HOUR_S]))
    time.sleep(random.uniform(0.5, 3))
    clock.jump(0)


def repeat_messages(house: House, _: Random) -> None:
    """Send the ids of open submissions, and of open batches and some closed ones, three times each."""
    submissions, batches = house.ask(
        lambda session: (
            session.exec(select(Submission.id).where(col(Submission.state).in_(OPEN_SUBMISSIONS))).all(),
            session.exec(
                select(Batch.id, Batch.lane).order_by(col(Batch.state).in_(OPEN_BATCHES).desc()).limit(20)
            ).all(),
        )
    )
    for _ in range(3):
        for submission_id in submissions:
            house.send(lambda queue, key=submission_id: queue.send_intake(key))
        for batch_id, lane in batches:
            house.send(lambda queue, key=batch_id, lane=lane: queue.send_classify(key, Lane(lane)))


def submit_poison(house: House, _: Random) -> None:
    """Hand in a folder with an image that makes the engine call abort()."""
    house.submit(house.pictures.folder(7, poison=1))


def _victim(house: House, random: Random) -> Kept:
    return random.choice(house.busy_workers() or house.workers)


def _freeze(program: Kept, seconds: float) -> None:
    process = program.process()
    if process is None:
        return
    # By psutil, which makes sure that it wakes the same process and not its successor.
    with suppress(psutil.NoSuchProcess):
        process.suspend()
        time.sleep(seconds)
        process.resume()


def _hold(proxy: Proxy, random: Random) -> None:
    proxy.hold()
    try:
        time.sleep(random.uniform(0.5, 3))
        if random.random() < 0.5:
            proxy.cut()
    finally:
        proxy.release()
