"""Submissions that wait, for storage or for room: what is told of them, and trying one now."""

import time
from datetime import datetime, timedelta

import pytest
from redis import Redis

from core.errors import Reason
from core.lanes import CONTROL_QUEUE
from core.states import BatchState, SubmissionState
from core.tables import Submission, utc_now
from tests.integration.api.server import Api, add_batch, add_parked, add_submission, audited


def _row(api: Api, submission_id: str) -> Submission:
    with api.database.read() as session:
        return session.get_one(Submission, submission_id)


def _wait_for_intake(api: Api, submission_id: str) -> None:
    client = Redis.from_url(api.settings.redis_url)
    deadline = time.monotonic() + 20
    while not any(submission_id.encode() in message for message in client.lrange(CONTROL_QUEUE, 0, -1)):
        # Celery puts the arguments into the body in base64; the header repeats them readably.
        assert time.monotonic() < deadline, "no message reached the broker"
        time.sleep(0.01)


def _put_off(api: Api, reason: Reason = Reason.QUEUE_FULL) -> str:
    return add_submission(
        api.database,
        state=SubmissionState.ACCEPTED,
        reason=reason,
        detail="10 images wait already",
        retry_at=utc_now() + timedelta(seconds=30),
    )


def test_parked_submission_tells_why_and_until_when(each_api: Api) -> None:
    """Reason, detail and the next try, on its own and in lists; it is not over."""
    submission_id = add_parked(each_api.database)
    shown = each_api.http.get(f"/v1/submissions/{submission_id}").json()
    (listed,) = each_api.http.get("/v1/submissions", params={"state": "parked"}).json()["submissions"]
    for body in (shown, listed):
        assert (body["state"], body["reason"], body["detail"], body["finished_at"]) == (
            "parked",
            "storage_away",
            "the worker sees no such folder",
            None,
        )
        assert datetime.fromisoformat(body["retry_at"]) == _row(each_api, submission_id).retry_at


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("state", [SubmissionState.PARKED, SubmissionState.CANCELLED])
def test_listed_is_told_by_what_happened_and_not_by_the_state(each_api: Api, state: str, is_listed: bool) -> None:
    """A submission may be parked, or ended, before or after all its images were known."""
    submission_id = add_submission(each_api.database, state=state, listed_at=utc_now() if is_listed else None)
    assert each_api.http.get(f"/v1/submissions/{submission_id}").json()["listed"] is is_listed


def test_eta_of_a_parked_submission_needs_its_listing(each_api: Api) -> None:
    """Where images may still be found, no end is in sight."""
    for listed_at in (None, utc_now()):
        submission_id = add_parked(each_api.database, listed_at=listed_at)
        add_batch(each_api.database, submission_id, images=100, benign=100)
        add_batch(each_api.database, submission_id, images=100, state=BatchState.QUEUED)
        body = each_api.http.get(f"/v1/submissions/{submission_id}").json()
        assert (body["eta_s"] is not None) == (listed_at is not None)


def test_retry_of_an_unlisted_parked_submission_has_it_listed_now(each_api: Api) -> None:
    """It is accepted again, nothing keeps it any more, a message goes out, and the audit knows."""
    submission_id = add_parked(each_api.database)
    answer = each_api.http.post(f"/v1/submissions/{submission_id}/retry")
    assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert (answer.json()["reason"], answer.json()["detail"], answer.json()["retry_at"]) == (None, None, None)
    assert audited(each_api.database) == [("api", "submission.retry", submission_id)]
    _wait_for_intake(each_api, submission_id)


def test_retry_of_a_listed_parked_submission_has_it_run_again(each_api: Api) -> None:
    """Its images are known, so only its batches go on; it is not listed again."""
    submission_id = add_parked(each_api.database, listed_at=utc_now())
    answer = each_api.http.post(f"/v1/submissions/{submission_id}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["retry_at"]) == (200, "running", None)
    # By the time that the next one's message is there, this one's would be, too.
    other_id = add_parked(each_api.database)
    each_api.http.post(f"/v1/submissions/{other_id}/retry")
    _wait_for_intake(each_api, other_id)
    assert Redis.from_url(each_api.settings.redis_url).llen(CONTROL_QUEUE) == 1


def test_retry_keeps_the_count_of_tries(each_api: Api) -> None:
    """Where the storage is still away, the next wait is no shorter for having asked."""
    submission_id = add_parked(each_api.database)
    parked_at = _row(each_api, submission_id).parked_at
    each_api.http.post(f"/v1/submissions/{submission_id}/retry")
    row = _row(each_api, submission_id)
    assert (row.tries, row.parked_at) == (3, parked_at)


@pytest.mark.parametrize("reason", [Reason.QUEUE_FULL, Reason.DISK_LOW])
def test_retry_of_one_that_waits_for_room_has_it_listed_now(each_api: Api, reason: Reason) -> None:
    """It stays accepted, nothing keeps it any more, and a message goes out."""
    submission_id = _put_off(each_api, reason)
    assert each_api.http.get(f"/v1/submissions/{submission_id}").json()["reason"] == reason
    answer = each_api.http.post(f"/v1/submissions/{submission_id}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (200, "accepted", None)
    assert _row(each_api, submission_id).retry_at is None
    assert audited(each_api.database) == [("api", "submission.retry", submission_id)]
    _wait_for_intake(each_api, submission_id)


@pytest.mark.parametrize("state", [state for state in SubmissionState if state != SubmissionState.PARKED])
def test_retry_of_one_that_does_not_wait_is_refused(each_api: Api, state: SubmissionState) -> None:
    """409 with a reason code; nothing changes and nothing is audited."""
    submission_id = add_submission(each_api.database, state=state)
    answer = each_api.http.post(f"/v1/submissions/{submission_id}/retry")
    assert (answer.status_code, answer.json()["reason"]) == (409, "not_waiting")
    assert state in answer.json()["detail"]
    assert _row(each_api, submission_id).state == state
    assert audited(each_api.database) == []


def test_second_retry_is_refused(each_api: Api) -> None:
    """The first took the wait away."""
    for submission_id in (add_parked(each_api.database), _put_off(each_api)):
        address = f"/v1/submissions/{submission_id}/retry"
        assert [each_api.http.post(address).status_code for _ in range(2)] == [200, 409]


def test_retry_of_an_unknown_submission_is_not_found(api: Api) -> None:
    """As any other request about it."""
    answer = api.http.post(f"/v1/submissions/{'0' * 32}/retry")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


def test_parked_submission_can_be_cancelled(each_api: Api) -> None:
    """Its images are skipped, and no new try is announced any more."""
    submission_id = add_parked(each_api.database, listed_at=utc_now())
    add_batch(each_api.database, submission_id, images=3, state=BatchState.QUEUED)
    answer = each_api.http.delete(f"/v1/submissions/{submission_id}")
    assert (answer.status_code, answer.json()["state"], answer.json()["retry_at"]) == (200, "cancelled", None)
    assert answer.json()["counts"]["skipped"] == 3
