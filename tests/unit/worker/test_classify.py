"""One message's work, files to rows: bad files are outcomes, faults that are not the files' leave the batch to do."""

import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from core.database import Database
from core.errors import EngineError, Reason
from core.imaging import decode_rgb
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Result, utc_now
from core.transitions import unpark_submission
from tests.assets import images
from tests.assets.engines import with_engine
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.classify import EngineBroken, classify_batch
from worker.engines.fake import FakeEngine
from worker.pipeline import GROUP


@pytest.fixture
def folder(images_root):
    return images_root


def submit(database: Database, folder, **values) -> tuple[str, int]:
    """A submission with one batch of all files of the folder."""
    with database.write() as session:
        mine = add_submission(session, folder, **({"listed_at": utc_now()} | values))
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


def test_every_stage_of_a_batch_is_timed(context, folder):
    """Whoever wants it faster must see where the time goes; only what was computed took time."""
    for number in range(GROUP):
        (folder / f"{number}.png").write_bytes(images.plain(number, value=number))
    mine, batch_id = submit(context.database, folder)
    classify_batch(context, batch_id)
    (batch,) = batches_of(context.database, mine)
    stages = ("read", "decode", "resize", "wait", "copy", "infer", "write", "wall")
    assert [stage for stage in stages if getattr(batch, f"{stage}_ms") <= 0] == []
    other, again = submit(context.database, folder)
    classify_batch(context, again)
    (known,) = batches_of(context.database, other)
    assert (known.decode_ms, known.resize_ms, known.wait_ms, known.copy_ms, known.infer_ms) == (0, 0, 0, 0, 0)


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
        assert (result.model_version, result.engine) == (context.slot.current.model_version, "fake")
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
    classify_batch(with_engine(context, FaultyEngine(fail)), second)
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
    classify_batch(context, batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.sent_at) == (BatchState.QUEUED, 0, None)
    assert items_of(context.database, mine)["a.png"].state == ItemState.PENDING
    parked = submission_of(context.database, mine)
    assert (parked.state, parked.reason, parked.tries) == (SubmissionState.PARKED, Reason.STORAGE_AWAY, 1)
    assert parked.retry_at > parked.parked_at
    shutil.move(folder / "away", folder / "night")
    with context.database.write() as session:
        assert unpark_submission(session, mine)
    classify_batch(context, batch_id)
    assert items_of(context.database, mine)["a.png"].state == ItemState.DONE
    done = submission_of(context.database, mine)
    assert (done.state, done.parked_at, done.tries) == (SubmissionState.DONE, None, 0)


class FailingEngine(FakeEngine):
    """Fails on some images."""

    def __init__(self, fails) -> None:
        self._fails = fails

    def classify(self, pixels):
        if self._fails(pixels):
            raise EngineError("the device fell off")
        return super().classify(pixels)


def test_a_broken_device_fails_no_image(context, folder):
    """It fails on an empty image, too: the batch goes back uncounted, and the process learns that it is of no use."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)
    with pytest.raises(EngineBroken):
        classify_batch(with_engine(context, FailingEngine(lambda _: True)), batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.suspect) == (BatchState.QUEUED, 0, False)


def test_images_that_break_a_sound_device_are_found(context, folder):
    """It works on an empty image: so the batch counts as one that took a worker down, and is halved in the end."""
    for number in range(4):
        (folder / f"{number}.png").write_bytes(images.plain(number, value=40 * number))
    mine, _ = submit(context.database, folder)
    breaks = with_engine(context, FailingEngine(lambda pixels: (pixels[..., 0].mean(axis=(1, 2)) > 100).any()))
    for _ in range(20):
        queued = [batch for batch in batches_of(context.database, mine) if batch.state == BatchState.QUEUED]
        for batch in queued:
            with suppress(EngineError):
                classify_batch(breaks, batch.id)
    items = items_of(context.database, mine)
    assert [items[f"{number}.png"].reason for number in range(4)] == [None, None, None, Reason.KILLS_WORKER]
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    assert_counters_are_exact(context.database, mine)


def test_a_database_that_is_away_is_not_held_against_the_images(settings, folder, sqlite_url):
    """OperationalError at closing hands the batch back: an outage must never end in "kills_worker"."""
    from worker.context import open_context

    context = open_context(settings.model_copy(update={"database_patience_s": 0.1}))
    context.database.migrate()
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)

    def rename(old: str, new: str) -> None:
        with context.database.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    with pytest.raises(OperationalError):
        classify_batch(with_engine(context, FaultyEngine(lambda: rename("result", "result_away"))), batch_id)
    rename("result_away", "result")
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts) == (BatchState.QUEUED, 0)
    context.close()


def test_a_fault_of_ours_counts_as_an_attempt(context, folder):
    """An unexpected exception may be an image's doing: like a death of the worker, without the wait."""
    (folder / "a.png").write_bytes(images.plain())

    def fail() -> None:
        raise ZeroDivisionError

    mine, batch_id = submit(context.database, folder)
    with pytest.raises(ZeroDivisionError):
        classify_batch(with_engine(context, FaultyEngine(fail)), batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.suspect) == (BatchState.QUEUED, 1, True)


def test_an_engine_that_says_nan_writes_no_result(context, folder):
    """Nonsense is never stored as benign."""
    (folder / "a.png").write_bytes(images.plain())

    class NanEngine(FakeEngine):
        """A device with broken memory."""

        def classify(self, pixels):
            return np.full(len(pixels), np.nan, np.float32)

    mine, batch_id = submit(context.database, folder)
    with pytest.raises(ValueError, match="no probability"):
        classify_batch(with_engine(context, NanEngine()), batch_id)
    assert results(context.database) == []
    assert items_of(context.database, mine)["a.png"].state == ItemState.PENDING


def test_a_lost_lease_ends_quietly_and_writes_nothing(context, folder):
    """The batch is another worker's: no error, no row."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)

    def take_away() -> None:
        with context.database.write() as session:
            session.get_one(Batch, batch_id).lease_token = "another"

    classify_batch(with_engine(context, FaultyEngine(take_away)), batch_id)
    assert results(context.database) == []
    assert batches_of(context.database, mine)[0].lease_token == "another"


def test_a_database_that_comes_back_in_time_costs_nothing(context, folder):
    """PostgreSQL restarts within the patience: the batch is closed by the worker that computed it."""
    (folder / "a.png").write_bytes(images.plain())
    mine, batch_id = submit(context.database, folder)

    class AwayTwice(Database):
        """Refuses its next two writes."""

        refusals = 2

        def write(self):
            if self.refusals:
                self.refusals -= 1
                raise OperationalError("UPDATE", {}, Exception("the server closes"))
            return super().write()

    database = AwayTwice(context.settings.database)
    classify_batch(replace(context, database=database), batch_id)
    assert database.refusals == 0
    database.close()
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.expirations) == (BatchState.DONE, 1, 0)


def test_a_batch_that_another_took_is_abandoned_on_the_way(context, folder):
    """The pulse learned that the lease is gone: what is left of the batch is not computed."""
    for number in range(5 * GROUP):
        (folder / f"{number:04}.png").write_bytes(images.plain(number))
    _, batch_id = submit(context.database, folder)

    def lose() -> None:
        for holding in context.holdings.all():
            holding.is_lost = True

    classify_batch(with_engine(context, FaultyEngine(lose)), batch_id)
    assert len(results(context.database)) < 5 * GROUP
    assert context.holdings.all() == []


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
