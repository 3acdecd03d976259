"""Lanes: what waits in them and for whom, pausing one and letting it go on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from core.bundle import NOTICE
from core.database import Database
from core.lanes import Lane
from core.settings import Settings
from core.states import BatchState
from core.tables import LaneControl, utc_now
from tests.integration.api.server import Api, add_batch, add_submission, audited, running


def _lane(api: Api, name: str) -> dict[str, object]:
    answer = api.http.get("/v1/lanes")
    assert answer.status_code == 200
    assert answer.json()["notice"] == NOTICE
    (found,) = (lane for lane in answer.json()["lanes"] if lane["lane"] == name)
    return dict(found)


def test_lanes_tell_what_waits_and_runs(each_api: Api) -> None:
    """Batches and images that wait, those of them at the broker, those in hand, and the age of the oldest."""
    database = each_api.database
    submission_id = add_submission(database, submitter="anna")
    hour_ago = utc_now() - timedelta(hours=1)
    for images, sent_at, created_at in ((10, None, utc_now()), (20, None, hour_ago), (30, utc_now(), utc_now())):
        add_batch(
            database, submission_id, images=images, state=BatchState.QUEUED, sent_at=sent_at, created_at=created_at
        )
    add_batch(database, submission_id, images=40, state=BatchState.RUNNING, sent_at=utc_now())
    add_batch(database, submission_id, images=50, benign=50)
    found = _lane(each_api, "bulk")
    assert (found["waiting"], found["at_broker"], found["running"], found["waiting_images"]) == (3, 1, 1, 60)
    assert found["oldest_s"] == pytest.approx(3600, abs=60)
    assert found["submitters"] == [{"submitter": "anna", "waiting_images": 60, "weight": 1.0}]
    assert (found["paused_at"], found["paused_by"]) == (None, None)


def test_lanes_come_in_the_order_in_which_workers_look(each_api: Api) -> None:
    """All of them, empty ones too."""
    found = each_api.http.get("/v1/lanes").json()["lanes"]
    assert [(lane["lane"], lane["waiting"], lane["oldest_s"]) for lane in found] == [
        ("urgent", 0, 0),
        ("bulk", 0, 0),
        ("nightly", 0, 0),
    ]


def test_submitters_come_with_their_weights_and_most_images_first(api_settings: Settings, sqlite: Database) -> None:
    """Over all their submissions in this lane, with the weight of the settings, or 1."""
    for submitter, lane, images in (
        ("anna", Lane.BULK, 5),
        ("anna", Lane.BULK, 6),
        ("ben", Lane.BULK, 10),
        ("ben", Lane.URGENT, 99),
    ):
        submission_id = add_submission(sqlite, submitter=submitter, lane=lane)
        add_batch(sqlite, submission_id, images=images, lane=lane, state=BatchState.QUEUED)
    with running(api_settings.model_copy(update={"shares": {"ben": 2.5}}), sqlite) as api:
        assert _lane(api, "bulk")["submitters"] == [
            {"submitter": "anna", "waiting_images": 11, "weight": 1.0},
            {"submitter": "ben", "waiting_images": 10, "weight": 2.5},
        ]


def test_at_most_fifty_submitters_are_told(each_api: Api) -> None:
    """Names come from outside, so there may be any number of them: those with most images are shown."""
    for number in range(60):
        submission_id = add_submission(each_api.database, submitter=f"s{number:02}")
        add_batch(each_api.database, submission_id, images=number + 1, state=BatchState.QUEUED)
    submitters = _lane(each_api, "bulk")["submitters"]
    assert isinstance(submitters, list)
    assert [entry["submitter"] for entry in submitters] == [f"s{number:02}" for number in range(59, 9, -1)]


def test_pausing_is_recorded_once_whoever_asks_again(each_api: Api) -> None:
    """The first to pause is named with the moment; a second pause changes nothing and leaves no audit entry."""
    before = utc_now()
    first = each_api.http.post("/v1/lanes/nightly/pause")
    again = each_api.http.post("/v1/lanes/nightly/pause")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["paused_by"] == "api"
    assert before <= datetime.fromisoformat(first.json()["paused_at"]) <= utc_now()
    assert again.json()["paused_at"] == first.json()["paused_at"]
    assert audited(each_api.database) == [("api", "lane.pause", "nightly")]
    with each_api.database.read() as session:
        paused = {lane: session.get_one(LaneControl, lane).paused_at is not None for lane in Lane}
    assert paused == {Lane.URGENT: False, Lane.BULK: False, Lane.NIGHTLY: True}


def test_resuming_is_recorded_once(each_api: Api) -> None:
    """A lane that runs already stays as it is; one that was paused runs again."""
    running_already = each_api.http.post("/v1/lanes/bulk/resume")
    assert (running_already.status_code, running_already.json()["paused_at"]) == (200, None)
    each_api.http.post("/v1/lanes/bulk/pause")
    for _ in range(2):
        answer = each_api.http.post("/v1/lanes/bulk/resume")
        assert (answer.status_code, answer.json()["paused_at"], answer.json()["paused_by"]) == (200, None, None)
    assert audited(each_api.database) == [("api", "lane.pause", "bulk"), ("api", "lane.resume", "bulk")]


def test_race_to_pause_a_lane_has_one_winner(each_api: Api) -> None:
    """Eight at once: all are told that it is paused, and the audit names one."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: each_api.http.post("/v1/lanes/bulk/pause"), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["paused_at"] for answer in answers}) == 1
    assert audited(each_api.database) == [("api", "lane.pause", "bulk")]


def test_who_paused_is_the_name_that_was_shown_with_the_token(api_settings: Settings, sqlite: Database) -> None:
    """The Basic user name is recorded, as it is with submissions."""
    settings = api_settings.model_copy(update={"api_token": SecretStr("secret")})
    with running(settings, sqlite) as api:
        assert api.http.post("/v1/lanes/bulk/pause").status_code == 401
        assert api.http.post("/v1/lanes/bulk/pause", auth=("anna", "secret")).json()["paused_by"] == "anna"
    assert audited(sqlite) == [("anna", "lane.pause", "bulk")]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_lane_that_is_none_is_refused(api: Api, action: str) -> None:
    """The answer names those that are."""
    answer = api.http.post(f"/v1/lanes/fast/{action}")
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")
    assert "nightly" in answer.json()["detail"]
