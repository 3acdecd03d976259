"""What must be true after any fault: nothing lost, nothing twice, nothing stuck, nothing left."""

from dataclasses import dataclass

from blake3 import blake3
from sqlmodel import Session, col, func, select

from core.errors import Reason
from core.states import OPEN_BATCHES, ItemState, SubmissionState
from core.tables import Batch, Item, Result, Submission
from tests.assets.rows import assert_counters_are_exact
from tests.faults.house import House
from tests.faults.ledger import count_computed
from tests.faults.pictures import Folder


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of all that was handed in.

    Attributes:
        images: handed in.
        outcomes: images with exactly one outcome, the right one.
        lost: images without an item, or whose item has no outcome.
        doubled: results beyond the first for a content, items beyond the first for an image.
        computed_again: computations beyond the first for a content.
        results: contents that have a result.
        violations: a sentence for each rule that is broken; empty when all is well.
    """

    images: int
    outcomes: int
    lost: int
    doubled: int
    computed_again: int
    results: int
    violations: tuple[str, ...]

    @property
    def wasted(self) -> float:
        """Computed again, as a share of what had to be computed."""
        return self.computed_again / self.results if self.results else 0.0


def take_account(house: House) -> Account:
    """Compare what is in the database with what was handed in."""
    violations: list[str] = []
    outcomes = lost = extra = 0
    for submission_id, folder in house.submitted.items():
        right, missing, surplus, faults = _look_at_submission(house, submission_id, folder)
        outcomes += right
        lost += missing
        extra += surplus
        violations += [f"submission {submission_id}: {fault}" for fault in faults]
    violations += house.ask(lambda session: _look_at_house(session, house))
    results, doubled = house.ask(_count_results)
    return Account(
        images=sum(len(folder) for folder in house.submitted.values()),
        outcomes=outcomes,
        lost=lost,
        doubled=doubled + extra,
        computed_again=count_computed(house.ledger) - results,
        results=results,
        violations=tuple(violations),
    )


def assert_nothing_lost_nothing_twice(house: House, settle_s: float = 90) -> Account:
    """Wait until the house is quiet, end it, and demand every rule."""
    house.settle(settle_s)
    left = house.stop_programs()
    account = take_account(house)
    assert not account.violations, "\n".join(account.violations[:20])
    assert (account.outcomes, account.lost, account.doubled) == (account.images, 0, 0)
    assert not left, f"left: {left}"
    return account


def _look_at_submission(house: House, submission_id: str, folder: Folder) -> tuple[int, int, int, list[str]]:
    rows = house.ask(
        lambda session: session.exec(
            select(Item, Result)
            .outerjoin(Result, col(Item.result_id) == col(Result.id))
            .where(Item.submission_id == submission_id)
        ).all()
    )
    by_path = {item.path: (item, result) for item, result in rows}
    faults = [f"{path}: {why}" for path, (item, result) in by_path.items() if (why := _fault(item, result, folder))]
    unsettled = [path for path, (item, _) in by_path.items() if item.state == ItemState.PENDING]
    absent = (folder.good | folder.poison) - by_path.keys()
    faults += [f"{path}: has no item" for path in absent]
    try:
        assert_counters_are_exact(house.database, submission_id)
    except AssertionError as error:
        faults.append(f"counters: {error}")
    return len(rows) - len(faults), len(unsettled) + len(absent), len(rows) - len(by_path), faults


def _fault(item: Item, result: Result | None, folder: Folder) -> str | None:
    if item.path in folder.poison:
        is_right = item.state == ItemState.FAILED and item.reason == Reason.KILLS_WORKER
        return None if is_right else f"kills, but is {item.state} {item.reason}"
    if item.path not in folder.good:
        return "was not handed in"
    if item.state != ItemState.DONE:
        return f"is {item.state} {item.reason}: {item.detail}"
    content = blake3((folder.path / item.path).read_bytes()).hexdigest()
    if result is None or not content == item.content_hash == result.content_hash:
        return "points to no result, or to another content's"
    return None if item.decision == result.decision else "its decision is not its result's"


def _look_at_house(session: Session, house: House) -> list[str]:
    submissions = dict(session.exec(select(Submission.id, Submission.state)).all())
    stuck = session.exec(select(Batch.id, Batch.state).where(col(Batch.state).in_(OPEN_BATCHES))).all()
    return [
        *(f"submission {key} is {state}" for key, state in submissions.items() if state != SubmissionState.DONE),
        *(f"submission {key} was handed in once only" for key in submissions.keys() - house.submitted.keys()),
        *(f"batch {batch_id} is {state}" for batch_id, state in stuck),
    ]


def _count_results(session: Session) -> tuple[int, int]:
    """Different contents with a result, and results beyond the first of a content."""
    results = session.exec(select(func.count()).select_from(Result)).one()
    contents = session.exec(select(func.count(func.distinct(Result.content_hash)))).one()
    return contents, results - contents
