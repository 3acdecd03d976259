"""Sums over all batches are the same whether they were kept or counted anew."""

import random

import pytest
from sqlalchemy import delete, event, update
from sqlmodel import col

from api.batch_totals import BatchTotals
from core.database import Database
from core.states import BatchState
from core.tables import Batch, utc_now
from tests.integration.api.server import add_batch, add_submission


def _read(database: Database, totals: BatchTotals) -> dict[str, float]:
    with database.read() as session:
        return totals.read(session)


@pytest.fixture(autouse=True)
def _narrow_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.batch_totals._MARGIN", 3)


def test_kept_sums_are_those_of_all_rows(database: Database) -> None:
    """Whatever batches open, close, split and expire between two looks, in any order."""
    submission_id = add_submission(database)
    chance = random.Random(7)
    totals = BatchTotals()
    open_ids: list[int] = []
    for _ in range(30):
        for _ in range(chance.randrange(4)):
            state = chance.choice([BatchState.QUEUED, BatchState.RUNNING])
            open_ids.append(add_batch(database, submission_id, images=10, state=state))
        chance.shuffle(open_ids)
        for batch_id in open_ids[: chance.randrange(5)]:
            ends = {"benign": 7, "failed": 3, "expirations": chance.randrange(3), "wall_ms": 700.0, "read_ms": 1.5}
            with database.write() as session:
                running = {"state": BatchState.RUNNING, "started_at": utc_now()}
                session.execute(
                    update(Batch)
                    .where(col(Batch.id) == batch_id, col(Batch.state) == BatchState.QUEUED)
                    .values(**running)
                )
                state = chance.choice([BatchState.DONE, BatchState.SPLIT])
                session.execute(update(Batch).where(col(Batch.id) == batch_id).values(state=state, **ends))
            open_ids.remove(batch_id)
        assert _read(database, totals) == pytest.approx(_read(database, BatchTotals()))
    assert totals._kept_up_to > 0
    assert _read(database, totals)["benign"] > 0


def test_a_look_reads_what_came_since(database: Database) -> None:
    """Rows that were counted are not read again, and stay counted when retention deletes them."""
    submission_id = add_submission(database)
    first = [add_batch(database, submission_id, images=1, benign=1) for _ in range(20)]
    totals = BatchTotals()
    assert _read(database, totals)["benign"] == 20
    bounds: list[object] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "sum(" in statement:
            bounds.append(parameters)

    event.listen(database.engine, "before_cursor_execute", note)
    assert _read(database, totals)["benign"] == 20
    event.remove(database.engine, "before_cursor_execute", note)
    assert len(bounds) == 1
    assert str(first[-4]) in str(bounds[0])
    with database.write() as session:
        session.execute(delete(Batch).where(col(Batch.id) == first[0]))
    assert _read(database, totals)["benign"] == 20
