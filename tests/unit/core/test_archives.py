"""Archives are defined, changed and removed; each change says who made it."""

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, col, func, select

from core.archive_definitions import ArchiveDefinition
from core.archive_tables import Archive, ArchiveFile, ArchiveFolder, Delivery, Scan
from core.archives import (
    ArchiveBusy,
    change_archive,
    check_root,
    create_archive,
    find_archive,
    remove_archive,
)
from core.database import Database
from core.errors import FolderError, Reason
from core.settings import Settings
from core.states import ScanState, SubmissionState
from core.tables import Audit, Item, Submission, utc_now


def define(**values: object) -> ArchiveDefinition:
    return ArchiveDefinition.model_validate({"name": "north", "root": "/images/north"} | values)


def create(database: Database, **values: object) -> Archive:
    with database.write() as session:
        return create_archive(session, define(**values), "anna")


def audits(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        return [(row.who, row.action, row.subject) for row in session.exec(select(Audit).order_by(col(Audit.number)))]


def count(database: Database, table: type[SQLModel]) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def test_a_new_archive_knows_when_it_is_scanned_next(database: Database) -> None:
    """From its schedule; who made it is noted."""
    archive = create(database, schedule="0 22 * * *")
    with database.read() as session:
        stored = find_archive(session, "north")
    assert stored.next_at == archive.next_at
    assert stored.next_at > utc_now()
    assert stored.next_at.hour == 22
    assert audits(database) == [("anna", "archive.create", "north")]


@pytest.mark.parametrize("values", [{"schedule": None}, {"schedule": "0 22 * * *", "enabled": False}])
def test_without_a_schedule_that_counts_nothing_comes_next(database: Database, values: dict[str, object]) -> None:
    """People may scan it all the same."""
    assert create(database, **values).next_at is None


def test_a_name_is_given_once(database: Database) -> None:
    """Two archives of one name could not be told apart."""
    create(database)
    with pytest.raises(IntegrityError):
        create(database)


def test_a_change_is_noted_and_no_change_is_not(database: Database) -> None:
    """Whoever repeats a definition leaves no trace; the next scan's time moves with the schedule only."""
    create(database, schedule="0 22 * * *")
    with database.write() as session:
        archive = find_archive(session, "north")
        before = archive.next_at
        assert not change_archive(session, archive, define(schedule="0 22 * * *"), "ben")
        assert change_archive(session, archive, define(schedule="0 22 * * *", settle_s=1), "ben")
        assert archive.next_at == before
        assert change_archive(session, archive, define(schedule="0 23 * * *", settle_s=1), "ben")
    with database.read() as session:
        assert find_archive(session, "north").next_at.hour == 23
    assert audits(database)[1:] == [("ben", "archive.change", "north")] * 2


def _with_a_scan(database: Database, state: ScanState) -> Archive:
    archive = create(database)
    with database.write() as session:
        submission = Submission(source="archive", folder=archive.root, state=SubmissionState.DONE)
        session.add(submission)
        session.flush()
        scan = Scan(archive_id=archive.id, submission_id=submission.id, asked_by="anna", state=state)
        session.add(scan)
        session.flush()
        session.add(Delivery(scan_id=scan.id, url="http://h"))
        item = Item(submission_id=submission.id, batch_id=1, path="a.png")
        folder = ArchiveFolder(archive_id=archive.id, path="")
        session.add_all([item, folder])
        session.flush()
        file = {"archive_id": archive.id, "folder_id": folder.id, "size": 1, "mtime_ns": 1, "item_id": item.id}
        session.add_all([ArchiveFile(name=str(number), **file) for number in range(3)])
    return archive


def test_a_removed_archive_leaves_its_results(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files and what its scans counted are forgotten, in small steps; submissions and images stay."""
    monkeypatch.setattr("core.archives._AT_ONCE", 2)
    remove_archive(database, _with_a_scan(database, ScanState.DONE), "ben")
    gone = (Archive, ArchiveFile, ArchiveFolder, Scan, Delivery)
    assert [count(database, table) for table in gone] == [0] * len(gone)
    assert (count(database, Submission), count(database, Item)) == (1, 1)
    assert audits(database)[-1] == ("ben", "archive.remove", "north")


def test_an_archive_that_is_scanned_is_not_removed(database: Database) -> None:
    """The scan would lose what it compares with, and may be what someone waits for."""
    archive = _with_a_scan(database, ScanState.RUNNING)
    with pytest.raises(ArchiveBusy):
        remove_archive(database, archive, "ben")
    assert count(database, ArchiveFile) == 3


def test_a_root_lies_below_an_allowed_one(tmp_path) -> None:
    """What is away at the moment may be defined where that is said, what is outside never."""
    images = tmp_path / "images"
    (images / "north").mkdir(parents=True)
    (images / "out").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(images)
    settings = Settings(roots=(images,), remote_roots="s3://bucket/night sftp://host/x")
    assert check_root("s3://bucket/night/north/", settings, must_exist=True) == "s3://bucket/night/north"
    for name in (images, tmp_path / "link"):
        assert check_root(f"{name}/north/", settings, must_exist=True) == f"{images}/north"
        assert check_root(f"{name}/gone", settings, must_exist=False) == f"{images}/gone"
    for root, must_exist, reason in (
        (f"{images}/gone", True, Reason.FOLDER_MISSING),
        (f"{images}/out", True, Reason.FOLDER_NOT_ALLOWED),
        ("/etc", False, Reason.FOLDER_NOT_ALLOWED),
        (f"{images}/../", False, Reason.FOLDER_NOT_ALLOWED),
        ("s3://bucket/a", False, Reason.FOLDER_NOT_ALLOWED),
        ("s3://bucket/nights", False, Reason.FOLDER_NOT_ALLOWED),
    ):
        with pytest.raises(FolderError) as caught:
            check_root(root, settings, must_exist=must_exist)
        assert caught.value.reason == reason
