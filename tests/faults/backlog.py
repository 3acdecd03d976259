"""A backlog of many batches, written straight into the database, because listing it would take minutes."""

from sqlalchemy import insert

from core.lanes import Lane
from core.states import ItemState
from core.tables import Batch, Item, utc_now
from tests.assets.rows import add_submission
from tests.faults.house import House
from tests.faults.pictures import Folder


def queue_without_listing(house: House, folder: Folder, images: int) -> None:
    """Queue so many bulk images: submissions of the same folder, as if they had been listed."""
    names = sorted(folder.good)
    for _ in range(images // len(names)):
        with house.database.write() as session:
            owner = add_submission(session, folder.path, lane=Lane.BULK, listed_at=utc_now())
        _queue_batches(house, owner, names)
        house.submitted[owner] = folder


def _queue_batches(house: House, owner: str, names: list[str]) -> None:
    size = house.settings.batch_size
    for first in range(0, len(names), size):
        part = names[first : first + size]
        with house.database.write() as session:
            batch = Batch(submission_id=owner, lane=Lane.BULK, images=len(part))
            session.add(batch)
            session.flush()
            common = {"submission_id": owner, "batch_id": batch.id, "state": ItemState.PENDING}
            session.execute(insert(Item), [common | {"path": name} for name in part])
