"""Progress as server-sent events: every change is told, one reads for all, and nobody is kept."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event, update
from sqlmodel import col

from cli.embedded import free_ports
from core.settings import PROJECT
from core.states import BatchState, SubmissionState
from core.tables import Batch, Submission, utc_now
from tests.integration.api.server import Api, add_batch, add_submission


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look, and say that all is well, more often than outside of tests."""
    monkeypatch.setattr("api.events._POLL_S", 0.05)
    monkeypatch.setattr("api.events._HEARTBEAT_S", 0.2)


@contextmanager
def _listening(api: Api, submission_id: str, **headers: str) -> Iterator[Iterator[str]]:
    with api.http.stream("GET", f"/v1/submissions/{submission_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.iter_lines()


def _next(lines: Iterator[str]) -> dict[str, Any]:
    """The next event; its data is read as JSON. Heartbeats are left out."""
    fields: dict[str, Any] = {}
    for line in lines:
        if not line and fields:
            return {**fields, "data": json.loads(fields["data"])}
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
    raise EOFError


def _finish(api: Api, submission_id: str) -> None:
    with api.database.write() as session:
        moved = {"state": SubmissionState.DONE, "finished_at": utc_now()}
        session.execute(update(Submission).where(col(Submission.id) == submission_id).values(**moved))


def test_events_tell_each_change_until_the_end(each_api: Api) -> None:
    """The state at once, then what changed, then the end, after which the stream is over and nothing is repeated."""
    submission_id = add_submission(each_api.database)
    with _listening(each_api, submission_id) as lines:
        first = _next(lines)
        assert (first["event"], first["data"]["counts"]["total"]) == ("progress", 0)
        add_batch(each_api.database, submission_id, images=3, benign=3)
        second = _next(lines)
        assert (second["event"], second["data"]["counts"]["benign"]) == ("progress", 3)
        assert second["id"] != first["id"]
        _finish(each_api, submission_id)
        last = _next(lines)
        assert (last["event"], last["data"]["state"]) == ("end", "done")
        assert [line for line in lines if line] == []
    address = f"/v1/submissions/{submission_id}/events"
    assert each_api.http.get(address, headers={"Last-Event-ID": last["id"]}).status_code == 204
    assert "event: end" in each_api.http.get(address, headers={"Last-Event-ID": first["id"]}).text


def test_who_comes_back_gets_news_only(api: Api) -> None:
    """With the last id that was seen nothing comes but heartbeats, until something changes."""
    submission_id = add_submission(api.database)
    with _listening(api, submission_id) as lines:
        seen = _next(lines)["id"]
    with _listening(api, submission_id, **{"Last-Event-ID": seen}) as lines:
        assert next(line for line in lines if line) == ": still here"
        add_batch(api.database, submission_id, images=1, benign=1)
        assert _next(lines)["data"]["counts"]["benign"] == 1
    with _listening(api, submission_id, **{"Last-Event-ID": seen}) as lines:
        assert _next(lines)["data"]["counts"]["benign"] == 1


def test_the_end_waits_for_batches_in_hand(api: Api) -> None:
    """A submission that was ended on request still gets the outcomes of what workers have in hand."""
    submission_id = add_submission(api.database, state=SubmissionState.CANCELLED, finished_at=utc_now())
    batch_id = add_batch(api.database, submission_id, images=2, state=BatchState.RUNNING)
    with _listening(api, submission_id) as lines:
        assert _next(lines)["event"] == "progress"
        with api.database.write() as session:
            done = {"state": BatchState.DONE, "benign": 2}
            session.execute(update(Batch).where(col(Batch.id) == batch_id).values(**done))
        assert _next(lines)["event"] == "end"


def test_many_listeners_cost_one_reader(each_api: Api) -> None:
    """Twenty who follow one submission do not each ask the database."""
    submission_id = add_submission(each_api.database)
    asked = 0
    count = threading.Lock()

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal asked
        if "FROM batch" in statement:
            with count:
                asked += 1

    arrived = threading.Barrier(21)
    ended: list[str] = []

    def follow() -> None:
        with _listening(each_api, submission_id) as lines:
            _next(lines)
            arrived.wait(30)
            ended.append(_next(lines)["event"])

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    arrived.wait(30)
    event.listen(Engine, "before_cursor_execute", note)
    start = time.monotonic()
    while asked < 5:
        time.sleep(0.01)
    turns = (time.monotonic() - start) / 0.05
    event.remove(Engine, "before_cursor_execute", note)
    _finish(each_api, submission_id)
    for thread in threads:
        thread.join(30)
    assert ended == ["end"] * 20
    assert asked <= turns + 1


def test_too_many_listeners_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with a time to come back; a place is free again when somebody goes."""
    monkeypatch.setattr("api.events._MOST_LISTENERS", 1)
    submission_id = add_submission(api.database)
    with _listening(api, submission_id) as lines:
        _next(lines)
        answer = api.http.get(f"/v1/submissions/{submission_id}/events")
        assert (answer.status_code, answer.json()["reason"]) == (503, "too_busy")
        assert int(answer.headers["Retry-After"]) > 0
    deadline = time.monotonic() + 20
    while True:
        with api.http.stream("GET", f"/v1/submissions/{submission_id}/events") as answer:
            if answer.status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_events_of_nothing_are_not_found(api: Api) -> None:
    """404, not a stream."""
    answer = api.http.get(f"/v1/submissions/{'0' * 32}/events")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


def test_the_api_stops_although_somebody_listens(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """`histobatch api` ends within seconds of SIGTERM."""
    submission_id = add_submission(api.database)
    (port,) = free_ports(1)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HISTOBATCH_DATA_DIR": str(api.settings.data_dir),
        "HISTOBATCH_DATABASE_URL": api.settings.database_url,
        "HISTOBATCH_API_PORT": str(port),
    }
    program = subprocess.Popen([sys.executable, "-m", "cli.main", "api"], cwd=PROJECT, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{address}/live")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with httpx.stream("GET", f"{address}/v1/submissions/{submission_id}/events", timeout=60) as answer:
            lines = answer.iter_lines()
            _next(lines)
            program.send_signal(signal.SIGTERM)
            program.wait(timeout=40)
    finally:
        program.kill()
