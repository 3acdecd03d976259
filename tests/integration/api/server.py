"""A real API server in a thread, and the rows that workers would have written."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn
from sqlalchemy import insert
from sqlmodel import col, select

from api.app import create_app
from core.bundle import DataSet, DecisionRule, Manifest, Metrics, write_manifest
from core.database import Database
from core.errors import Reason
from core.lanes import Lane
from core.settings import Settings
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Audit, Batch, Item, Result, Submission, utc_now


@dataclass(frozen=True)
class Api:
    """A running server: over HTTP, and behind it."""

    http: httpx.Client
    database: Database
    settings: Settings


@contextmanager
def running(settings: Settings, database: Database) -> Iterator[Api]:
    """Run the API on a free port until the block ends."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="warning", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield Api(http, database, settings)
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def write_bundle(folder: Path, version: str) -> None:
    """Write a bundle's manifest without any model file."""
    folder.mkdir(parents=True)
    manifest = Manifest(
        name="resnet50",
        version=version,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        files=(),
        decision=DecisionRule(threshold=0.5, abstain_low=0.4, abstain_high=0.6),
        metrics=(Metrics(protocol="held-out patients", shares_patients=False, values={"auc": 0.8}),),
        dataset=DataSet(name="d", images=1, patients=1, fingerprint="f", licence="l", attribution="a"),
        git_commit="0" * 40,
        licence="MIT",
        attribution="a",
    )
    write_manifest(folder, manifest)


def add_submission(database: Database, **values: object) -> str:
    """Record a submission; returns its id."""
    fields = {"source": "folder", "folder": "/images/a", "state": SubmissionState.RUNNING} | values
    if fields["state"] in (SubmissionState.RUNNING, SubmissionState.DONE):
        fields = {"listed_at": utc_now()} | fields
    submission = Submission(**fields)
    with database.write() as session:
        session.add(submission)
    return submission.id


def add_parked(database: Database, **values: object) -> str:
    """Record a submission whose storage is away, to be tried again in five minutes; returns its id."""
    now = utc_now()
    parked = {
        "state": SubmissionState.PARKED,
        "reason": Reason.STORAGE_AWAY,
        "detail": "the worker sees no such folder",
        "parked_at": now,
        "retry_at": now + timedelta(minutes=5),
        "tries": 3,
    }
    return add_submission(database, **(parked | values))


def audited(database: Database) -> list[tuple[str, str, str]]:
    """Who did what to whom, in order."""
    with database.read() as session:
        return [(row.who, row.action, row.subject) for row in session.exec(select(Audit).order_by(col(Audit.number)))]


def add_batch(database: Database, submission_id: str, **values: object) -> int:
    """Record a batch as a worker leaves it; returns its id."""
    fields = {"lane": Lane.BULK, "state": BatchState.DONE, "images": 0} | values
    if fields["state"] == BatchState.DONE:
        now = utc_now()
        fields = {"started_at": now - timedelta(seconds=10), "finished_at": now} | fields
    batch = Batch(submission_id=submission_id, **fields)
    with database.write() as session:
        session.add(batch)
        session.flush()
        assert batch.id is not None
        return batch.id


def add_items(database: Database, submission_id: str, items: list[dict[str, object]], first: int = 0) -> list[int]:
    """Record images; those with a probability get a result. Returns their ids."""
    ids = []
    with database.write() as session:
        for number, given in enumerate(items, start=first):
            fields = {"path": f"{number:06}.png", "state": ItemState.PENDING} | given
            probability = fields.pop("probability", None)
            if probability is not None:
                fields |= {"state": ItemState.DONE, "content_hash": f"{number:064x}"}
                result = Result(
                    content_hash=f"{number:064x}",
                    model_version="resnet50@1.0.0",
                    probability=probability,
                    decision=fields["decision"],
                    engine="fake",
                    elapsed_ms=2.5,
                )
                session.add(result)
                session.flush()
                fields["result_id"] = result.id
            item = Item(submission_id=submission_id, batch_id=1, **fields)
            session.add(item)
            session.flush()
            assert item.id is not None
            ids.append(item.id)
    return ids


def add_many_items(database: Database, submission_id: str, amount: int, **values: object) -> None:
    """Record many images at once."""
    fields = {"submission_id": submission_id, "batch_id": 1, "state": ItemState.DONE, "size": 1, "mtime_ns": 1} | values
    rows = [{**fields, "path": f"{number:08}.png"} for number in range(amount)]
    with database.write() as session:
        session.execute(insert(Item), rows)
