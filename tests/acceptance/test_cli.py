"""The command line against a running system of real processes."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from benchmarks.stack import Stack, running_stack
from core.settings import PROJECT

SAMPLES = PROJECT / "samples"


def _histobatch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=dict(os.environ) | {"COLUMNS": "160"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Broker, API and a worker with the fake engine; a root that holds three images and a text."""
    before = dict(os.environ)
    scratch = tmp_path_factory.mktemp("stack")
    folder = scratch / "images" / "case"
    folder.mkdir(parents=True)
    for path in sorted(SAMPLES.glob("*.jpg"))[:3]:
        shutil.copy(path, folder)
    (folder / "broken.png").write_bytes(b"no image")
    with running_stack(scratch, scratch / "images", HISTOBATCH_ENGINE="fake") as running:
        yield running
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def settings_of_the_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands see the settings that the stack runs with."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)


def _submit(stack: Stack) -> str:
    finished = _histobatch("submit", str(stack.images / "case"), "--wait", "--lane", "urgent")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_submit_waits_and_tells_reasons(stack: Stack) -> None:
    """`submit --wait` prints the id alone on standard output, and counts with reasons beside it."""
    finished = _histobatch("submit", str(stack.images / "case"), "--wait")
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.split()) == 1
    assert "4 files" in finished.stderr
    assert "not_an_image: 1" in finished.stderr


def test_status_shows_state_and_counts(stack: Stack) -> None:
    """`status ID` shows where a submission stands."""
    finished = _histobatch("status", _submit(stack))
    assert finished.returncode == 0, finished.stderr
    assert "done" in finished.stdout
    assert "lane urgent" in finished.stdout
    assert "1 failed" in finished.stdout


def test_results_leave_as_csv_and_json_lines(stack: Stack, tmp_path: Path) -> None:
    """`results ID` writes one line an image, to standard output or to a file."""
    submission = _submit(stack)
    rows = list(csv.DictReader(io.StringIO(_histobatch("results", submission).stdout)))
    assert sorted(row["state"] for row in rows) == ["done", "done", "done", "failed"]
    output = tmp_path / "results.jsonl"
    finished = _histobatch("results", submission, "--format", "jsonl", "--output", str(output))
    assert finished.returncode == 0, finished.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {line["reason"] for line in lines if line.get("state") == "failed"} == {"not_an_image"}


def test_folder_outside_the_roots_is_refused_in_one_line(stack: Stack, tmp_path: Path) -> None:
    """What may not be read is refused with the reason code, without a traceback."""
    finished = _histobatch("submit", str(tmp_path))
    assert finished.returncode == 1
    assert "folder_not_allowed" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_absent_api_is_named(stack: Stack) -> None:
    """Where no API answers, the command says at which address it asked."""
    finished = _histobatch("status", "0" * 32, "--api", "http://127.0.0.1:9")
    assert finished.returncode == 1
    assert "no API answers at http://127.0.0.1:9" in finished.stderr


def test_doctor_finds_a_healthy_system_healthy(stack: Stack) -> None:
    """`doctor` exits 0 and says of each part what it found."""
    finished = _histobatch("doctor")
    assert finished.returncode == 0, finished.stdout
    for part in ("python", "engine", "model", "database", "queue", "roots", "disk", "clock"):
        assert f"{part:9}ok" in finished.stdout


@pytest.mark.parametrize(
    ("name", "value", "part", "mend"),
    [
        ("HISTOBATCH_REDIS_URL", "redis://127.0.0.1:9/0", "queue", "start Redis"),
        ("HISTOBATCH_ROOTS", "/no/such/root", "roots", "mount the storage"),
        ("HISTOBATCH_ARCHIVES_FILE", "/no/such/file", "archives", "correct it"),
        ("HISTOBATCH_MODELS", "/no/such/models", "model", "HISTOBATCH_MODEL"),
        ("HISTOBATCH_ENGINE", "tensorrt", "engine", "tensorrt"),
        ("HISTOBATCH_MIN_FREE_BYTES", str(2**60), "disk", "free some"),
        ("HISTOBATCH_DATABASE_URL", "sqlite:////proc/nowhere/x.db", "database", "HISTOBATCH_DATABASE_URL"),
    ],
)
def test_doctor_names_what_is_wrong_and_how_to_mend_it(
    stack: Stack, name: str, value: str, part: str, mend: str
) -> None:
    """Each part that fails is named with its cure, and the exit status is 1."""
    finished = _histobatch("doctor", **{name: value})
    assert finished.returncode == 1
    wrong = finished.stdout[finished.stdout.index(f"{part:9}WRONG") :]
    assert mend in wrong
    assert "Traceback" not in finished.stderr


def test_doctor_warns_of_a_broker_that_drops_messages(stack: Stack) -> None:
    """Below a memory limit, Redis' other policies evict what waits."""
    broker = Redis.from_url(stack.environment["HISTOBATCH_REDIS_URL"])
    broker.config_set("maxmemory", "1gb")
    broker.config_set("maxmemory-policy", "allkeys-lru")
    try:
        finished = _histobatch("doctor")
    finally:
        broker.config_set("maxmemory", 0)
    assert finished.returncode == 1
    assert "noeviction" in finished.stdout


def test_wrong_setting_is_one_line_that_names_the_variable(stack: Stack) -> None:
    """A setting out of range ends any command with the variable's name."""
    finished = _histobatch("doctor", HISTOBATCH_BATCH_SIZE="0")
    assert finished.returncode == 1
    assert "HISTOBATCH_BATCH_SIZE" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
