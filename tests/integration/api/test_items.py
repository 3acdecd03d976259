"""A submission's images: pages, filters, downloads, results by content, models."""

import csv
import io
import json

import pytest
from sqlalchemy import event

from api.item_filter import ItemFilter
from api.items import read_items
from core.bundle import NOTICE
from core.database import Database
from core.paths import path_to_text
from core.progress import count_failures, measure_progress
from core.states import ItemState
from core.tables import Result, Submission, utc_now
from tests.integration.api.server import Api, add_batch, add_items, add_many_items, add_submission

_ODD = ["two\nlines.png", path_to_text(b"caf\xe9.png"), "=1+1.png", 'quo"te,.png', "日本 🔬.png", "\ue000.png"]


def _add_mixed(api: Api) -> str:
    submission_id = add_submission(api.database)
    add_items(
        api.database,
        submission_id,
        [
            {"decision": "benign", "probability": 0.1},
            {"state": ItemState.FAILED, "reason": "corrupt", "detail": "it ends early"},
            {"decision": "malignant", "probability": 0.9},
            {"state": ItemState.SKIPPED, "reason": "cancelled"},
            {"decision": "uncertain", "probability": 0.5},
            {"state": ItemState.FAILED, "reason": "empty_file"},
            {"state": ItemState.PENDING},
            {"state": ItemState.FAILED, "reason": "cancelled"},
        ],
    )
    add_items(api.database, add_submission(api.database), [{"decision": "benign", "probability": 0.2}], first=100)
    return submission_id


def _paths(api: Api, submission_id: str, **query: object) -> list[str]:
    page = api.http.get(f"/v1/submissions/{submission_id}/items", params=query).json()  # type: ignore[arg-type]
    return [item["path"] for item in page["items"]]


def test_item_shows_its_outcome_and_where_it_comes_from(each_api: Api) -> None:
    """A classified image has everything of its result; a failed one its reason and detail."""
    submission_id = _add_mixed(each_api)
    items = each_api.http.get(f"/v1/submissions/{submission_id}/items").json()["items"]
    assert len(items) == 8
    assert items[2] == {
        "id": items[2]["id"],
        "path": "000002.png",
        "path_exact": "000002.png",
        "size": 0,
        "state": "done",
        "decision": "malignant",
        "probability": 0.9,
        "reason": None,
        "detail": None,
        "model_version": "resnet50@1.0.0",
        "engine": "fake",
        "elapsed_ms": 2.5,
        "content_hash": f"{2:064x}",
        "patient": None,
        "slide": None,
        "magnification": None,
        "classified_at": items[2]["classified_at"],
        "verdict": None,
    }
    assert (items[1]["state"], items[1]["reason"], items[1]["detail"]) == ("failed", "corrupt", "it ends early")
    assert items[1]["probability"] is None


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"state": "failed"}, [1, 5, 7]),
        ({"state": "pending"}, [6]),
        ({"decision": "uncertain"}, [4]),
        ({"reason": "cancelled"}, [3, 7]),
        ({"reason": "cancelled", "state": "skipped"}, [3]),
        ({"reason": "cancelled", "limit": 1}, [3]),
        ({"reason": "never_seen"}, []),
        ({"decision": "benign", "state": "failed"}, []),
    ],
)
def test_filters_show_only_what_they_name(each_api: Api, query: dict[str, object], numbers: list[int]) -> None:
    """By state, decision and reason, alone and together, within the submission."""
    submission_id = _add_mixed(each_api)
    assert _paths(each_api, submission_id, **query) == [f"{number:06}.png" for number in numbers]


@pytest.mark.parametrize("query", [{"state": "odd"}, {"decision": "x"}, {"reason": "'; --"}, {"cursor": 2**64}])
def test_filter_that_means_nothing_is_refused(api: Api, query: dict[str, object]) -> None:
    """A typo is no empty page."""
    answer = api.http.get(f"/v1/submissions/{add_submission(api.database)}/items", params=query)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")


def test_pages_of_items_are_stable_while_images_are_added(each_api: Api) -> None:
    """Every image is seen once and in order, though intake adds more between two pages."""
    submission_id = add_submission(each_api.database)
    add_many_items(each_api.database, submission_id, 10)
    seen: list[str] = []
    cursor = "0"
    for turn in range(50):
        page = each_api.http.get(f"/v1/submissions/{submission_id}/items", params={"limit": 3, "cursor": cursor}).json()
        seen += [item["path"] for item in page["items"]]
        if turn < 2:
            add_items(each_api.database, submission_id, [{"path": f"late-{turn}"}])
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == [f"{number:08}.png" for number in range(10)] + ["late-0", "late-1"]


def test_names_of_any_kind_are_readable_and_exact(each_api: Api) -> None:
    """Newlines and bytes that are not UTF-8 are escaped in path, and unchanged in path_exact."""
    submission_id = add_submission(each_api.database)
    add_items(each_api.database, submission_id, [{"path": path} for path in _ODD])
    items = each_api.http.get(f"/v1/submissions/{submission_id}/items").json()["items"]
    assert [item["path_exact"] for item in items] == _ODD
    assert items[0]["path"] == "two\\nlines.png"
    assert items[1]["path"] == "caf\\xe9.png"


def test_csv_download_holds_every_image(each_api: Api) -> None:
    """All images in order, readable by a CSV reader, with the notice on each line and in the headers."""
    submission_id = add_submission(each_api.database)
    add_items(
        each_api.database, submission_id, [{"path": path, "decision": "benign", "probability": 0.25} for path in _ODD]
    )
    answer = each_api.http.get(f"/v1/submissions/{submission_id}/results.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-notice"] == NOTICE
    assert submission_id in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert [row["path_exact"].removeprefix("'") for row in rows] == _ODD
    assert rows[2]["path_exact"] == "'=1+1.png"
    assert {(row["probability"], row["model_version"], row["notice"]) for row in rows} == {
        ("0.25", "resnet50@1.0.0", NOTICE)
    }


def test_jsonl_download_is_filtered_like_the_pages(each_api: Api) -> None:
    """The same filters, the same objects, one a line."""
    submission_id = _add_mixed(each_api)
    text = each_api.http.get(f"/v1/submissions/{submission_id}/results.jsonl", params={"reason": "cancelled"}).text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["path"], line["state"]) for line in lines] == [("000003.png", "skipped"), ("000007.png", "failed")]
    assert {line["notice"] for line in lines} == {NOTICE}


def test_download_reads_in_short_transactions(each_api: Api) -> None:
    """5,000 images take several reads, and no transaction is open while the client takes its time."""
    submission_id = add_submission(each_api.database)
    add_many_items(each_api.database, submission_id, 5000)
    with each_api.http.stream("GET", f"/v1/submissions/{submission_id}/results.csv") as answer:
        pieces = answer.iter_lines()
        next(pieces)
        # The reader holds still; someone else changes the very rows, and the rest of the download sees the change.
        with each_api.database.write() as session:
            session.connection().exec_driver_sql("UPDATE item SET reason = 'changed' WHERE path = '00004999.png'")
        lines = list(pieces)
    assert len(lines) == 5000
    assert len({line.split(",")[1] for line in lines}) == 5000


@pytest.mark.parametrize("name", ["items", "results.csv", "results.jsonl", "results.parquet"])
def test_images_of_an_unknown_submission_are_not_found(api: Api, name: str) -> None:
    """A download that would be empty because there is no such submission says so."""
    answer = api.http.get(f"/v1/submissions/{'0' * 32}/{name}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


def test_results_of_a_content_are_those_of_all_models(each_api: Api) -> None:
    """Newest first; unknown contents are 404, and what is no hash is refused."""
    with each_api.database.write() as session:
        for version in ("a@1.0.0", "a@2.0.0"):
            session.add(
                Result(
                    content_hash="c" * 64,
                    model_version=version,
                    probability=0.75,
                    decision="malignant",
                    engine="fake",
                    elapsed_ms=1,
                )
            )
            session.flush()
    body = each_api.http.get(f"/v1/results/{'c' * 64}").json()
    assert [(result["model_version"], result["probability"]) for result in body["results"]] == [
        ("a@2.0.0", 0.75),
        ("a@1.0.0", 0.75),
    ]
    assert each_api.http.get(f"/v1/results/{'d' * 64}").status_code == 404
    assert each_api.http.get("/v1/results/xyz").status_code == 422


def test_models_tell_which_one_serves(api: Api) -> None:
    """1.10.0 is newer than 1.9.0, and metrics come with how they were found out."""
    models = api.http.get("/v1/models").json()["models"]
    assert [(model["version"], model["serves"]) for model in models] == [("1.10.0", True), ("1.9.0", False)]
    assert models[0]["metrics"][0]["protocol"] == "held-out patients"
    assert models[0]["decision"]["threshold"] == 0.5


def test_status_of_a_large_submission_reads_no_images(each_api: Api) -> None:
    """With 100,000 classified images, no query of the status touches a row of them."""
    submission_id = add_submission(each_api.database)
    add_many_items(each_api.database, submission_id, 100_000, decision="benign")
    add_items(each_api.database, submission_id, [{"state": ItemState.FAILED, "reason": "corrupt"}])
    for _ in range(390):
        add_batch(each_api.database, submission_id, images=256, benign=256)
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements.append((statement, parameters))

    event.listen(each_api.database.engine, "before_cursor_execute", note)
    with each_api.database.read() as session:
        submission = session.get_one(Submission, submission_id)
        progress = measure_progress(session, submission, utc_now())
    event.remove(each_api.database.engine, "before_cursor_execute", note)
    assert progress.counts.benign == 390 * 256
    assert not any("FROM item" in statement for statement, _ in statements)


@pytest.mark.parametrize(
    "which",
    [
        ItemFilter(),
        ItemFilter(state=ItemState.FAILED),
        ItemFilter(decision="malignant"),
        ItemFilter(reason="corrupt"),
        ItemFilter(reason="corrupt", state=ItemState.FAILED),
        ItemFilter(min_probability=0.5, model="m@1.0.0"),
    ],
)
def test_queries_of_images_walk_an_index(sqlite: Database, which: ItemFilter) -> None:
    """Pages under every filter, and the reasons, search an index by submission; none scans or sorts images."""
    submission_id = add_submission(sqlite)
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "FROM item" in statement:
            statements.append((statement, parameters))

    event.listen(sqlite.engine, "before_cursor_execute", note)
    with sqlite.read() as session:
        read_items(session, submission_id, which, 0, 100)
        count_failures(session, submission_id)
    event.remove(sqlite.engine, "before_cursor_execute", note)
    assert len(statements) >= 2
    with sqlite.engine.connect() as connection:
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
            steps = [str(row[3]) for row in plan]
            (items,) = [step for step in steps if " item " in step]
            if "GROUP BY" in statement:
                assert items.startswith("SEARCH item USING COVERING INDEX ix_item_reason"), steps
            else:
                assert items.replace("COVERING ", "").startswith("SEARCH item USING INDEX ix_item_"), steps
            if "ORDER BY item.id" in statement:
                assert not any("TEMP B-TREE" in step for step in steps), steps
