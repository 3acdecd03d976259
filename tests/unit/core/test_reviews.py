"""Reviews belong to results and are only added; what needs review is found once, newest first, within bounds."""

import json

import pytest
from sqlalchemy import insert
from sqlmodel import col, select

from core import unreviewed
from core.archive_tables import Archive, Scan
from core.database import Database
from core.index_walk import BEYOND
from core.retention import Action, Expired, purge
from core.review_tables import Review
from core.reviews import NothingToReview, Verdict, list_reviews, read_history, sign_off
from core.states import ItemState, SubmissionState
from core.tables import Audit, Batch, Item, Result, Submission, utc_now
from core.unreviewed import KINDS, UnreviewedFilter, count_unreviewed, find_unreviewed


def add_images(database: Database, decisions: str, contents: str = "", **values: object) -> tuple[str, list[int]]:
    """Record a submission with an image for each letter (m, u or b; - for none); images of one content share a result.

    Returns the submission's id and the images'.
    """
    names = {"m": "malignant", "u": "uncertain", "b": "benign"}
    ids = []
    with database.write() as session:
        submission = Submission(source="folder", folder="/images", state=SubmissionState.DONE, finished_at=utc_now())
        session.add(submission)
        session.flush()
        session.add(Batch(submission_id=submission.id, lane="bulk", images=len(decisions)))
        for number, letter in enumerate(decisions):
            content = (contents[number] if contents else f"{submission.id}{number:032}").ljust(64, "0")
            decision = names.get(letter)
            item = Item(submission_id=submission.id, batch_id=1, path=f"{number}.png", decision=decision, **values)
            if decision is not None:
                item.state, item.content_hash = ItemState.DONE, content
                item.result_id = _find_or_add_result(session, content, decision)
            session.add(item)
            session.flush()
            ids.append(item.id or 0)
    return submission.id, ids


def _find_or_add_result(session, content, decision) -> int:
    found = session.exec(select(Result.id).where(Result.content_hash == content)).one_or_none()
    if found is None:
        result = Result(
            content_hash=content, model_version="m@1", probability=0.5, decision=decision, engine="fake", elapsed_ms=1
        )
        session.add(result)
        session.flush()
        found = result.id
    return found


def sign(database: Database, item_id: int, verdict: Verdict = Verdict.BENIGN, note: str = "") -> Review:
    with database.write() as session:
        return sign_off(session, session.get_one(Item, item_id), verdict, note, "anna")


def needing(database: Database, before: int = BEYOND, limit: int = 50, **which: object) -> list[int]:
    with database.read() as session:
        return find_unreviewed(session, UnreviewedFilter(**which), before, limit).item_ids


def test_uncertain_and_malignant_images_need_review_newest_first(database: Database) -> None:
    """Benign ones and those without a result do not; both kinds come in one order."""
    _, ids = add_images(database, "mbu-mu")
    assert needing(database) == [ids[5], ids[4], ids[2], ids[0]]
    assert needing(database, kind="uncertain") == [ids[5], ids[2]]
    assert needing(database, kind="malignant") == [ids[4], ids[0]]


def test_what_was_signed_off_needs_no_review_wherever_it_lies(database: Database) -> None:
    """A review belongs to the result: the same content in another submission is signed off with it."""
    _, first = add_images(database, "mu", "ab")
    _, second = add_images(database, "mu", "ac")
    assert needing(database) == [second[1], second[0], first[1]]
    sign(database, first[0])
    assert needing(database) == [second[1], first[1]]
    sign(database, second[1], Verdict.UNDECIDED)
    assert needing(database) == [first[1]]


def test_a_submission_shows_its_own_image_of_a_result(database: Database) -> None:
    """An image that also lies elsewhere, and newer, is not missing where one submission or patient is asked for."""
    first, old = add_images(database, "mu", "ab", patient="14-1")
    _, new = add_images(database, "mm", "ac", patient="14-2")
    assert needing(database, submission_id=first) == [old[1], old[0]]
    assert needing(database, patient="14-1") == [old[1], old[0]]
    assert needing(database) == [new[1], new[0], old[1]]


def test_an_archive_means_the_images_of_its_scans(database: Database) -> None:
    """What others handed in is left out, also where it is newer."""
    scanned, ids = add_images(database, "mu", "ab")
    add_images(database, "mu", "ac")
    with database.write() as session:
        archive = Archive(name="north", root="/images")
        session.add(archive)
        session.flush()
        session.add(Scan(archive_id=archive.id, submission_id=scanned, asked_by="schedule"))
    assert needing(database, archive_id=archive.id) == [ids[1], ids[0]]


@pytest.mark.parametrize("window", [1, 2, 3, 1000])
def test_pages_show_everything_once_however_small_the_windows(
    database: Database, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Going on from page to page finds every image, in order, also where many were reviewed in between."""
    monkeypatch.setattr(unreviewed, "_WINDOW", window)
    monkeypatch.setattr(unreviewed, "_MOST", 2)
    _, ids = add_images(database, "mumbumuummubum")
    for number in (5, 6, 7, 8):
        sign(database, ids[number])
    expected = [ids[n] for n in reversed(range(14)) if n not in (3, 5, 6, 7, 8, 11)]
    found, before = [], BEYOND
    for _ in range(40):
        with database.read() as session:
            page = find_unreviewed(session, UnreviewedFilter(), before, 2)
        assert len(page.item_ids) <= 2
        found += page.item_ids
        if page.next_before is None:
            break
        assert page.next_before < before
        before = page.next_before
    assert found == expected


def test_counting_stops_at_a_thousand(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that says that there are more."""
    monkeypatch.setattr(unreviewed, "_MOST_COUNTED", 3)
    add_images(database, "mmmmuu")
    with database.read() as session:
        counts = {kind: str(count_unreviewed(session, UnreviewedFilter(kind=kind))) for kind in KINDS}
    assert counts == {"malignant": "3+", "uncertain": "2"}


def test_counting_looks_at_the_newest_only(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of results, each once, that says that there may be more where not all images were looked at."""
    monkeypatch.setattr(unreviewed, "_COUNTED", 3)
    add_images(database, "mmmu", "abcd")
    _, ids = add_images(database, "mm", "ab")
    sign(database, ids[1])
    with database.read() as session:
        counts = {kind: str(count_unreviewed(session, UnreviewedFilter(kind=kind))) for kind in KINDS}
        both = str(count_unreviewed(session, UnreviewedFilter()))
    assert (counts, both) == ({"malignant": "2+", "uncertain": "1"}, "3+")


def test_a_look_is_bounded_where_all_was_reviewed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is short and says where to look further, instead of going through everything."""
    monkeypatch.setattr(unreviewed, "_WINDOW", 10)
    monkeypatch.setattr(unreviewed, "_MOST", 20)
    _, ids = add_images(database, "m" * 30)
    with database.write() as session:
        results = session.exec(select(Item.result_id).where(col(Item.id) > ids[4])).all()
        values = {"item_id": 1, "submission_id": "s", "reviewer": "anna", "said": "malignant", "verdict": "benign"}
        session.execute(insert(Review), [{**values, "result_id": result_id, "at": utc_now()} for result_id in results])
    with database.read() as session:
        page = find_unreviewed(session, UnreviewedFilter(), BEYOND, 50)
        assert (page.item_ids, page.next_before) == ([], ids[10])
        rest = find_unreviewed(session, UnreviewedFilter(), ids[10], 50)
    assert rest.item_ids == list(reversed(ids[:5]))


def test_a_later_review_is_added_and_the_audit_knows_no_note(database: Database) -> None:
    """The history keeps both; each is audited with ids and verdict, and without what the reviewer wrote."""
    submission_id, ids = add_images(database, "u")
    sign(database, ids[0], Verdict.UNDECIDED, "Mrs Smith, blurred")
    second = sign(database, ids[0], Verdict.MALIGNANT, "seen again")
    with database.read() as session:
        history = read_history(session, second.result_id)
        rows = session.exec(select(Audit).where(Audit.action == "review.create").order_by(col(Audit.number))).all()
    assert [(review.verdict, review.said) for review in history] == [
        ("malignant", "uncertain"),
        ("undecided", "uncertain"),
    ]
    assert [json.loads(row.detail)["verdict"] for row in rows] == ["undecided", "malignant"]
    assert json.loads(rows[0].detail)["submission"] == submission_id
    assert "Smith" not in rows[0].detail


def test_an_image_without_a_result_cannot_be_reviewed(database: Database) -> None:
    """There is nothing to agree or disagree with."""
    _, ids = add_images(database, "-")
    with pytest.raises(NothingToReview):
        sign(database, ids[0])


@pytest.mark.parametrize("action", list(Action))
def test_retention_takes_notes_with_the_names(database: Database, action: Action) -> None:
    """Notes may name whom an image is of. Verdicts stay as long as their results do, and notes of others stay."""
    old, ids = add_images(database, "mu", "ab")
    _, other_ids = add_images(database, "mu", "ac")
    for item_id in (*ids, *other_ids):
        sign(database, item_id, note="Mrs Smith")
    purge(database, Expired(action, submission_id=old), "operator")
    with database.read() as session:
        left = [(review.item_id, review.note) for review in list_reviews(session, None, BEYOND, 50).reviews]
    theirs = [(other_ids[1], "Mrs Smith"), (other_ids[0], "Mrs Smith")]
    # The first image's result is the other submission's, too; the second's was deleted with its last image.
    mine = [(ids[1], ""), (ids[0], "")] if action == Action.ANONYMISE else [(ids[0], "")]
    assert left == theirs + mine
