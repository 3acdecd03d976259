"""Images by patient, slide, magnification, model, probability and time, in one submission and over all."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, update
from sqlmodel import col

from api.item_filter import ItemFilter
from api.item_search import search_items
from core.archive_tables import Archive, ArchiveFile
from core.database import Database
from core.states import ItemState
from core.tables import Result, utc_now
from tests.integration.api.server import Api, add_items, add_submission

_START = datetime(2026, 11, 1, tzinfo=UTC)


def _add_night(database: Database, first: int = 0) -> tuple[str, list[int]]:
    """Four images of two patients, classified one hour after the other, and one that failed."""
    submission_id = add_submission(database)
    ids = add_items(
        database,
        submission_id,
        [
            {"patient": "14-1", "slide": "14-1A", "magnification": "40", "decision": "benign", "probability": 0.1},
            {"patient": "14-1", "slide": "14-1B", "magnification": "400", "decision": "malignant", "probability": 0.9},
            {"patient": "14-2", "slide": "14-2A", "magnification": "40", "decision": "malignant", "probability": 0.8},
            {"decision": "uncertain", "probability": 0.5},
            {"patient": "14-1", "slide": "14-1A", "state": ItemState.FAILED, "reason": "corrupt"},
        ],
        first=first,
    )
    with database.write() as session:
        for number in range(4):
            made = {"created_at": _START + timedelta(hours=number), "model_version": f"m@{number // 2}.0.0"}
            hashed = f"{first + number:064x}"
            session.execute(update(Result).where(col(Result.content_hash) == hashed).values(**made))
    return submission_id, ids


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"patient": "14-1"}, [0, 1, 4]),
        ({"patient": "14-1", "slide": "14-1A", "state": "done"}, [0]),
        ({"magnification": "40"}, [0, 2]),
        ({"model": "m@1.0.0"}, [2, 3]),
        ({"min_probability": 0.5, "max_probability": 0.8}, [2, 3]),
        ({"after": "2026-11-01T01:00:00Z", "before": "2026-11-01T04:00:00+01:00"}, [1, 2]),
        ({"patient": "14"}, []),
        ({"patient": ""}, [0, 1, 2, 3, 4]),
    ],
)
def test_filters_know_patients_models_probabilities_and_times(
    each_api: Api, query: dict[str, object], numbers: list[int]
) -> None:
    """Each alone and together; bounds of probability and the earlier moment are included, the later one is not."""
    submission_id, ids = _add_night(each_api.database)
    page = each_api.http.get(f"/v1/submissions/{submission_id}/items", params=query).json()  # type: ignore[arg-type]
    assert [item["id"] for item in page["items"]] == [ids[number] for number in numbers]
    lines = each_api.http.get(f"/v1/submissions/{submission_id}/results.jsonl", params=query)  # type: ignore[arg-type]
    assert len(lines.text.splitlines()) == len(numbers)


def test_a_page_looks_at_a_bounded_number_of_images(each_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare images are all found, over pages that may be empty; the download needs no pages to find them."""
    monkeypatch.setattr("api.items._WINDOW", 4)
    submission_id = add_submission(each_api.database)
    images: list[dict[str, object]] = [{"decision": "benign", "probability": 0.1} for _ in range(30)]
    for number in (13, 14, 29):
        images[number]["probability"] = 0.9
    ids = add_items(each_api.database, submission_id, images)
    query: dict[str, object] = {"min_probability": 0.5, "limit": 1}
    sizes = []
    found: list[int] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = each_api.http.get(
            f"/v1/submissions/{submission_id}/items",
            params={**query, "cursor": cursor},  # type: ignore[dict-item]
        ).json()
        sizes.append(len(page["items"]))
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == [ids[number] for number in (13, 14, 29)]
    assert sizes[:3] == [0, 0, 0]
    lines = each_api.http.get(f"/v1/submissions/{submission_id}/results.jsonl", params={"min_probability": 0.5})
    assert len(lines.text.splitlines()) == 3


@pytest.mark.parametrize(
    "query",
    [{"min_probability": 1.5}, {"after": "yesterday"}, {"after": "2026-11-01T00:00:00"}, {"patient": "a\0b"}],
    ids=["no probability", "no moment", "no time zone", "NUL"],
)
def test_a_filter_that_cannot_be_meant_is_refused(api: Api, query: dict[str, object]) -> None:
    """A moment without a zone would be taken for another one."""
    answer = api.http.get(f"/v1/submissions/{add_submission(api.database)}/items", params=query)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")


def _found(api: Api, **query: object) -> list[int]:
    """Ids by search, over all pages of two."""
    found: list[int] = []
    cursor: dict[str, object] = {}
    while True:
        answer = api.http.get("/v1/items", params={"limit": 2, **query, **cursor})  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def _add_archive(database: Database, item_ids: list[int], gone: list[int]) -> None:
    with database.write() as session:
        archive = Archive(name="north", root="/archive")
        session.add(archive)
        session.flush()
        for number, item_id in enumerate(reversed(item_ids)):
            deleted_at = utc_now() if item_id in gone else None
            session.add(
                ArchiveFile(
                    archive_id=archive.id,
                    folder_id=1,
                    name=f"{number}.png",
                    size=1,
                    mtime_ns=1,
                    item_id=item_id,
                    deleted_at=deleted_at,
                )
            )
            session.flush()


def test_search_finds_images_of_all_submissions(each_api: Api) -> None:
    """By patient, by slide, by decision since a moment, and of an archive's files that are there now; in pages."""
    _, first = _add_night(each_api.database)
    second_id, second = _add_night(each_api.database, first=100)
    _add_archive(each_api.database, first, gone=[first[1]])
    assert _found(each_api, patient="14-1") == [first[0], first[1], first[4], second[0], second[1], second[4]]
    assert _found(each_api, slide="14-1A", state="done") == [first[0], second[0]]
    assert _found(each_api, archive="north") == [first[4], first[3], first[2], first[0]]
    assert _found(each_api, archive="north", patient="14-1") == [first[0], first[4]]
    since = {"decision": "malignant", "after": "2026-11-01T01:00:00Z"}
    assert _found(each_api, **since) == [first[1], second[1], first[2], second[2]]
    assert _found(each_api, **since, before="2026-11-01T02:00:00Z") == [first[1], second[1]]
    last = each_api.http.get("/v1/items", params={"patient": "14-2"}).json()["items"][-1]
    assert (last["submission_id"], last["path"], last["slide"]) == (second_id, "000102.png", "14-2A")


@pytest.mark.parametrize("query", [{}, {"decision": "malignant"}, {"after": "2026-11-01T00:00:00Z"}, {"cursor": "x"}])
def test_search_for_everything_is_refused(api: Api, query: dict[str, str]) -> None:
    """A search that no index narrows down would read every image there is."""
    answer = api.http.get("/v1/items", params=query)
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")
    assert api.http.get("/v1/items", params={"archive": "none"}).status_code == 404


@pytest.mark.parametrize(
    ("which", "archive", "index"),
    [
        (ItemFilter(patient="a"), None, "ix_item_any_patient"),
        (ItemFilter(slide="a"), None, "ix_item_any_slide"),
        (ItemFilter(decision="malignant", after=_START), None, "ix_result_decision"),
        (ItemFilter(), "north", "ix_archive_file_there"),
    ],
    ids=["patient", "slide", "decision", "archive"],
)
def test_searches_walk_an_index(sqlite: Database, which: ItemFilter, archive: str | None, index: str) -> None:
    """None reads all images; none sorts more than what shares one moment."""
    _, ids = _add_night(sqlite)
    _add_archive(sqlite, ids, [])
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "FROM item" in statement:
            statements.append((statement, parameters))

    event.listen(sqlite.engine, "before_cursor_execute", note)
    with sqlite.read() as session:
        search_items(session, which, archive, None, 10)
    event.remove(sqlite.engine, "before_cursor_execute", note)
    ((statement, parameters),) = statements
    with sqlite.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
        steps = [str(row[3]) for row in plan]
    assert index in steps[0], steps
    assert not any(step.startswith("SCAN") for step in steps), steps
    assert all("RIGHT PART" in step for step in steps if "TEMP B-TREE" in step), steps
