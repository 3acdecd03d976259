"""A batch has one holder; only the holder writes, and it writes everything or nothing."""

import threading
from dataclasses import replace

import pytest
from sqlmodel import select

from core.errors import LeaseLost, Reason
from core.states import BatchState, ItemState
from core.tables import Batch, LaneControl, Result, Submission, utc_now
from core.transitions import cancel_submission
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of
from worker.batches import Claim, Outcome, Stamp, claim_batch, close_batch, hand_back, store_results
from worker.pipeline import Classified, Rejected, Timings
from worker.serving import _FAKE_RULE


@pytest.fixture
def mine(database):
    with database.write() as session:
        return add_submission(session)


@pytest.fixture
def batch_id(database, mine):
    with database.write() as session:
        return add_batch(session, mine, ["a", "b", "c", "d"], [ItemState.SKIPPED, ItemState.FAILED])


def claim(database, batch_id) -> Claim:
    held = claim_batch(database, batch_id, "worker")
    assert held is not None
    return held


def lose(database, batch_id) -> None:
    """Someone else decides over the batch, as the reconciler does."""
    with database.write() as session:
        batch = session.get_one(Batch, batch_id)
        batch.lease_token = "another"


def stamp_of(model: str = "m@1.0.0") -> Stamp:
    return Stamp(engine="fake", model_version=model, rule=_FAKE_RULE)


def images_of(held: Claim, *probabilities: float | Reason, hashes: str = "abcdefgh") -> list[Classified | Rejected]:
    """Outcomes for a claim's items in order, content hashes by letter."""
    images: list[Classified | Rejected] = []
    for item, value, letter in zip(held.items, probabilities, hashes, strict=False):
        if isinstance(value, Reason):
            images.append(Rejected(item_id=item.id, reason=value, detail="why", content_hash=letter * 64))
        else:
            images.append(Classified(item_id=item.id, content_hash=letter * 64, probability=value))
    return images


def close(database, held: Claim, *probabilities: float | Reason, model="m@1.0.0", hashes="abcdefgh") -> None:
    """Store and close, as the worker does."""
    images = images_of(held, *probabilities, hashes=hashes)
    computed = [image for image in images if isinstance(image, Classified)]
    stored = store_results(database, held, computed, stamp_of(model))
    outcomes = [
        replace(image, known=stored[image.content_hash]) if isinstance(image, Classified) else image for image in images
    ]
    close_batch(
        database,
        held,
        Outcome(images=outcomes, timings=Timings(read_ms=1.0, decode_ms=2.0, infer_ms=3.0), engine="fake"),
    )


def results(database) -> list[Result]:
    with database.read() as session:
        return list(session.exec(select(Result)))


def test_only_one_of_many_racing_workers_gets_a_batch(database, batch_id):
    """Eight claims at the same moment: one wins, and the attempt counts once."""
    start = threading.Barrier(8)
    claims: list[Claim | None] = []

    def race() -> None:
        start.wait()
        claims.append(claim_batch(database, batch_id, "w"))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(claims) == 8
    assert sum(one is not None for one in claims) == 1
    with database.read() as session:
        assert session.get_one(Batch, batch_id).attempts == 1


def test_a_claim_names_the_work_and_starts_a_lease(database, mine, batch_id):
    """Only items without an outcome are work; the attempt counts before the work starts."""
    held = claim(database, batch_id)
    assert [item.path for item in sorted(held.items, key=lambda item: item.id)] == ["a", "b", "c", "d"]
    (batch,) = batches_of(database, mine)
    assert (batch.state, batch.attempts, batch.worker) == (BatchState.RUNNING, 1, "worker")
    assert batch.lease_token == held.token


@pytest.mark.parametrize("state", [state for state in BatchState if state != BatchState.QUEUED])
def test_only_a_queued_batch_can_be_claimed(database, mine, state):
    """A message that comes twice, or too late, finds nothing to do."""
    with database.write() as session:
        batch_id = add_batch(session, mine, ["x"], state=state)
    assert claim_batch(database, batch_id, "w") is None
    assert claim_batch(database, 10**12, "w") is None


def test_closing_writes_every_outcome_and_exact_counters(database, mine, batch_id):
    """Decisions, reasons, hashes, results and counters agree; those settled at listing still count."""
    held = claim(database, batch_id)
    close(database, held, 0.9, 0.1, 0.5, Reason.CORRUPT)
    (batch,) = batches_of(database, mine)
    assert (batch.state, batch.lease_token, batch.engine) == (BatchState.DONE, None, "fake")
    assert (batch.malignant, batch.benign, batch.uncertain, batch.failed, batch.skipped) == (1, 1, 1, 2, 1)
    assert (batch.read_ms, batch.decode_ms, batch.infer_ms) == (1.0, 2.0, 3.0)
    assert batch.finished_at is not None
    assert batch.wall_ms > 0
    assert_counters_are_exact(database, mine)
    items = items_of(database, mine)
    assert (items["a"].state, items["a"].decision) == (ItemState.DONE, "malignant")
    assert (items["d"].state, items["d"].reason, items["d"].detail) == (ItemState.FAILED, Reason.CORRUPT, "why")
    by_id = {result.id: result for result in results(database)}
    assert len(by_id) == 3
    assert by_id[items["a"].result_id].probability == pytest.approx(0.9)
    assert by_id[items["a"].result_id].content_hash == items["a"].content_hash == "a" * 64


def test_who_lost_the_lease_writes_nothing(database, mine, batch_id):
    """The token is checked in the transaction that closes the batch."""
    held = claim(database, batch_id)
    lose(database, batch_id)
    with pytest.raises(LeaseLost):
        close(database, held, 0.9, 0.9, 0.9, 0.9)
    assert results(database) == []
    assert items_of(database, mine)["a"].state == ItemState.PENDING
    assert batches_of(database, mine)[0].state == BatchState.RUNNING


def test_a_fault_while_closing_writes_nothing(database, mine, batch_id):
    """NaN on the last image leaves the first one pending: all or nothing."""
    held = claim(database, batch_id)
    with pytest.raises(ValueError, match="no probability"):
        close(database, held, 0.9, 0.9, 0.9, float("nan"))
    assert results(database) == []
    assert items_of(database, mine)["a"].state == ItemState.PENDING
    assert batches_of(database, mine)[0].lease_token == held.token


def test_results_are_kept_when_their_batch_is_not_closed(database, mine, batch_id):
    """A worker that dies after computing leaves its results: whoever takes the batch need not compute them again."""
    held = claim(database, batch_id)
    computed = images_of(held, 0.9, 0.1)
    stored = store_results(database, held, computed, stamp_of())
    assert {result.content_hash: (result.id, result.decision) for result in results(database)} == {
        key: (known.id, known.decision) for key, known in stored.items()
    }
    assert items_of(database, mine)["a"].state == ItemState.PENDING
    assert batches_of(database, mine)[0].heartbeats == 1


def test_nobody_closes_a_batch_with_a_result_that_was_not_stored(database, mine, batch_id):
    """An item without a result to point to would be lost."""
    held = claim(database, batch_id)
    with pytest.raises(ValueError, match="not stored"):
        close_batch(database, held, Outcome(images=images_of(held, 0.9), timings=Timings(), engine="fake"))
    assert batches_of(database, mine)[0].state == BatchState.RUNNING


@pytest.mark.parametrize("why", ["paused", "parked"])
def test_a_batch_that_may_not_start_waits_for_another_turn(database, mine, batch_id, why):
    """Its lane was paused, or its storage went away, while its message was under way: the message is done for."""
    with database.write() as session:
        if why == "paused":
            session.get_one(LaneControl, "bulk").paused_at = utc_now()
        else:
            session.get_one(Submission, mine).state = "parked"
    assert claim_batch(database, batch_id, "w") is None
    (batch,) = batches_of(database, mine)
    assert (batch.state, batch.sent_at, batch.attempts) == (BatchState.QUEUED, None, 0)


def test_handing_back_counts_no_attempt(database, mine, batch_id):
    """A stop of the process is not the batch's fault."""
    held = claim(database, batch_id)
    hand_back(database, held)
    (batch,) = batches_of(database, mine)
    assert (batch.state, batch.attempts, batch.lease_token, batch.sent_at) == (BatchState.QUEUED, 0, None, None)
    assert claim_batch(database, batch_id, "next") is not None


def test_handing_back_after_the_cancellation_cancels_the_batch(database, mine, batch_id):
    """Cancel takes effect between batches: nobody begins again what its submission no longer wants."""
    held = claim(database, batch_id)
    with database.write() as session:
        cancel_submission(session, mine)
    hand_back(database, held)
    assert batches_of(database, mine)[0].state == BatchState.CANCELLED
    reasons = {item.reason for item in items_of(database, mine).values()}
    assert reasons == {Reason.CANCELLED, Reason.SIDECAR_FILE}


def test_who_lost_the_lease_hands_back_nothing(database, mine, batch_id):
    """The new holder keeps the batch."""
    held = claim(database, batch_id)
    lose(database, batch_id)
    assert not hand_back(database, held)
    (batch,) = batches_of(database, mine)
    assert (batch.state, batch.lease_token) == (BatchState.RUNNING, "another")


def test_one_content_has_one_result_and_the_earlier_writer_wins(database):
    """Two submissions hold the same image and two workers classify it at once: one row, both items point to it."""
    with database.write() as session:
        first, second = add_submission(session), add_submission(session)
        ids = [add_batch(session, first, ["x"]), add_batch(session, second, ["y"])]
    earlier, later = (claim(database, batch_id) for batch_id in ids)
    close(database, earlier, 0.9)
    close(database, later, 0.1)
    (result,) = results(database)
    assert result.probability == pytest.approx(0.9)
    for submission, path in ((first, "x"), (second, "y")):
        item = items_of(database, submission)[path]
        assert (item.result_id, item.decision) == (result.id, "malignant")
        assert_counters_are_exact(database, submission)


def test_another_model_has_its_own_result(database):
    """A new bundle classifies again."""
    with database.write() as session:
        mine = add_submission(session)
        ids = [add_batch(session, mine, ["x"]), add_batch(session, mine, ["y"])]
    for batch_id, model in zip(ids, ("m@1.0.0", "m@2.0.0"), strict=True):
        held = claim(database, batch_id)
        close(database, held, 0.9, model=model)
    assert {result.model_version for result in results(database)} == {"m@1.0.0", "m@2.0.0"}


def test_twins_in_one_batch_share_a_result(database, mine, batch_id):
    """Copies under two names are two items with one result."""
    held = claim(database, batch_id)
    close(database, held, 0.9, 0.9, 0.1, 0.1, hashes="aabb")
    assert len(results(database)) == 2
    items = items_of(database, mine)
    assert items["a"].result_id == items["b"].result_id != items["c"].result_id
    assert_counters_are_exact(database, mine)


def test_workers_with_the_same_contents_do_not_lock_each_other_out(database):
    """Six batches with the same 600 contents in other orders close at once: none fails, 600 results."""
    letters = [chr(0x4E00 + number) for number in range(600)]
    with database.write() as session:
        mine = add_submission(session)
        ids = [add_batch(session, mine, [f"{number}-{letter}" for letter in letters]) for number in range(6)]
    start = threading.Barrier(6)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        held = claim(database, ids[number])
        order = letters if number % 2 else letters[::-1]
        start.wait()
        try:
            close(database, held, *[0.9] * 600, hashes="".join(order))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(results(database)) == 600
    assert_counters_are_exact(database, mine)
