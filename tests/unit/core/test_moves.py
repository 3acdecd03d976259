"""States only move as drawn: the code refuses any other move, and so does the database, whoever asks for it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from core import database as database_module
from core.database import Database
from core.errors import IllegalMove
from core.lanes import Lane
from core.states import BATCH_MOVES, ITEM_MOVES, SUBMISSION_MOVES, BatchState, SubmissionState
from core.tables import Batch, Item, LaneControl, Submission, utc_now
from core.transitions import abandon_parked_submission, move, park_submission
from tests.assets.rows import add_batch, add_submission, batches_of, items_of, submission_of

TABLES: list[tuple[type[Any], Mapping[Any, frozenset[Any]]]] = [
    (Submission, SUBMISSION_MOVES),
    (Batch, BATCH_MOVES),
    (Item, ITEM_MOVES),
]
EACH_TABLE = pytest.mark.parametrize(("table", "moves"), TABLES, ids=["submission", "batch", "item"])


def pairs(moves: Mapping[StrEnum, frozenset[StrEnum]], *, drawn: bool) -> list[tuple[StrEnum, StrEnum]]:
    """All pairs of two states, those that are drawn or those that are not."""
    return [(start, end) for start, end in product(moves, moves) if start != end and (end in moves[start]) is drawn]


def add_row(database: Database, table: type[Any], state: StrEnum) -> int | str:
    """Add a row in a state; its id."""
    row: Any
    with database.write() as session:
        if table is Submission:
            row = Submission(source="folder", folder="/nowhere", state=state)
        else:
            mine = add_submission(session)
            row = (
                Batch(submission_id=mine, lane=Lane.BULK, images=1, state=state)
                if table is Batch
                else Item(submission_id=mine, batch_id=1, path="a", state=state)
            )
        session.add(row)
        session.flush()
        return row.id


def state_of(database: Database, table: type[Any], row_id: int | str) -> str:
    with database.read() as session:
        return str(session.get_one(table, row_id).state)


def force(database: Database, table: type[Any], row_id: int | str, state: str) -> None:
    """Set a state as someone does who knows nothing of our code."""
    with database.write() as session:
        session.execute(
            text(f"UPDATE {table.__tablename__} SET state = :state WHERE id = :id"), {"state": state, "id": row_id}
        )


def move_row(database: Database, table: type[Any], row_id: int | str, starts: list[StrEnum], end: StrEnum) -> int:
    with database.write() as session:
        return move(session, table, starts, end, col(table.id) == row_id)


@EACH_TABLE
def test_the_database_refuses_every_move_that_is_not_drawn(database, table, moves):
    """All pairs of states, by plain SQL: an error, and the row as it was."""
    assert pairs(moves, drawn=False)
    for start, end in pairs(moves, drawn=False):
        row_id = add_row(database, table, start)
        with pytest.raises(IntegrityError, match=f"illegal move of {table.__tablename__}"):
            force(database, table, row_id, end)
        assert state_of(database, table, row_id) == start


@EACH_TABLE
def test_the_database_allows_every_move_that_is_drawn(database, table, moves):
    """What the code may do, the database must not stand in the way of; a state may follow itself."""
    for start, end in pairs(moves, drawn=True) + [(state, state) for state in moves]:
        row_id = add_row(database, table, start)
        force(database, table, row_id, end)
        assert state_of(database, table, row_id) == end


@EACH_TABLE
def test_the_database_refuses_states_that_nobody_knows(database, table, moves):
    """A word that is misspelt cannot be stored over a state."""
    for state in moves:
        row_id = add_row(database, table, state)
        with pytest.raises(IntegrityError):
            force(database, table, row_id, "dnoe")


@EACH_TABLE
def test_one_illegal_move_undoes_the_whole_statement(database, table, moves):
    """Rows that might have moved stay, too."""
    start, end = pairs(moves, drawn=True)[0]
    ended = next(state for state in moves if not moves[state] and state != end)
    might_move, may_not = add_row(database, table, start), add_row(database, table, ended)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text(f"UPDATE {table.__tablename__} SET state = :state"), {"state": end})
    assert state_of(database, table, might_move) == start
    assert state_of(database, table, may_not) == ended


def test_what_has_ended_can_still_be_written(database):
    """Only the state is guarded: late times and counts may follow."""
    row_id = add_row(database, Batch, BatchState.DONE)
    with database.write() as session:
        session.get_one(Batch, row_id).wall_ms = 5.0
    with database.read() as session:
        assert session.get_one(Batch, row_id).wall_ms == 5.0


@EACH_TABLE
def test_the_code_refuses_every_move_that_is_not_drawn(database, table, moves):
    """Before the database is asked, with both states in the message; standing still is no move."""
    for start, end in pairs(moves, drawn=False) + [(state, state) for state in moves]:
        row_id = add_row(database, table, start)
        with pytest.raises(IllegalMove, match=f"that is {start} can never become {end}"):
            move_row(database, table, row_id, [start], end)
        assert state_of(database, table, row_id) == start


@EACH_TABLE
def test_the_code_makes_every_move_that_is_drawn(database, table, moves):
    """One row moved."""
    for start, end in pairs(moves, drawn=True):
        row_id = add_row(database, table, start)
        assert move_row(database, table, row_id, [start], end) == 1
        assert state_of(database, table, row_id) == end


def test_one_illegal_start_refuses_all(database):
    """A list of starts is refused as a whole, even where the row stands in a legal one."""
    row_id = add_row(database, Batch, BatchState.RUNNING)
    with pytest.raises(IllegalMove):
        move_row(database, Batch, row_id, [BatchState.RUNNING, BatchState.QUEUED], BatchState.SPLIT)
    assert state_of(database, Batch, row_id) == BatchState.RUNNING


def test_rows_elsewhere_stay_where_they_are(database):
    """Who comes too late moves nothing and learns it."""
    row_id = add_row(database, Batch, BatchState.DONE)
    assert move_row(database, Batch, row_id, [BatchState.QUEUED, BatchState.RUNNING], BatchState.DONE) == 0
    other = add_row(database, Batch, BatchState.QUEUED)
    assert move_row(database, Batch, 10**9, [BatchState.QUEUED], BatchState.RUNNING) == 0
    assert state_of(database, Batch, other) == BatchState.QUEUED


def test_other_values_move_with_the_state(database):
    """In one statement: nobody sees the state without them."""
    row_id = add_row(database, Batch, BatchState.QUEUED)
    with database.write() as session:
        mine = col(Batch.id) == row_id
        attempts = col(Batch.attempts) + 1
        moved = move(session, Batch, [BatchState.QUEUED], BatchState.RUNNING, mine, lease_token="t", attempts=attempts)
    assert moved == 1
    with database.read() as session:
        batch = session.get_one(Batch, row_id)
    assert (batch.state, batch.lease_token, batch.attempts) == (BatchState.RUNNING, "t", 1)


# Migration 0003, which brought this.


@pytest.fixture
def old(empty_database_url):
    """An empty database with the tables of revision 0002."""
    opened = Database(empty_database_url)
    migrate(opened, command.upgrade, "0002")
    yield opened
    opened.close()


def migrate(database: Database, how: Callable[..., None], revision: str) -> None:
    config = database_module._alembic_config()
    with database.engine.execution_options(histobatch_write=True).begin() as connection:
        config.attributes["connection"] = connection
        how(config, revision)


def add_old_rows(database: Database, submission_id: str, state: str, batch_state: str) -> None:
    """A submission with a batch of two items as version 0002 wrote them."""
    zeros = ", ".join("0" * 11)
    statements = [
        f"INSERT INTO submission (id, created_at, state, lane, source, folder, submitter, request_hash) "
        f"VALUES ('{submission_id}', CURRENT_TIMESTAMP, '{state}', 'bulk', 'folder', '/nowhere', 'ann', 'h')",
        f"INSERT INTO batch (submission_id, lane, state, images, created_at, sent_at, attempts, expirations, benign, "
        f"malignant, uncertain, failed, skipped, read_ms, decode_ms, infer_ms, write_ms, wall_ms, lease_token, "
        f"lease_expires_at) VALUES ('{submission_id}', 'bulk', '{batch_state}', 2, CURRENT_TIMESTAMP, "
        f"CURRENT_TIMESTAMP, 1, {zeros}, 't-{submission_id}', CURRENT_TIMESTAMP)",
        *(
            f"INSERT INTO item (submission_id, batch_id, path, size, mtime_ns, state) "
            f"SELECT submission_id, id, '{path}', 7, 8, 'pending' FROM batch WHERE submission_id = '{submission_id}'"
            for path in ("a", "b")
        ),
    ]
    with database.write() as session:
        for statement in statements:
            session.execute(text(statement))


def form_of(database: Database) -> dict[str, object]:
    """Columns and indexes of every table, whatever their order."""
    look = inspect(database.engine)
    return {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in look.get_columns(table)},
            {(index["name"], tuple(index["column_names"])) for index in look.get_indexes(table)},
        )
        for table in look.get_table_names()
    }


def test_an_upgrade_keeps_every_row(old):
    """Submissions, batches and items are there, point to each other as before, and can be worked on."""
    states = {"1": ("running", "running"), "2": ("accepted", "queued"), "3": ("done", "done")}
    for submission_id, (state, batch_state) in states.items():
        add_old_rows(old, submission_id, state, batch_state)
    migrate(old, command.upgrade, "head")
    assert old.is_current()
    for submission_id, (state, batch_state) in states.items():
        submission = submission_of(old, submission_id)
        (batch,) = batches_of(old, submission_id)
        assert (submission.state, batch.state) == (state, batch_state)
        assert (submission.heartbeats, submission.tries, submission.parked_at) == (0, 0, None)
        assert (submission.submitter, submission.folder) == ("ann", "/nowhere")
        assert (batch.images, batch.attempts, batch.lease_token) == (2, 1, f"t-{submission_id}")
        assert (batch.heartbeats, batch.suspect) == (0, False)
        items = items_of(old, submission_id)
        assert set(items) == {"a", "b"}
        assert {(item.batch_id, item.size, item.state) for item in items.values()} == {(batch.id, 7, "pending")}
    assert [submission_of(old, one).listed_at is not None for one in states] == [True, False, True]


def test_after_an_upgrade_the_moves_of_old_rows_are_guarded(old):
    """They finish as drawn, and no other way."""
    add_old_rows(old, "1", "running", "running")
    migrate(old, command.upgrade, "head")
    with pytest.raises(IntegrityError):
        force(old, Submission, "1", SubmissionState.ACCEPTED)
    force(old, Submission, "1", SubmissionState.DONE)


def test_every_lane_runs_after_an_upgrade(database):
    """One row each, which is never added later."""
    with database.read() as session:
        rows = session.exec(select(LaneControl)).all()
    assert {row.lane for row in rows} == set(Lane)
    assert {(row.paused_at, row.virtual_time) for row in rows} == {(None, 0.0)}


def test_a_downgrade_brings_the_old_tables_back(old):
    """Column by column and index by index; and an upgrade works again."""
    before = form_of(old)
    migrate(old, command.upgrade, "head")
    after = form_of(old)
    assert after != before
    migrate(old, command.downgrade, "0002")
    assert form_of(old) == before
    migrate(old, command.upgrade, "head")
    assert form_of(old) == after


def test_a_downgrade_takes_parked_submissions_along(database):
    """The older version knows no such state: they go on as if nothing had happened; nothing is lost."""
    with database.write() as session:
        listed = add_submission(session, listed_at=utc_now())
        unlisted = add_submission(session, state=SubmissionState.LISTING)
        given_up = add_submission(session, state=SubmissionState.LISTING)
        for one in (listed, unlisted, given_up):
            add_batch(session, one, ["a"])
            assert park_submission(session, one, "why", 20)
        assert abandon_parked_submission(session, given_up)
    migrate(database, command.downgrade, "0002")
    with database.read() as session:
        states = dict(session.execute(text("SELECT id, state FROM submission")).all())
        batches = session.execute(text("SELECT COUNT(*) FROM batch WHERE images = 1")).scalar_one()
        items = session.execute(text("SELECT COUNT(*) FROM item WHERE path = 'a'")).scalar_one()
    assert states == {listed: "running", unlisted: "accepted", given_up: "failed"}
    assert (batches, items) == (3, 3)


def test_a_downgrade_lets_no_worker_keep_what_it_held(database):
    """The older version takes leases whose time is over: without a time, nobody would ever take them."""
    with database.write() as session:
        mine = add_submission(session)
        add_batch(session, mine, ["a"], state=BatchState.RUNNING, lease_token="t")
        add_submission(session, state=SubmissionState.LISTING, lease_token="t")
    migrate(database, command.downgrade, "0002")
    never_over = [
        "SELECT COUNT(*) FROM batch WHERE state = 'running' AND lease_expires_at IS NULL",
        "SELECT COUNT(*) FROM submission WHERE state = 'listing' AND lease_expires_at IS NULL",
    ]
    with database.read() as session:
        assert [session.execute(text(query)).scalar_one() for query in never_over] == [0, 0]
