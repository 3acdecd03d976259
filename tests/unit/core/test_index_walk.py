"""Pages of a submission's images come in the order of an index, however much lies behind them."""

import pytest
from sqlalchemy import event, insert, text
from sqlmodel import Session, col, select

from core.database import Database
from core.index_walk import walk
from core.states import ItemState
from core.tables import Item
from tests.assets.rows import add_batch, add_submission

# Of one submission, and of newer ones: where one is a large part of all, PostgreSQL is tempted.
_MINE, _NEWER = 6_000, 12_000


@pytest.fixture
def submission_id(database: Database) -> str:
    """A submission of images that are malignant, benign and failed in turn, before newer ones of the same kind."""
    with database.write() as session:
        mine, newer = add_submission(session), add_submission(session)
        for submission_id, amount in ((mine, _MINE), (newer, _NEWER)):
            batch_id = add_batch(session, submission_id, [])
            session.execute(insert(Item), [_row(submission_id, batch_id, number) for number in range(amount)])
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return mine


def _row(submission_id: str, batch_id: int, number: int) -> dict[str, object]:
    decision = ("malignant", "benign", None)[number % 3]
    return {
        "submission_id": submission_id,
        "batch_id": batch_id,
        "path": f"{number}.png",
        "state": ItemState.DONE if decision else ItemState.FAILED,
        "decision": decision,
        "reason": None if decision else "corrupt",
    }


def _paths(session: Session, submission_id: str, limit: int = 5, **where: object) -> list[str]:
    alike = [(col(Item.submission_id), submission_id)]
    if (decision := where.pop("decision", None)) is not None:
        alike.append((col(Item.decision), str(decision)))
    found = walk(select(Item.path), alike, col(Item.id), **where).limit(limit)  # type: ignore[arg-type]
    return [str(path).removesuffix(".png") for path in session.scalars(found)]


def test_images_come_by_id_between_two_ids(database: Database, submission_id: str) -> None:
    """Neither end is included, another submission's images are none, and the order can be turned round."""
    with database.read() as session:
        first = session.scalars(select(Item.id).where(Item.submission_id == submission_id, Item.path == "0.png")).one()
        assert first is not None
        assert _paths(session, submission_id) == ["0", "1", "2", "3", "4"]
        assert _paths(session, submission_id, above=first, below=first + 4) == ["1", "2", "3"]
        assert _paths(session, submission_id, above=first + _MINE - 3) == ["5998", "5999"]
        assert _paths(session, submission_id, newest_first=True, limit=2) == ["5999", "5998"]
        assert _paths(session, submission_id, below=first + 2, newest_first=True) == ["1", "0"]
        assert _paths(session, submission_id, decision="benign", above=first, limit=3) == ["1", "4", "7"]
        assert _paths(session, submission_id, decision="benign", newest_first=True, limit=2) == ["5998", "5995"]
        assert _paths(session, submission_id, decision="uncertain") == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    ("columns", "index"),
    [({}, "ix_item_submission_id"), ({"decision": "malignant"}, "ix_item_submission_decision")],
    ids=["all", "of a decision"],
)
def test_both_databases_take_the_index_that_ends_with_the_submission(
    database: Database, submission_id: str, columns: dict[str, object], index: str, newest_first: bool
) -> None:
    """By the primary key alone, a page at a submission's end would go on through all that is newer."""
    asked: list[tuple[str, object]] = []

    def note(connection: object, cursor: object, statement: str, parameters: object, *rest: object) -> None:
        asked.append((statement, parameters))

    with database.read() as session:
        event.listen(database.engine, "before_cursor_execute", note)
        try:
            _paths(session, submission_id, limit=100, newest_first=newest_first, **columns)
        finally:
            event.remove(database.engine, "before_cursor_execute", note)
        (statement, parameters) = asked[-1]
        explain = "EXPLAIN QUERY PLAN " if database.engine.dialect.name == "sqlite" else "EXPLAIN "
        plan = session.connection().exec_driver_sql(explain + statement, parameters).all()  # type: ignore[arg-type]
    said = "\n".join(str(value) for row in plan for value in row)
    assert index in said
    # With all its columns: from where a page begins, not from where the submission does.
    assert ("AND id>? AND id<?" if explain.endswith("PLAN ") else "Index Cond: ((ROW(") in said
    assert "TEMP B-TREE" not in said
    assert "SORT" not in said.upper()
