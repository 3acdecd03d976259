"""Whoever asked for it is told of each scan's end: signed, again and again until it is taken, by one at a time."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import select

from core.archive_tables import Archive, Delivery, Scan
from core.bundle import NOTICE
from core.database import Database
from core.settings import Settings
from core.states import BatchState, ScanState, SubmissionState
from core.tables import Batch, Submission, utc_now
from core.webhooks import sign
from tests.assets.programs import wait_until
from tests.assets.receiver import SECRET, Receiver, receiving
from worker import webhooks
from worker.context import WorkerContext, open_context
from worker.webhooks import deliver, deliver_due


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


SETTINGS = Settings(public_url="https://histobatch.hospital.example/", webhooks_to_this_machine=True)


@pytest.fixture
def context(settings: Settings, database_url: str) -> Iterator[WorkerContext]:
    """A worker's parts, which may tell a receiver of this machine."""
    changed = {"database_url": database_url, "webhooks_to_this_machine": True}
    opened = open_context(settings.model_copy(update=changed))
    yield opened
    opened.close()


def add_delivery(database: Database, url: str, archive_name: str = "north", **values: object) -> str:
    """Record the end of a scan whose webhook waits to be told; the delivery's id."""
    with database.write() as session:
        archive = Archive(name=archive_name, root="/images/north", webhook_url=url, webhook_secret=SECRET)
        submission = Submission(source="archive", folder=archive.root, state=SubmissionState.DONE)
        session.add_all([archive, submission])
        session.flush()
        counts = {"malignant": 2, "benign": 5, "failed": 1}
        session.add(Batch(submission_id=submission.id, lane="nightly", state=BatchState.DONE, images=8, **counts))
        ended = {"state": ScanState.DONE, "finished_at": utc_now(), "seen": 100, "new": 8}
        scan = Scan(archive_id=archive.id, submission_id=submission.id, asked_by="schedule", **(ended | values))
        session.add(scan)
        session.flush()
        delivery = Delivery(scan_id=scan.id, url=url)
        session.add(delivery)
    return delivery.id


def stored(database: Database, delivery_id: str) -> Delivery:
    with database.read() as session:
        return session.get_one(Delivery, delivery_id)


def make_due(database: Database, **values: object) -> None:
    with database.write() as session:
        session.execute(update(Delivery).values(next_at=utc_now() - timedelta(seconds=1), **values))


def test_a_signature_is_that_of_the_scheme() -> None:
    """Computed once with the scheme's own Python library."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_scans_end_is_told(database: Database, receiver: Receiver) -> None:
    """Signed, with counts, the notice and a link to the report; without paths and patients."""
    delivery_id = add_delivery(database, receiver.url + "/hook")
    deliver(database, SETTINGS, [delivery_id])
    (body,) = receiver.verified()
    data = body["data"]
    assert body["type"] == "scan.done"
    assert (data["notice"], data["archive"], data["files"]["seen"]) == (NOTICE, "north", 100)
    assert data["images"] == {"benign": 5, "malignant": 2, "uncertain": 0, "failed": 1, "skipped": 0}
    assert data["report"] == f"https://histobatch.hospital.example/v1/scans/{data['scan_id']}/report.json"
    assert "/images" not in json.dumps(body)
    delivery = stored(database, delivery_id)
    assert (delivery.status, delivery.attempts) == (200, 1)
    assert delivery.delivered_at == delivery.ended_at is not None


def test_a_scan_that_failed_is_told_with_its_reason(sqlite: Database, receiver: Receiver) -> None:
    """Storage that was not mounted must reach whoever can mount it."""
    delivery_id = add_delivery(sqlite, receiver.url, state=ScanState.FAILED, reason="root_empty")
    deliver(sqlite, SETTINGS, [delivery_id])
    (body,) = receiver.verified()
    assert (body["type"], body["data"]["reason"]) == ("scan.failed", "root_empty")


def test_what_was_not_taken_is_sent_again_under_the_same_id(database: Database, receiver: Receiver) -> None:
    """Not before its time, each time later, until the other side takes it."""
    receiver.answers = [500, 503, 200]
    delivery_id = add_delivery(database, receiver.url)
    waits = []
    for status in (500, 503, 200):
        make_due(database)
        deliver(database, SETTINGS, [delivery_id])
        delivery = stored(database, delivery_id)
        assert delivery.status == status
        waits.append((delivery.next_at - utc_now()).total_seconds())
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert len(receiver.verified()) == 3
    assert 40 < waits[0] < 80 < waits[1] < 150
    assert delivery.delivered_at is not None


def test_nobody_listens(sqlite: Database, receiver: Receiver) -> None:
    """A connection that is refused, or a name that nobody knows, is tried again like any other failure."""
    for url in ("http://127.0.0.1:9/", "http://nowhere.invalid/", "https://" + receiver.url.removeprefix("http://")):
        with sqlite.write() as session:
            for table in (Delivery, Scan, Batch, Submission, Archive):
                session.execute(table.__table__.delete())
        delivery_id = add_delivery(sqlite, url)
        deliver(sqlite, SETTINGS, [delivery_id])
        delivery = stored(sqlite, delivery_id)
        assert (delivery.status, delivery.attempts, delivery.ended_at) == (None, 1, None)


def test_a_redirect_is_not_followed(sqlite: Database, receiver: Receiver) -> None:
    """The report goes where it was meant to go, and nowhere that the other side names."""
    receiver.answers = [307]
    delivery_id = add_delivery(sqlite, receiver.url)
    deliver(sqlite, SETTINGS, [delivery_id])
    assert [path for path, _, _ in receiver.requests] == ["/"]
    assert (stored(sqlite, delivery_id).status, stored(sqlite, delivery_id).ended_at) == (307, None)


def test_a_slow_other_side_is_left(sqlite: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds up nobody: what goes elsewhere in the same look arrives meanwhile."""
    monkeypatch.setattr(webhooks, "_PATIENCE_S", 0.5)
    receiver.waits.clear()
    delivery_id = add_delivery(sqlite, receiver.url)
    deliver(sqlite, SETTINGS, [delivery_id])
    delivery = stored(sqlite, delivery_id)
    assert (delivery.status, delivery.attempts, delivery.ended_at) == (None, 1, None)


@pytest.mark.parametrize(("status", "attempts", "ends"), [(500, 14, False), (500, 15, True), (410, 0, True)])
def test_it_is_given_up_after_a_day(
    sqlite: Database, receiver: Receiver, status: int, attempts: int, ends: bool
) -> None:
    """Or at once, where the other side says that it is gone for good."""
    receiver.answers = [status]
    delivery_id = add_delivery(sqlite, receiver.url)
    make_due(sqlite, attempts=attempts)
    deliver(sqlite, SETTINGS, [delivery_id])
    delivery = stored(sqlite, delivery_id)
    assert (delivery.ended_at is not None) == ends
    assert delivery.delivered_at is None


def test_two_at_once_send_once(database: Database, receiver: Receiver) -> None:
    """Both saw that it was due; who counts the attempt sends."""
    delivery_id = add_delivery(database, receiver.url)
    start = threading.Barrier(4)

    def run() -> None:
        start.wait(30)
        deliver(database, SETTINGS, [delivery_id])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(receiver.requests) == 1
    assert stored(database, delivery_id).attempts == 1


def test_a_corrected_address_counts_for_what_waits(sqlite: Database, receiver: Receiver) -> None:
    """Someone mistyped it: mending it is enough. Taking the webhook away ends what waits, unsent."""
    delivery_id = add_delivery(sqlite, "http://127.0.0.1:9/")
    with sqlite.write() as session:
        session.exec(select(Archive)).one().webhook_url = receiver.url
    deliver(sqlite, SETTINGS, [delivery_id])
    assert stored(sqlite, delivery_id).delivered_at is not None
    make_due(sqlite, ended_at=None)
    with sqlite.write() as session:
        session.exec(select(Archive)).one().webhook_url = None
    deliver(sqlite, SETTINGS, [delivery_id])
    assert len(receiver.requests) == 1
    assert stored(sqlite, delivery_id).ended_at is not None


def test_a_look_sends_what_is_due_and_does_not_wait_for_it(context, receiver: Receiver) -> None:
    """The reconciler goes on while the other side takes its time; what is not due is left."""
    receiver.waits.clear()
    delivery_id = add_delivery(context.database, receiver.url)
    deliver_due(context)
    wait_until(lambda: receiver.requests, "the request")
    deliver_due(context)
    assert stored(context.database, delivery_id).delivered_at is None
    receiver.waits.set()
    wait_until(lambda: stored(context.database, delivery_id).delivered_at, "the delivery")
    assert len(receiver.requests) == 1


def test_a_clock_ahead_of_ours_keeps_nothing_waiting(context, receiver: Receiver) -> None:
    """A next try that lies further ahead than any wait was written by such a clock."""
    add_delivery(context.database, receiver.url)
    with context.database.write() as session:
        session.execute(update(Delivery).values(next_at=utc_now() + timedelta(days=2)))
    deliver_due(context)
    wait_until(lambda: receiver.requests, "the request")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_nothing_is_sent_to_this_machine_by_default(sqlite: Database, receiver: Receiver, host: str) -> None:
    """Whoever may define an archive reaches no service that trusts who is near, however it is spelled."""
    delivery_id = add_delivery(sqlite, receiver.url.replace("127.0.0.1", host))
    deliver(sqlite, Settings(), [delivery_id])
    assert receiver.requests == []
    delivery = stored(sqlite, delivery_id)
    assert (delivery.status, delivery.attempts, delivery.delivered_at) == (None, 1, None)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1"])
def test_nothing_is_sent_to_the_link(sqlite: Database, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines in a cloud are told their secrets at such an address."""
    called: list[object] = []

    async def refuse(*address: object, **_: object) -> None:
        called.append(address)
        raise OSError("nobody is called here")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.create_connection", refuse)
    delivery_id = add_delivery(sqlite, f"http://{host}/latest/meta-data")
    deliver(sqlite, Settings(), [delivery_id])
    assert called == []
    assert stored(sqlite, delivery_id).attempts == 1
    allowed_id = add_delivery(sqlite, f"http://{host}/latest/meta-data", "south")
    deliver(sqlite, Settings(webhooks_to_this_machine=True), [allowed_id])
    assert called != []
