"""The README's first command, run as a user runs it: in a shell, with signals."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import func
from sqlmodel import select

from core.database import Database
from core.settings import PROJECT
from core.states import SubmissionState
from core.tables import Result, Submission

DEMO = PROJECT / "scripts" / "demo"
SAMPLES = PROJECT / "samples"


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HISTOBATCH_")}
    return kept | {"COLUMNS": "160"} | more


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEMO, *arguments], env=_environment(**environment), capture_output=True, text=True, timeout=240, check=False
    )


class Serving:
    """A demo that serves, what it printed so far, and the processes that it started."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [DEMO], env=_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Serving until Ctrl-C" in line:
                break
        self.shown = "".join(lines)
        self.programs = psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A demo that serves; ended by force if the test did not end it."""
    demo = Serving()
    yield demo
    for process in [demo.process, *demo.programs]:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            process.kill()


def test_once_classifies_every_sample_and_exits_zero() -> None:
    """`scripts/demo --once` prints each sample with a class, a probability and its time, and ends with status 0."""
    finished = _run("--once")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for path in SAMPLES.glob("SOB_*"):
        row = next(line for line in finished.stdout.splitlines() if path.name in line)
        assert re.search(r"(benign|malignant) .*\b[01]\.\d{4} .*(benign|malignant|uncertain) .*\d+\.\d", row), row
    assert "Research use only, not for diagnosis." in finished.stdout
    assert re.search(r"\d+\.\d images/s", finished.stdout)


def test_own_folder_with_a_broken_file_names_the_reason(tmp_path: Path) -> None:
    """A folder of the user's own is classified; a broken file is named with its reason and fails nothing else."""
    good = next(SAMPLES.glob("*.png"))
    shutil.copy(good, tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:5000])
    finished = _run("--once", str(tmp_path))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.search(r"broken\.png.*truncated", finished.stdout)
    assert re.search(r"good\.png.*(benign|malignant)", finished.stdout)


def test_own_broker_and_database_are_used(redis_url: str, empty_postgres_url: str) -> None:
    """REDIS_URL and DATABASE_URL name servers that stand in for the embedded ones, and the rows are there after."""
    plain_url = empty_postgres_url.replace("+psycopg", "")  # as other programs write it
    finished = _run("--once", REDIS_URL=redis_url, DATABASE_URL=plain_url)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    database = Database(empty_postgres_url)
    with database.read() as session:
        states = session.exec(select(Submission.state)).all()
        results = session.exec(select(func.count()).select_from(Result)).one()
    database.close()
    assert states == [SubmissionState.DONE]
    assert results == len(list(SAMPLES.glob("SOB_*")))


def test_leavings_of_a_killed_demo_are_cleared() -> None:
    """A demo that was killed could not remove its folder; the next one does, and leaves none of its own."""
    left = PROJECT / ".demo" / "run-99999999-left"
    left.mkdir(parents=True)
    (left / "worker.log").write_text("")
    assert _run("--once").returncode == 0
    assert list((PROJECT / ".demo").iterdir()) == []


def test_missing_folder_is_one_clear_line() -> None:
    """A folder that does not exist ends the demo with one line, not with a traceback."""
    finished = _run("--once", "/no/such/folder")
    assert finished.returncode == 1
    assert "there is no folder /no/such/folder" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_served_addresses_answer_and_a_signal_leaves_no_process(serving: Serving, stop: signal.Signals) -> None:
    """The addresses that the demo prints answer; after Ctrl-C or SIGTERM none of its processes is left."""
    page = re.search(r"status page\s+(http://\S+)", serving.shown)
    docs = re.search(r"API docs\s+(http://\S+)", serving.shown)
    flower = re.search(r"Flower\s+(http://\S+)\s+\(user (\S+), password (\S+)\)", serving.shown)
    assert page is not None, serving.shown
    assert docs is not None, serving.shown
    assert flower is not None, serving.shown
    for address in (page[1], docs[1]):
        assert httpx.get(address).status_code == 200
    _assert_flower_shows_our_tasks(flower[1], flower[2], flower[3])
    assert len(serving.programs) >= 5
    serving.process.send_signal(stop)
    assert serving.process.wait(60) == 0
    gone, alive = psutil.wait_procs(serving.programs, timeout=10)
    assert alive == []
    assert len(gone) == len(serving.programs)


def test_killed_demo_takes_its_programs_along(serving: Serving) -> None:
    """Even SIGKILL, which the demo cannot catch, leaves none of its processes behind."""
    serving.process.kill()
    _, alive = psutil.wait_procs(serving.programs, timeout=30)
    assert alive == []


def _assert_flower_shows_our_tasks(address: str, user: str, password: str) -> None:
    deadline = time.monotonic() + 30
    names: set[str] = set()
    while time.monotonic() < deadline:
        answer = httpx.get(f"{address}api/tasks", auth=(user, password)).raise_for_status()
        names = {task["name"] for task in answer.json().values()}
        if {"histobatch.intake", "histobatch.classify"} <= names:
            return
        time.sleep(0.5)
    pytest.fail(f"Flower shows {names}")
