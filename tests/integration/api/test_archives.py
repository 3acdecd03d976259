"""Archives over HTTP: defining, showing, changing and removing them."""

from pathlib import Path

import pytest
from sqlmodel import select

from core.archive_tables import Archive, Scan
from core.bundle import NOTICE
from core.settings import Settings
from core.states import ScanState, SubmissionState
from core.tables import Submission, utc_now
from tests.integration.api.server import Api, add_submission, audited, running

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


def _define(api: Api, name: str = "north", **values: object) -> dict[str, object]:
    answer = api.http.post("/v1/archives", json={"name": name, "root": _root(api)} | values)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def _root(api: Api) -> str:
    return str(api.settings.roots[0])


def _stored(api: Api, name: str = "north") -> Archive:
    with api.database.read() as session:
        return session.exec(select(Archive).where(Archive.name == name)).one()


def add_scan(api: Api, name: str = "north", **values: object) -> str:
    """Record a scan as a worker leaves it; returns its id."""
    submission_id = add_submission(api.database, source="archive", state=SubmissionState.RUNNING)
    with api.database.write() as session:
        archive = session.exec(select(Archive).where(Archive.name == name)).one()
        scan = Scan(archive_id=archive.id, submission_id=submission_id, asked_by="schedule", **values)
        session.add(scan)
    return scan.id


def test_an_archive_is_defined_and_shown(each_api: Api) -> None:
    """The answer has its address, what was left out has its default, and when its schedule fires is said."""
    made = _define(each_api, schedule="0 22 * * *", time_zone="Europe/Berlin", window="22:00-06:00")
    answer = each_api.http.get("/v1/archives/north")
    assert answer.status_code == 200
    shown = answer.json()
    assert made == shown | {"new_webhook_secret": None}
    assert (shown["root"], shown["lane"], shown["model"]) == (_root(each_api), "nightly", "newest")
    assert shown["next_at"][:19] == _stored(each_api).next_at.isoformat()[:19]
    assert shown["last_scan"] is None
    assert shown["notice"] == NOTICE
    assert audited(each_api.database) == [("api", "archive.create", "north")]


def test_archives_are_listed_by_name_page_by_page(each_api: Api) -> None:
    """Each with the scan that began last."""
    for name in ("c", "a", "b"):
        _define(each_api, name)
    add_scan(each_api, "a", state=ScanState.DONE, new=7, finished_at=utc_now())
    newest = add_scan(each_api, "a", state=ScanState.RUNNING, seen=3)
    first = each_api.http.get("/v1/archives", params={"limit": 2}).json()
    assert [archive["name"] for archive in first["archives"]] == ["a", "b"]
    last = first["archives"][0]["last_scan"]
    assert (last["id"], last["archive"], last["seen"]) == (newest, "a", 3)
    second = each_api.http.get("/v1/archives", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [archive["name"] for archive in second["archives"]] == ["c"]
    assert second["next_cursor"] is None


def test_what_is_probably_not_meant_is_said(api: Api) -> None:
    """It is allowed all the same."""
    _define(api)
    made = _define(api, "twin", schedule="0 12 * * *", window="22:00-06:00")
    assert len(made["doubts"]) == 2


@pytest.mark.parametrize(
    ("values", "status", "reason", "says"),
    [
        ({"root": "/etc"}, 403, "folder_not_allowed", "HISTOBATCH_ROOTS"),
        ({"root": "{root}/gone"}, 404, "folder_missing", "mounted"),
        ({"schedule": "0 0 31 2 *"}, 422, "request_invalid", "never fires"),
        ({"window": "22:00-22:00"}, 422, "request_invalid", "no length"),
        ({"time_zone": "Berlin"}, 422, "request_invalid", "no time zone"),
        ({"name": "North"}, 422, "request_invalid", "a name is"),
        ({"schedul": "0 22 * * *"}, 422, "request_invalid", "schedul"),
        ({"webhook": {"url": "file:///etc/passwd"}}, 422, "request_invalid", "http"),
    ],
)
def test_a_bad_definition_is_refused(api: Api, values: dict[str, object], status: int, reason: str, says: str) -> None:
    """One clear sentence, and nothing is stored."""
    values = {key: value.replace("{root}", _root(api)) if key == "root" else value for key, value in values.items()}
    answer = api.http.post("/v1/archives", json={"name": "north", "root": _root(api)} | values)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert says in answer.json()["detail"]
    assert "Value error" not in answer.json()["detail"]
    assert api.http.get("/v1/archives").json()["archives"] == []


def test_a_name_is_given_once(each_api: Api) -> None:
    """The second one is told."""
    _define(each_api)
    answer = each_api.http.post("/v1/archives", json={"name": "north", "root": _root(each_api)})
    assert (answer.status_code, answer.json()["reason"]) == (409, "archive_exists")


def test_a_secret_is_shown_once_or_never(api: Api) -> None:
    """One that was made here is in the answer that made it; one that was given is in none."""
    made = _define(api, webhook={"url": "https://hospital.example/a"})
    assert made["new_webhook_secret"].startswith("whsec_")
    assert _stored(api).webhook_secret == made["new_webhook_secret"]
    given = _define(api, "south", webhook={"url": "https://hospital.example/a", "secret": SECRET})
    assert given["new_webhook_secret"] is None
    texts = [api.http.get(path).text for path in ("/v1/archives", "/v1/archives/north", "/v1/archives/south")]
    assert not any(secret in text for text in texts for secret in (SECRET, made["new_webhook_secret"]))


def test_fields_are_changed_one_by_one(each_api: Api) -> None:
    """What is left out stays, null empties a field, and a new address of a webhook keeps its secret."""
    _define(each_api, schedule="0 22 * * *", webhook={"url": "https://hospital.example/a", "secret": SECRET})
    changes = {"window": "22:00-06:00", "webhook": {"url": "https://hospital.example/b"}}
    answer = each_api.http.patch("/v1/archives/north", json=changes)
    assert answer.status_code == 200
    assert answer.json()["new_webhook_secret"] is None
    stored = _stored(each_api)
    assert (stored.schedule, stored.window_start, stored.webhook_secret) == ("0 22 * * *", "22:00", SECRET)
    assert stored.webhook_url == "https://hospital.example/b"
    emptied = each_api.http.patch("/v1/archives/north", json={"schedule": None, "webhook": None}).json()
    assert (emptied["schedule"], emptied["next_at"], emptied["webhook_url"]) == (None, None, None)
    assert _stored(each_api).webhook_secret is None
    assert [action for _, action, _ in audited(each_api.database)] == ["archive.create"] + ["archive.change"] * 2


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"name": "south"}, 422, "name"),
        ({"time_zone": None}, 422, "time_zone"),
        ({"window": "1-2"}, 422, "two times"),
        ({"root": "/etc"}, 403, "allowed"),
        ({"webhook": {"url": "https://h", "secret": "hunter2"}}, 422, "whsec_"),
    ],
)
def test_a_bad_change_changes_nothing(api: Api, change: dict[str, object], status: int, says: str) -> None:
    """It is judged as a whole definition is."""
    _define(api)
    before = api.http.get("/v1/archives/north").json()
    answer = api.http.patch("/v1/archives/north", json=change)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert "hunter2" not in answer.text
    assert api.http.get("/v1/archives/north").json() == before


def test_storage_that_is_away_stops_no_other_change(api: Api) -> None:
    """Switching an archive off must work when its storage is gone for good."""
    folder = Path(_root(api)) / "disk"
    folder.mkdir()
    _define(api, root=str(folder))
    folder.rmdir()
    assert api.http.patch("/v1/archives/north", json={"enabled": False}).json()["enabled"] is False


def test_a_definition_that_became_wrong_is_shown_and_can_be_mended(api: Api) -> None:
    """A time zone, for instance, may be abolished; the list of all archives must not fail for it."""
    _define(api, schedule="0 22 * * *", window="22:00-06:00")
    with api.database.write() as session:
        session.exec(select(Archive)).one().time_zone = "Mars/Olympus"
    (shown,) = api.http.get("/v1/archives").json()["archives"]
    assert "no time zone" in shown["doubts"][0]
    assert shown["window_open"] is False
    assert api.http.patch("/v1/archives/north", json={"time_zone": "UTC"}).json()["doubts"] == []


def test_an_archive_of_the_file_is_changed_there(api: Api) -> None:
    """Otherwise the file would have its way again ten seconds later."""
    _define(api)
    with api.database.write() as session:
        session.exec(select(Archive)).one().defined_by = "file"
    for answer in (
        api.http.patch("/v1/archives/north", json={"enabled": False}),
        api.http.delete("/v1/archives/north"),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (409, "defined_by_file")


def test_faults_of_the_file_are_listed(api: Api, api_settings: Settings, tmp_path: Path) -> None:
    """Whoever looks at the archives sees that the file is not used, and why."""
    path = tmp_path / "archives.toml"
    settings = api_settings.model_copy(update={"archives_file": path})
    with running(settings, api.database) as opened:
        path.write_text("[archives.A]\nroot = 'x'\n")
        assert len(opened.http.get("/v1/archives").json()["file_faults"]) == 2
        path.write_text("")
        assert opened.http.get("/v1/archives").json()["file_faults"] == []


def test_a_removed_archive_is_gone_and_its_images_are_not(each_api: Api) -> None:
    """Its scans are gone with it; their submissions stay. Not while a scan runs."""
    _define(each_api)
    scan_id = add_scan(each_api)
    refused = each_api.http.delete("/v1/archives/north")
    assert (refused.status_code, refused.json()["reason"]) == (409, "scan_running")
    assert scan_id in refused.json()["detail"]
    with each_api.database.write() as session:
        scan = session.get_one(Scan, scan_id)
        scan.state = ScanState.DONE
    assert each_api.http.delete("/v1/archives/north").status_code == 204
    assert each_api.http.get("/v1/archives/north").status_code == 404
    with each_api.database.read() as session:
        assert session.get(Scan, scan_id) is None
        assert session.get(Submission, scan.submission_id) is not None


@pytest.mark.parametrize("name", ["nothing", "No", "%00", "a" * 100])
def test_an_archive_that_is_not_there(api: Api, name: str) -> None:
    """Every address of it answers 404."""
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", "")):
        answer = api.http.request(method, f"/v1/archives/{name}{path}", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")
