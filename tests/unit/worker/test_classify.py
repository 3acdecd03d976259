"""One message's work, files to rows: bad files are outcomes, faults that are not the files' leave the batch to do."""

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from core.database import Database
from core.errors import EngineError, Reason, TransientError
from core.imaging import decode_rgb
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Result
from tests.assets import images
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.classify import classify_batch
from worker.engines.fake import FakeEngine
from worker.pipeline import GROUP


@pytest.fixture
def folder(images_root):
    return images_root


def submit(database: Database, folder, **values) -> tuple[str, int]:
    """A submission with one batch of all files of the folder."""
    with database.write() as session:
        mine = add_submission(session, folder, **values)
        paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return mine, add_batch(session, mine, paths)


def results(database) -> list[Result]:
    with database.read() as session:
        return list(session.exec(select(Result)))


class FaultyEngine(FakeEngine):
    """Does something to the world, once, instead of classifying."""

    def __init__(self, act) -> None:
        self._act = act

    def classify(self, pixels):
        act, self._act = self._act, None
        if act:
            act()
        return super().classify(pixels)


def test_good_and_bad_files_each_get_their_outcome(context, folder):
    """Each kind of broken file has its reason, each whole one its probability; the submission is done."""
    broken = images.broken_files()
    for name, (data, _) in broken.items():
        (folder / name).write_bytes(data)
    red = [5, 127, 250]
    for value in red:
        (folder / f"good-{value}.png").write_bytes(images.plain(value, value=value))
    mine, batch_id = submit(context.database, folder)
    classify_batch(context, batch_id)
    items = items_of(context.database, mine)
    assert {name: items[name].reason for name in broken} == {name: reason for name, (_, reason) in broken.items()}
    assert [items[f"good-{value}.png"].decision for value in red] == ["benign", "uncertain", "malignant"]
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    assert_counters_are_exact(context.database, mine)


def test_a_result_says_what_the_engine_said_of_this_file(context, folder):
    """Probabilities land at their own file, across groups and micro-batches, with the content's hash and a time."""
    for number in range(2 * GROUP + 5):
        (folder / f"{number}.png").write_bytes(images.plain(number, value=number * 3))
    mine, batch_id = submit(context.database, folder)
    classify_batch(context, batch_id)
    by_id = {result.id: result for result in results(context.database)}
    for path, item in items_of(context.database, mine).items():
        data = (folder / path).read_bytes()
        result = by_id[item.result_id]
        assert result.content_hash == item.content_hash == blake3(data).hexdigest()
        assert result.probability == pytest.approx(decode_rgb(data)[..., 0].mean() / 255, abs=1e-5)
        assert (result.model_version, result.engine) == (context.model_version, "fake")
        assert result.elapsed_ms > 0


def test_known_contents_are_not_classified_again(context, folder):
    """A second submission of the same images costs no inference, and points to the same results."""
    for number in range(3):
        (folder / f"{number}.png").write_bytes(images.plain(number))
    _, first = submit(context.database, folder)
    classify_batch(context, first)

    def fail() -> None:
        raise AssertionError("the engine was asked again")

    mine, second = submit(context.database, folder)
    classify_batch(replace(context, engine=FaultyEngine(fail)), second)
    assert {item.state for item in items_of(context.database, mine).values()} == {ItemState.DONE}
    assert len(results(context.database)) == 3
    assert_counters_are_exact(context.database, mine)


def test_twins_share_one_outcome_good_or_bad(context, folder):
    """Copies in one batch, near and far apart, are decoded once and each get the outcome."""
    for number in range(GROUP + 2):
        (folder / f"{number:03}.png").write_bytes(images.plain(number if number not in (1, GROUP + 1) else 0))
    (folder / "bad-1").write_bytes(b"no image")
    (folder / "bad-2").write_bytes(b"no image")
    mine, batch_id = submit(context.database, folder)
    classify_batch(context, batch_id)
    items = items_of(context.database, mine)
    assert items["000.png"].result_id == items["001.png"].result_id == items[f"{GROUP + 1:03}.png"].result_id
    assert items["bad-1"].reason == items["bad-2"].reason == Reason.NOT_AN_IMAGE
    assert len(results(context.database)) == GROUP
    assert_counters_are_exact(context.database, mine)


def test_the_twin_of_a_file_that_vanished_is_classified_itself(context, folder):
    """One copy disappears between hashing and decoding: that is this copy's outcome alone."""
    data = images.plain(7)
    (folder / "a.png").write_bytes(data)
    (folder / "b.png").write_bytes(data)
    mine, batch_id = submit(context.database, folder)

    class VanishingDatabase(Database):
        """While the worker asks it for known results, the first copy is deleted."""

        def read(self):
            (folder / "a.png").unlink(missing_ok=True)
            return super().read()

    database = VanishingDatabase(context.settings.database)
    classify_batch(replace(context, database=database), batch_id)
    database.close()
    items = items_of(context.database, mine)
    assert items["a.png"].reason == Reason.VANISHED
    assert items["b.png"].state == ItemState.DONE
    assert_counters_are_exact(context.database, mine)


def test_files_that_changed_since_listing_are_outcomes(context, folder):
    """Vanished, replaced by a pipe, linked out: each its reason, and the neighbours are classified."""
    import os

    for name in ("gone", "pipe", "link", "fine"):
        (folder / name).write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)
    for name in ("gone", "pipe", "link"):
        (folder / name).unlink()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/etc/hostname")
    classify_batch(context, batch_id)
    items = items_of(context.database, mine)
    assert [items[name].reason for name in ("gone", "pipe", "link", "fine")] == [
        Reason.VANISHED,
        Reason.NOT_A_FILE,
        Reason.OUTSIDE_ROOT,
        None,
    ]


def test_an_upload_may_not_link_to_the_roots(context, folder):
    """Uploads are read below the uploads' folder only, wherever a link in them leads."""
    secret = folder / "archive.png"
    secret.write_bytes(images.plain())
    upload = context.settings.uploads_dir / "u"
    upload.mkdir(parents=True)
    (upload / "own.png").write_bytes(images.plain())
    (upload / "link.png").symlink_to(secret)
    mine, batch_id = submit(context.database, upload, source="upload")
    classify_batch(context, batch_id)
    items = items_of(context.database, mine)
    assert items["link.png"].reason == Reason.OUTSIDE_ROOT
    assert items["own.png"].state == ItemState.DONE


def test_storage_that_is_away_fails_no_image(context, folder):
    """The batch goes back without an attempt counted, and is done when the storage is there again."""
    (folder / "night").mkdir()
    (folder / "night" / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder / "night")
    shutil.move(folder / "night", folder / "away")
    with pytest.raises(TransientError):
        classify_batch(context, batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.sent_at) == (BatchState.QUEUED, 0, None)
    assert items_of(context.database, mine)["a.png"].state == ItemState.PENDING
    shutil.move(folder / "away", folder / "night")
    classify_batch(context, batch_id)
    assert items_of(context.database, mine)["a.png"].state == ItemState.DONE


def test_a_failing_device_fails_no_image(context, folder):
    """EngineError: the batch goes back, and its images stay pending."""
    (folder / "a.png").write_bytes(images.plain())

    def fail() -> None:
        raise EngineError("the device fell off")

    mine, batch_id = submit(context.database, folder)
    with pytest.raises(EngineError):
        classify_batch(replace(context, engine=FaultyEngine(fail)), batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts) == (BatchState.QUEUED, 0)


def test_a_database_that_is_away_is_not_held_against_the_images(settings, folder, sqlite_url):
    """OperationalError at closing hands the batch back: an outage must never end in "kills_worker"."""
    from worker.context import open_context

    context = open_context(settings)
    context.database.migrate()
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)

    def rename(old: str, new: str) -> None:
        with context.database.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    with pytest.raises(OperationalError):
        classify_batch(replace(context, engine=FaultyEngine(lambda: rename("result", "result_away"))), batch_id)
    rename("result_away", "result")
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts) == (BatchState.QUEUED, 0)
    context.close()


def test_a_fault_of_ours_counts_as_an_attempt(context, folder):
    """An unexpected exception may be an image's doing: the lease ends at once, the attempt counts."""
    (folder / "a.png").write_bytes(images.plain())

    def fail() -> None:
        raise ZeroDivisionError

    mine, batch_id = submit(context.database, folder)
    with pytest.raises(ZeroDivisionError):
        classify_batch(replace(context, engine=FaultyEngine(fail)), batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts) == (BatchState.RUNNING, 1)


def test_an_engine_that_says_nan_writes_no_result(context, folder):
    """Nonsense is never stored as benign."""
    (folder / "a.png").write_bytes(images.plain())

    class NanEngine(FakeEngine):
        """A device with broken memory."""

        def classify(self, pixels):
            return np.full(len(pixels), np.nan, np.float32)

    mine, batch_id = submit(context.database, folder)
    with pytest.raises(ValueError, match="no probability"):
        classify_batch(replace(context, engine=NanEngine()), batch_id)
    assert results(context.database) == []
    assert items_of(context.database, mine)["a.png"].state == ItemState.PENDING


def test_a_lost_lease_ends_quietly_and_writes_nothing(context, folder):
    """The batch is another worker's: no error, no row."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)

    def take_away() -> None:
        with context.database.write() as session:
            session.get_one(Batch, batch_id).lease_token = "another"

    classify_batch(replace(context, engine=FaultyEngine(take_away)), batch_id)
    assert results(context.database) == []
    assert batches_of(context.database, mine)[0].lease_token == "another"


def test_a_long_batch_keeps_its_lease(context, folder):
    """A worker that is slow but alive renews: nobody takes its batch."""
    for number in range(3 * GROUP):
        (folder / f"{number}.png").write_bytes(images.plain(number))
    mine, batch_id = submit(context.database, folder)
    seen = []

    class SlowEngine(FakeEngine):
        """Takes its time, and notes until when the lease holds."""

        def classify(self, pixels):
            time.sleep(0.05)
            seen.append(batches_of(context.database, mine)[0].lease_expires_at)
            return super().classify(pixels)

    settings = context.settings.model_copy(update={"lease_s": 0.3})
    classify_batch(replace(context, engine=SlowEngine(), settings=settings), batch_id)
    assert len(set(seen)) > 1
    assert_counters_are_exact(context.database, mine)
    assert batches_of(context.database, mine)[0].state == BatchState.DONE


def test_a_stop_that_cannot_wait_hands_the_batch_back(context, folder, sent):
    """After the grace time the batch is queued and sent again, without an attempt counted."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)
    context.stop.ask(0)
    classify_batch(context, batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts) == (BatchState.QUEUED, 0)
    assert sent("bulk") == [batch_id]


def test_a_stop_within_the_grace_time_lets_the_batch_finish(context, folder):
    """SIGTERM is no reason to do work twice."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)
    context.stop.ask(60)
    classify_batch(context, batch_id)
    assert submission_of(context.database, mine).state == SubmissionState.DONE


def test_names_of_any_bytes_are_classified(context, folder):
    """The text in the database leads back to the file."""
    import os

    from core.paths import path_to_text

    names = [b"two\nlines.png", b"\xe4\xff.png", "ü \uf7e4.png".encode()]
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(images.plain(len(name)))
    with context.database.write() as session:
        mine = add_submission(session, folder)
        batch_id = add_batch(session, mine, [path_to_text(name) for name in names])
    classify_batch(context, batch_id)
    assert {item.state for item in items_of(context.database, mine).values()} == {ItemState.DONE}
