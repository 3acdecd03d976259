"""Patients and slides: what their images say together."""

import csv
import io
import math

import pytest
from sqlalchemy import event, update

from core.archive_tables import Archive, ArchiveFile
from core.bundle import NOTICE
from core.database import Database
from core.rollup import Extent, Grouping, read_rollups
from core.states import ItemState
from core.tables import Result, utc_now
from tests.integration.api.server import Api, add_items, add_submission


def _image(patient: str | None, slide: str | None, probability: float | None, **values: object) -> dict[str, object]:
    if probability is None:
        outcome: dict[str, object] = {"state": ItemState.FAILED, "reason": "corrupt"}
    else:
        word = "benign" if probability < 0.4 else "malignant" if probability > 0.6 else "uncertain"
        outcome = {"decision": word, "probability": probability}
    return {"patient": patient, "slide": slide} | outcome | values


_IMAGES = [
    _image("14-2", "14-2A", 0.9),
    _image("14-1", "14-1B", 0.9),
    _image("14-1", "14-1A", 0.1),
    _image("14-1", "14-1A", 0.8),
    _image(None, None, 0.2),
    _image("14-1", None, 0.2),
    _image("14-2", "14-2A", None),
    _image("14-3", "14-3A", None),
]


@pytest.fixture
def night(each_api: Api) -> str:
    submission_id = add_submission(each_api.database)
    add_items(each_api.database, submission_id, _IMAGES)
    add_items(each_api.database, add_submission(each_api.database), [_image("14-1", "14-1A", 0.99)], first=100)
    return submission_id


def _serve_stored_model(api: Api) -> None:
    """Say that the results come from the model whose bundle the API has: band 0.4 to 0.6, threshold 0.5."""
    with api.database.write() as session:
        session.execute(update(Result).values(model_version="resnet50@1.10.0"))


def _groups(api: Api, address: str, **query: object) -> list[dict[str, object]]:
    answer = api.http.get(address, params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["notice"] == NOTICE
    return list(body["groups"])


def test_patients_take_their_images_together(each_api: Api, night: str) -> None:
    """Counts, share, mean, decision by the model's rule, spread and dissent; images without a patient come last."""
    _serve_stored_model(each_api)
    groups = _groups(each_api, f"/v1/submissions/{night}/patients")
    assert [group["patient"] for group in groups] == ["14-1", "14-2", "14-3", None]
    one, two, three, rest = groups
    # Mean of 0.9, 0.1, 0.8 and 0.2: within the abstain band, although no image of it is uncertain.
    assert one == {
        "patient": "14-1",
        "slide": None,
        "images": 4,
        "classified": 4,
        "benign": 2,
        "malignant": 2,
        "uncertain": 0,
        "share_malignant": 0.5,
        "mean_probability": pytest.approx(0.5),
        "decision": "uncertain",
        "decided_by": "rule",
        "deviation": pytest.approx(math.sqrt((0.16 + 0.16 + 0.09 + 0.09) / 4)),
        "dissent": 1.0,
        "model_version": "resnet50@1.10.0",
    }
    assert (two["images"], two["classified"], two["decision"], two["dissent"]) == (2, 1, "malignant", 0)
    assert (three["images"], three["decision"], three["mean_probability"], three["decided_by"]) == (1, None, None, None)
    assert (rest["images"], rest["decision"]) == (1, "benign")


def test_slides_are_apart(each_api: Api, night: str) -> None:
    """A slide's images only; those without a slide, or without a patient, are the last group."""
    _serve_stored_model(each_api)
    groups = _groups(each_api, f"/v1/submissions/{night}/slides")
    assert [(group["patient"], group["slide"], group["images"]) for group in groups] == [
        ("14-1", "14-1A", 2),
        ("14-1", "14-1B", 1),
        ("14-2", "14-2A", 2),
        ("14-3", "14-3A", 1),
        (None, None, 2),
    ]


def test_without_the_bundle_images_vote(each_api: Api, night: str) -> None:
    """A rule that is not at hand is not made up: the most frequent decision counts, and the answer says so."""
    groups = _groups(each_api, f"/v1/submissions/{night}/patients")
    assert [(group["decision"], group["decided_by"]) for group in groups] == [
        ("uncertain", "majority"),
        ("malignant", "majority"),
        (None, None),
        ("benign", "majority"),
    ]


@pytest.mark.parametrize("name", ["patients", "slides"])
def test_pages_of_groups_join_without_a_seam(each_api: Api, night: str, name: str) -> None:
    """Pages of one hold together what one large page holds."""
    address = f"/v1/submissions/{night}/{name}"
    whole = _groups(each_api, address)
    pieces = []
    cursor: dict[str, str] = {}
    while True:
        body = each_api.http.get(address, params={"limit": 1, **cursor}).json()
        pieces += body["groups"]
        if body["next_cursor"] is None:
            break
        cursor = {"cursor": body["next_cursor"]}
    assert pieces == whole


def test_a_cursor_of_something_else_is_refused(api: Api) -> None:
    """Neither a defect nor a first page."""
    address = f"/v1/submissions/{add_submission(api.database)}/patients"
    for cursor in ("x", "WzFd", "WyJhIiwiYiJd", "WyJhXHUwMDAwIl0="):
        answer = api.http.get(address, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")


def test_csv_has_all_groups(each_api: Api, night: str) -> None:
    """One line a group, the notice on each, and no cell that a spreadsheet would run."""
    add_items(each_api.database, night, [_image("=1+1", "@s", 0.9)], first=50)
    for name in ("patients", "slides"):
        answer = each_api.http.get(f"/v1/submissions/{night}/{name}.csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
        whole = _groups(each_api, f"/v1/submissions/{night}/{name}")
        assert [int(row["images"]) for row in rows] == [group["images"] for group in whole]
        assert {row["notice"] for row in rows} == {NOTICE}
        assert [row["patient"] for row in rows if row["patient"].endswith("=1+1")] == ["'=1+1"]


def _add_archive(database: Database, item_ids: list[int], gone: int) -> None:
    with database.write() as session:
        archive = Archive(name="north", root="/archive")
        session.add(archive)
        session.flush()
        for item_id in item_ids:
            session.add(
                ArchiveFile(
                    archive_id=archive.id,
                    folder_id=1,
                    name=f"{item_id}.png",
                    size=1,
                    mtime_ns=1,
                    item_id=item_id,
                    deleted_at=utc_now() if item_id == gone else None,
                )
            )


def test_an_archives_patients_are_those_of_its_present_files(each_api: Api) -> None:
    """Over all scans; deleted files do not count, nor do images that other submissions have of a patient."""
    first = add_items(each_api.database, add_submission(each_api.database), _IMAGES[:4])
    second = add_items(each_api.database, add_submission(each_api.database), [_image("14-1", "x", 0.3)], first=50)
    add_items(each_api.database, add_submission(each_api.database), [_image("14-1", "x", 0.3)], first=60)
    _add_archive(each_api.database, first + second, gone=first[0])
    groups = _groups(each_api, "/v1/archives/north/patients")
    assert [(group["patient"], group["images"]) for group in groups] == [("14-1", 4)]
    assert each_api.http.get("/v1/archives/north/patients.csv").text.count("14-1") == 1
    slides = [(group["slide"], group["images"]) for group in _groups(each_api, "/v1/archives/north/slides")]
    assert slides == [("14-1A", 2), ("14-1B", 1), ("x", 1)]
    assert "14-1B" in each_api.http.get("/v1/archives/north/slides.csv").text
    assert each_api.http.get("/v1/archives/south/patients").status_code == 404


@pytest.mark.parametrize(
    ("grouping", "is_archive", "index"),
    [
        (Grouping.PATIENT, False, "ix_item_patient"),
        (Grouping.SLIDE, False, "ix_item_patient"),
        (Grouping.PATIENT, True, "ix_item_any_patient"),
    ],
    ids=["patients", "slides", "archive"],
)
def test_a_page_of_groups_reads_its_images_only(
    sqlite: Database, grouping: Grouping, is_archive: bool, index: str
) -> None:
    """The database walks an index in the order of the groups and stops where the page is full: it sorts nothing."""
    ids = add_items(sqlite, add_submission(sqlite), _IMAGES)
    _add_archive(sqlite, ids, 0)
    extent = Extent(archive_id="a") if is_archive else Extent(submission_id="s", grouping=grouping)
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "GROUP BY" in statement:
            statements.append((statement, parameters))

    event.listen(sqlite.engine, "before_cursor_execute", note)
    with sqlite.read() as session:
        read_rollups(session, extent, {}, ("14-1", "14-1A")[: 1 if grouping == Grouping.PATIENT else 2], 10)
    event.remove(sqlite.engine, "before_cursor_execute", note)
    ((statement, parameters),) = statements
    with sqlite.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
        steps = [str(row[3]) for row in plan]
    assert f"INDEX {index} " in steps[0], steps
    assert not any("TEMP B-TREE" in step or step.startswith("SCAN") for step in steps), steps
