"""Images in buckets and containers take the whole way to their results, and an outage blames none of them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from sqlmodel import col, select

from core.errors import Reason
from core.states import ItemState, SubmissionState
from core.storage import sessions
from core.tables import Item
from core.transitions import unpark_submission
from tests.assets import images
from tests.assets.remote_servers import free_port, s3_server
from tests.assets.rows import add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.classify import classify_batch
from worker.context import WorkerContext
from worker.intake import take_in

NAME = "SOB_B_A-14-22549AB-40-00{}.png"


class Bucket:
    """A bucket whose server can be ended and started again, empty."""

    def __init__(self) -> None:
        self._port = free_port()
        self._running = ExitStack()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        import boto3

        self._running.enter_context(s3_server(self._port))
        bucket = boto3.resource("s3", endpoint_url=self.endpoint).create_bucket(Bucket="scans")
        for number in range(3):
            bucket.put_object(Key=f"new/{NAME.format(number)}", Body=images.plain(number))
        bucket.put_object(Key="new/manifest.csv", Body=f"path,patient\n{NAME.format(0)},Anna\n".encode())
        bucket.put_object(Key="new/broken.png", Body=b"no image")

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A running one with three images, a manifest and a broken file."""
    made = Bucket()
    monkeypatch.setattr(sessions, "_SESSIONS", {})
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": made.endpoint,
        "AWS_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def worker(context: WorkerContext) -> WorkerContext:
    """A worker that may read the bucket."""
    return replace(context, settings=context.settings.model_copy(update={"remote_roots": ("s3://scans",)}))


def submit(context: WorkerContext, folder: object, **values: object) -> str:
    with context.database.write() as session:
        return add_submission(session, folder, **({"state": SubmissionState.ACCEPTED} | values))


def classify_all(context: WorkerContext, mine: str) -> None:
    for batch in batches_of(context.database, mine):
        classify_batch(context, batch.id or 0)


def test_images_of_a_bucket_are_classified(worker: WorkerContext, bucket: Bucket) -> None:
    """Listed, labelled, fetched once, decoded, stored: as images of a folder."""
    mine = submit(worker, "s3://scans/new")
    take_in(worker, mine)
    classify_all(worker, mine)
    assert submission_of(worker.database, mine).state == SubmissionState.DONE
    items = items_of(worker.database, mine)
    assert items["broken.png"].reason == Reason.NOT_AN_IMAGE
    assert items["manifest.csv"].state == ItemState.SKIPPED
    assert [items[NAME.format(number)].state for number in range(3)] == [ItemState.DONE] * 3
    first, second = items[NAME.format(0)], items[NAME.format(1)]
    assert (first.patient, first.slide, first.magnification) == ("Anna", "14-22549AB", "40")
    assert second.patient == "14-22549"
    assert_counters_are_exact(worker.database, mine)


def test_a_bucket_that_goes_away_parks_its_submission(worker: WorkerContext, bucket: Bucket) -> None:
    """Between listing and reading: no image fails, and all are classified when it is back."""
    mine = submit(worker, "s3://scans/new")
    take_in(worker, mine)
    bucket.stop()
    classify_batch(worker, batches_of(worker.database, mine)[0].id or 0)
    parked = submission_of(worker.database, mine)
    assert (parked.state, parked.reason) == (SubmissionState.PARKED, Reason.STORAGE_AWAY)
    with worker.database.read() as session:
        failed = session.exec(select(Item.id).where(col(Item.state) == ItemState.FAILED)).all()
    assert failed == []
    bucket.start()
    with worker.database.write() as session:
        unpark_submission(session, mine)
    classify_all(worker, mine)
    assert submission_of(worker.database, mine).state == SubmissionState.DONE


def test_an_address_that_is_not_allowed_here_fails_with_its_reason(context: WorkerContext, bucket: Bucket) -> None:
    """The API's machine may have other roots than the worker's."""
    mine = submit(context, "s3://scans/new")
    take_in(context, mine)
    ended = submission_of(context.database, mine)
    assert (ended.state, ended.reason) == (SubmissionState.FAILED, Reason.FOLDER_NOT_ALLOWED)


def test_images_in_a_zip_are_classified_in_place(context: WorkerContext, images_root: Path) -> None:
    """Nothing is unpacked to disk; the decoding processes get the bytes."""
    with ZipFile(images_root / "a.zip", "w") as packed:
        for number in range(3):
            packed.writestr(f"d/{NAME.format(number)}", images.plain(number))
        packed.writestr("../out.png", images.plain(4))
    mine = submit(context, images_root)
    take_in(context, mine)
    classify_all(context, mine)
    items = items_of(context.database, mine)
    assert items["a.zip/..%2Fout.png"].reason == Reason.MEMBER_REFUSED
    assert [items[f"a.zip/d/{NAME.format(number)}"].state for number in range(3)] == [ItemState.DONE] * 3
    assert items[f"a.zip/d/{NAME.format(2)}"].patient == "14-22549"
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    assert os.listdir(images_root) == ["a.zip"]
