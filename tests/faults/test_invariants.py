"""The rules themselves: an account of a house where something is wrong says so."""

import pytest
from blake3 import blake3
from sqlmodel import Session, select

from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Result, Submission
from tests.faults.house import House
from tests.faults.invariants import take_account

_IMAGES = 4


@pytest.fixture
def quiet_house(open_house, sqlite_store):
    """A house without programs, whose one submission is done as it should be."""
    house = open_house(sqlite_store, workers=0, beats=0)
    mine = house.submit(house.pictures.folder(_IMAGES))
    with house.database.write() as session:
        session.get_one(Submission, mine).state = SubmissionState.LISTING
        session.flush()
        session.get_one(Submission, mine).state = SubmissionState.RUNNING
        batch = Batch(submission_id=mine, lane="bulk", images=_IMAGES)
        session.add(batch)
        session.flush()
        for name in house.submitted[mine].good:
            _add_done(session, batch, name, (house.submitted[mine].path / name).read_bytes())
        batch.benign = _IMAGES
        batch.state = BatchState.DONE
        session.flush()
        session.get_one(Submission, mine).state = SubmissionState.DONE
    house.ledger.write_bytes(b"0" * 16 * (_IMAGES + 1))
    return house


def _add_done(session: Session, batch: Batch, name: str, content: bytes) -> None:
    content_hash = blake3(content).hexdigest()
    verdict = {"decision": "benign", "content_hash": content_hash}
    result = Result(model_version="m", probability=0.1, engine="fake", elapsed_ms=1, **verdict)
    session.add(result)
    session.flush()
    item = Item(submission_id=batch.submission_id, batch_id=batch.id, path=name, result_id=result.id, **verdict)
    item.state = ItemState.DONE
    session.add(item)


def change(house: House, what: str) -> None:
    """Break one rule."""
    with house.database.write() as session:
        item, batch = session.exec(select(Item)).first(), session.exec(select(Batch)).one()
        {
            "an image without an item": lambda: session.delete(item),
            "another's result": lambda: setattr(item, "result_id", item.result_id % _IMAGES + 1),
            "a wrong count": lambda: setattr(batch, "benign", _IMAGES - 1),
            "a stuck batch": lambda: session.add(Batch(submission_id=batch.submission_id, lane="bulk", images=0)),
            "a second submission": lambda: session.add(Submission(source="folder", folder="/x")),
        }[what]()


def test_a_house_that_is_as_it_should_be_has_no_violation(quiet_house):
    """Four images, four outcomes, one of them computed twice."""
    account = take_account(quiet_house)
    assert account.violations == ()
    assert (account.images, account.outcomes, account.lost, account.doubled) == (_IMAGES, _IMAGES, 0, 0)
    assert (account.computed_again, account.wasted) == (1, 1 / _IMAGES)


@pytest.mark.parametrize(
    "what",
    ["an image without an item", "another's result", "a wrong count", "a stuck batch", "a second submission"],
)
def test_each_broken_rule_is_found(quiet_house, what):
    """Whatever is wrong with the database, the account names it."""
    change(quiet_house, what)
    assert take_account(quiet_house).violations
