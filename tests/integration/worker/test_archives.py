"""A file of archives, a worker and a webhook: scans begin by themselves, and whoever asked is told."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from core.archive_tables import Archive, Delivery, Scan
from core.states import ScanState
from core.tables import utc_now
from tests.assets import images
from tests.assets.programs import wait_until
from tests.assets.receiver import SECRET, receiving


@pytest.fixture
def receiver():
    with receiving() as opened:
        yield opened


@pytest.fixture
def file(tmp_path, images_root, receiver):
    """A file of archives with one archive of twelve images that is scanned once a year."""
    for number in range(12):
        path = images_root / f"case-{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(images.plain(number))
    path = tmp_path / "archives.toml"
    path.write_text(
        f"""
        [archives.north]
        root = "{images_root}"
        schedule = "0 0 1 1 *"
        settle_s = 0
        webhook = {{ url = "{receiver.url}", secret = "{SECRET}" }}
        """
    )
    return path


def fire(house) -> None:
    """Have the archive's schedule fire at this moment; spare the wait after which its listing is asked for."""
    before = len(scans(house))
    with house.database.write() as session:
        session.execute(update(Archive).values(next_at=utc_now() - timedelta(seconds=1)))
    wait_until(lambda: len(scans(house)) > before, "the scan begins")
    house.queue.send_intake(scans(house)[-1].submission_id)


def scans(house) -> list[Scan]:
    with house.database.read() as session:
        return list(session.exec(select(Scan).order_by(col(Scan.id))))


def test_a_night_from_the_file_to_the_webhook(house, file, receiver, images_root, program):
    """The schedule fires, new files are classified, the webhook is told; the next night takes what came meanwhile."""
    program("worker", house.settings, archives_file=file, reconcile_every_s=0.3, webhooks_to_this_machine=True)

    def is_defined() -> bool:
        with house.database.read() as session:
            return session.exec(select(Archive)).one_or_none() is not None

    wait_until(is_defined, "the archive of the file")
    fire(house)
    wait_until(lambda: len(receiver.requests) == 1, "the first night is told")
    (images_root / "case-0" / "late.png").write_bytes(images.plain(99))
    fire(house)
    wait_until(lambda: len(receiver.requests) == 2, "the second night is told")
    first, second = (body["data"] for body in receiver.verified())
    assert (first["files"]["new"], sum(first["images"].values())) == (12, 12)
    assert (second["files"]["new"], second["files"]["unchanged"], sum(second["images"].values())) == (1, 12, 1)
    assert [scan.state for scan in scans(house)] == [ScanState.DONE, ScanState.DONE]
    assert [scan.id for scan in scans(house)] == [first["scan_id"], second["scan_id"]]
    assert str(images_root) not in json.dumps([first, second])
    with house.database.read() as session:
        assert all(delivery.delivered_at for delivery in session.exec(select(Delivery)))
