"""What is too old goes, or loses its names; what is young, open or scanned stays; the audit says what was done."""

import threading
from datetime import timedelta

import pytest
from sqlmodel import SQLModel, col, func, select

from core import forgetting
from core.archive_tables import Archive, ArchiveFile, ArchiveFolder, Delivery, Scan
from core.database import Database
from core.retention import Action, Expired, NotEnded, Purge, measure_expired, purge
from core.states import BatchState, ItemState, ScanState, SubmissionState
from core.tables import Audit, Batch, Item, Result, Submission, utc_now

OLD = timedelta(days=100)
NINETY_DAYS_AGO = utc_now() - timedelta(days=90)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are several transactions."""
    monkeypatch.setattr(forgetting, "_AT_ONCE", 2)


def add_submission(database: Database, images: int = 5, age: timedelta = OLD, **values: object) -> str:
    """Record an ended submission of several images, each with a result of its own; its id."""
    with database.write() as session:
        ended = utc_now() - age
        fields = {"source": "folder", "folder": "/images/Smith", "state": SubmissionState.DONE, "finished_at": ended}
        submission = Submission(**(fields | values))
        batch = Batch(submission_id=submission.id, lane="bulk", state=BatchState.DONE, images=images)
        session.add(submission)
        session.flush()
        session.add(batch)
        session.flush()
        for number in range(images):
            content = f"{submission.id}{number:032x}"
            result = Result(
                content_hash=content,
                model_version="m@1",
                probability=0.5,
                decision="benign",
                engine="fake",
                elapsed_ms=1,
            )
            session.add(result)
            session.flush()
            session.add(
                Item(
                    submission_id=submission.id,
                    batch_id=batch.id,
                    path=f"Smith/{number}.png",
                    state=ItemState.DONE,
                    decision="benign",
                    content_hash=content,
                    result_id=result.id,
                    mtime_ns=number,
                    patient="Smith",
                    slide="S1",
                    magnification="40",
                )
            )
    return submission.id


def add_archive(database: Database, submission_id: str, state: ScanState = ScanState.DONE) -> str:
    """Record the archive whose scan the submission is, with a file for each image; the scan's id."""
    with database.write() as session:
        archive = Archive(name="north", root="/images")
        session.add(archive)
        session.flush()
        scan = Scan(archive_id=archive.id, submission_id=submission_id, asked_by="a", state=state, position="Smith")
        top = ArchiveFolder(archive_id=archive.id, path="")
        session.add_all([scan, top])
        session.flush()
        folder = ArchiveFolder(archive_id=archive.id, path="Smith", parent_id=top.id)
        session.add_all([folder, Delivery(scan_id=scan.id, url="http://h")])
        session.flush()
        for item in session.exec(select(Item).where(Item.submission_id == submission_id)).all():
            file = {"archive_id": archive.id, "folder_id": folder.id, "size": 1, "mtime_ns": 1, "item_id": item.id}
            session.add(ArchiveFile(name=item.path, **file))
    return scan.id


def count(database: Database, table: type[SQLModel]) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def audits(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        return [(row.who, row.action, row.subject) for row in session.exec(select(Audit).order_by(col(Audit.number)))]


def expired(action: Action) -> Expired:
    return Expired(action, before=NINETY_DAYS_AGO)


def test_what_is_old_is_deleted_and_what_is_young_or_open_stays(database: Database) -> None:
    """With images, batches and the results that no other image points to. The audit stays, and gains rows."""
    old = add_submission(database)
    young = add_submission(database, age=timedelta(days=80))
    running = add_submission(database, state=SubmissionState.RUNNING, finished_at=None, created_at=utc_now() - OLD)
    done = purge(database, expired(Action.DELETE), "anna")
    assert done == Purge(submissions=1, images=5, results=5)
    with database.read() as session:
        assert set(session.exec(select(Submission.id))) == {young, running}
        assert set(session.exec(select(Item.submission_id))) == {young, running}
        assert set(session.exec(select(Batch.submission_id))) == {young, running}
    assert count(database, Result) == 10
    assert audits(database) == [
        ("anna", "submission.delete", old),
        ("anna", "retention.delete", "1 submissions, 5 images, 5 results, 0 names of deleted files"),
    ]
    assert purge(database, expired(Action.DELETE), "anna") == Purge()
    assert len(audits(database)) == 2


def test_anonymised_images_keep_their_results_and_lose_their_names(database: Database) -> None:
    """Nothing that is left says whose image it was, and no two names are equal."""
    mine = add_submission(database, idempotency_key="k", request_hash="h")
    done = purge(database, expired(Action.ANONYMISE), "anna")
    assert done == Purge(submissions=1, images=5)
    with database.read() as session:
        submission = session.get_one(Submission, mine)
        items = session.exec(select(Item).where(Item.submission_id == mine)).all()
    assert (submission.folder, submission.idempotency_key, submission.anonymised_at is None) == ("", None, False)
    assert len({item.path for item in items}) == 5
    assert "Smith" not in repr([submission, *items])
    assert {(item.patient, item.slide, item.magnification, item.mtime_ns) for item in items} == {(None, None, None, 0)}
    assert all(item.result_id and item.decision == "benign" and item.state == ItemState.DONE for item in items)
    assert count(database, Result) == 5
    assert [action for _, action, _ in audits(database)] == ["submission.anonymise", "retention.anonymise"]
    assert purge(database, expired(Action.ANONYMISE), "anna") == Purge()


def test_what_was_anonymised_is_deleted_later(database: Database) -> None:
    """First names go, later all."""
    add_submission(database)
    purge(database, expired(Action.ANONYMISE), "anna")
    assert purge(database, expired(Action.DELETE), "anna").images == 5


@pytest.mark.parametrize("action", Action)
def test_a_file_of_an_archive_is_not_classified_again(database: Database, action: Action) -> None:
    """Its size and time stay known, so it counts as unchanged; only what was recorded of it is gone."""
    scan_id = add_archive(database, add_submission(database))
    purge(database, expired(action), "anna")
    with database.read() as session:
        files = session.exec(select(ArchiveFile)).all()
        scan = session.get(Scan, scan_id)
    assert [(file.size, file.item_id) for file in files] == [(1, None)] * 5
    assert scan is None if action == Action.DELETE else scan.position is None
    assert count(database, Delivery) == (action == Action.ANONYMISE)


def test_a_scan_that_is_not_closed_keeps_its_images(database: Database) -> None:
    """Its end still counts moved and doubled files among them."""
    submission_id = add_submission(database)
    add_archive(database, submission_id, ScanState.RUNNING)
    assert purge(database, expired(Action.DELETE), "anna") == Purge()


def test_one_submission_is_named(database: Database) -> None:
    """However young; only when it has ended."""
    young = add_submission(database, age=timedelta())
    add_submission(database)
    named = Expired(Action.DELETE, submission_id=young)
    with database.read() as session:
        assert measure_expired(session, named) == Purge(submissions=1, images=5)
    assert purge(database, named, "anna").submissions == 1
    assert count(database, Submission) == 1
    with database.read() as session, pytest.raises(NotEnded):
        measure_expired(session, named)


def test_a_result_that_another_image_points_to_stays(database: Database) -> None:
    """The same content in a young submission, for instance."""
    add_submission(database)
    young = add_submission(database, age=timedelta())
    with database.write() as session:
        first, second = (
            session.exec(select(Item).where(Item.submission_id != young)).first(),
            session.exec(select(Item).where(Item.submission_id == young)).first(),
        )
        second.result_id = first.result_id
    assert purge(database, expired(Action.DELETE), "anna").results == 5
    with database.read() as session:
        pointed = select(Item.result_id).where(col(Item.result_id).not_in(select(Result.id)))
        assert session.exec(pointed).all() == []


def test_results_stay_while_a_batch_is_in_hand(database: Database) -> None:
    """Its worker may have looked one up and be about to point an image at it; the next purge takes them."""
    add_submission(database)
    busy = add_submission(database, age=timedelta(), state=SubmissionState.RUNNING)
    with database.write() as session:
        batch = Batch(submission_id=busy, lane="bulk", state=BatchState.RUNNING, images=1)
        session.add(batch)
    done = purge(database, expired(Action.DELETE), "anna")
    assert (done.submissions, done.results, count(database, Result)) == (1, 0, 10)
    with database.write() as session:
        session.get_one(Batch, batch.id).state = BatchState.DONE
    add_submission(database, images=1)
    assert purge(database, expired(Action.DELETE), "anna").results == 6


def test_names_of_deleted_files_are_forgotten(database: Database) -> None:
    """With the folders that held nothing else. What is there, or went of late, is not forgotten."""
    add_archive(database, add_submission(database, age=timedelta()))
    with database.write() as session:
        files = session.exec(select(ArchiveFile)).all()
        for file in files[:3]:
            file.deleted_at = utc_now() - OLD
        files[3].deleted_at = utc_now()
    assert purge(database, expired(Action.ANONYMISE), "anna").names == 3
    assert (count(database, ArchiveFile), count(database, ArchiveFolder)) == (2, 2)
    with database.write() as session:
        for file in session.exec(select(ArchiveFile)).all():
            file.deleted_at = utc_now() - OLD
    assert purge(database, expired(Action.ANONYMISE), "anna").names == 2
    assert (count(database, ArchiveFile), count(database, ArchiveFolder)) == (0, 1)


def test_a_running_scan_keeps_the_names(database: Database) -> None:
    """It has rows in hand."""
    add_archive(database, add_submission(database, age=timedelta()), ScanState.RUNNING)
    with database.write() as session:
        for file in session.exec(select(ArchiveFile)).all():
            file.deleted_at = utc_now() - OLD
    assert purge(database, expired(Action.DELETE), "anna").names == 0


@pytest.mark.parametrize("action", Action)
def test_a_purge_that_is_stopped_is_finished_by_the_next(database: Database, action: Action) -> None:
    """After any step: nothing is left half done, and nothing is done to others."""
    add_submission(database)
    young = add_submission(database, age=timedelta())
    for _ in range(20):
        steps = []
        purge(database, expired(action), "anna", on_images=steps.append, should_stop=lambda steps=steps: bool(steps))
        with database.read() as session:
            if measure_expired(session, expired(action)) == Purge():
                break
    else:
        # Each try renames from the start; one that may take its time ends it.
        assert action == Action.ANONYMISE
        purge(database, expired(action), "anna")
    with database.read() as session:
        named = session.exec(select(Item.submission_id).where(col(Item.path).startswith("Smith"))).all()
        assert set(named) == {young}
        assert measure_expired(session, expired(action)) == Purge()


@pytest.mark.parametrize("action", Action)
def test_two_purges_at_once_do_it_once(database: Database, action: Action) -> None:
    """Several workers, or a person beside them: each submission is taken whole, and noted once or twice, not lost."""
    ids = {add_submission(database) for _ in range(3)}
    errors = []

    def run() -> None:
        try:
            purge(database, expired(action), "anna")
        except Exception as error:  # a thread's exception would be lost
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    purge(database, expired(action), "anna")
    assert errors == []
    noted = {subject for _, what, subject in audits(database) if what == f"submission.{action}"}
    assert noted == ids
    with database.read() as session:
        assert session.exec(select(Item.id).where(col(Item.path).startswith("Smith"))).all() == []


def test_a_batch_that_is_being_claimed_keeps_results(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction is not committed, so nobody sees it run; PostgreSQL's lock knows of it, and nobody waits long."""
    monkeypatch.setattr(forgetting, "_LOCK_TIMEOUT", "100ms")
    database = Database(postgres_url)
    database.migrate()
    add_submission(database)
    mine = add_submission(database, age=timedelta(), state=SubmissionState.RUNNING)
    with database.write() as session:
        session.add(Batch(submission_id=mine, lane="bulk", state=BatchState.QUEUED, images=1))
    with database.write() as session:
        session.exec(select(Batch).where(Batch.state == BatchState.QUEUED)).one().state = BatchState.RUNNING
        session.flush()
        done = purge(database, expired(Action.DELETE), "anna")
    assert (done.submissions, done.results, count(database, Result)) == (1, 0, 10)
    database.close()
