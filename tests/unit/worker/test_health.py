"""The health file says that the worker works, to whoever knows nothing but a file's age."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.settings import Settings
from worker.context import WorkerContext, open_context
from worker.health import write_health
from worker.holdings import Holding


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "health").mkdir()
    return tmp_path / "health"


@pytest.fixture
def healthy(settings: Settings, folder) -> Iterator[WorkerContext]:
    """A worker with a health file; its database is asked for nothing."""
    opened = open_context(settings.model_copy(update={"health_file": folder / "health.json", "decode_processes": 1}))
    yield opened
    opened.close()


def holding_of(kind: str, identity: int | str) -> Holding:
    def let_go(*_: object) -> None:
        return

    return Holding(kind=kind, id=identity, token=f"secret-{kind}", hand_back=let_go, park=let_go, blame=let_go)


def test_the_file_says_who_works_on_what(healthy, folder):
    """Worker, engine, model, the moment in UTC, and the ids in hand: no name of a file, no folder, no token."""
    batch, submission = holding_of("batch", 7), holding_of("submission", "0190aa")
    with healthy.holdings.hold(batch), healthy.holdings.hold(submission):
        write_health(healthy)
    text = json.loads((folder / "health.json").read_text())
    moment = datetime.fromisoformat(text.pop("at"))
    assert timedelta() <= datetime.now(UTC) - moment < timedelta(seconds=30)
    assert text == {
        "worker": healthy.name,
        "engine": "fake",
        "model": "fake@0.0.0",
        "state": "serving",
        "detail": None,
        "in_hand": [{"kind": "batch", "id": 7}, {"kind": "submission", "id": "0190aa"}],
    }


def test_the_file_is_replaced_in_one_step(healthy, folder):
    """Who has opened it reads the old one to its end; nothing else is left in the folder."""
    file = folder / "health.json"
    write_health(healthy)
    before = file.read_text()
    with file.open() as opened, healthy.holdings.hold(holding_of("batch", 8)):
        write_health(healthy)
        assert opened.read() == before
    assert json.loads(file.read_text())["in_hand"] == [{"kind": "batch", "id": 8}]
    assert list(folder.iterdir()) == [file]


def test_each_writing_makes_the_file_young(healthy, folder):
    """Its age is the sign of life."""
    file = folder / "health.json"
    write_health(healthy)
    os.utime(file, (0, 0))
    write_health(healthy)
    assert datetime.now(UTC).timestamp() - file.stat().st_mtime < 30


def test_without_a_setting_nothing_is_written(healthy, folder):
    """No file, and no error."""
    write_health(replace(healthy, settings=healthy.settings.model_copy(update={"health_file": None})))
    assert list(folder.iterdir()) == []
