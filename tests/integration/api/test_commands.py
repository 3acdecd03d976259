"""Commands that steer a running service, as real processes against a real API."""

import os
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from core.lanes import Lane
from core.states import BatchState, SubmissionState
from core.tables import LaneControl, Submission, utc_now
from core.transitions import unpark_submission
from tests.assets.programs import wait_until
from tests.integration.api.server import Api, add_batch, add_parked, add_submission

_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_TRY = r"next try at (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC"


def _start(api: Api, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments, "--api", str(api.http.base_url)],
        env=dict(os.environ) | {"COLUMNS": "160"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(api: Api, *arguments: str) -> tuple[int, str]:
    process = _start(api, *arguments)
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def _is_paused(api: Api, lane: Lane) -> bool:
    with api.database.read() as session:
        return session.get_one(LaneControl, lane).paused_at is not None


def test_lanes_shows_a_table(api: Api) -> None:
    """A row a lane and one for each submitter; names from outside are no markup; who paused is named."""
    submission_id = add_submission(api.database, submitter="[red]anna")
    add_batch(api.database, submission_id, images=1234, state=BatchState.QUEUED)
    api.http.post("/v1/lanes/nightly/pause")
    status, text = _run(api, "lanes")
    assert status == 0
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert "runs" in rows["urgent"]
    assert "1,234" in rows["bulk"]
    assert "1,234" in rows["[red]anna"]
    assert "weight 1" in rows["[red]anna"]
    assert "paused since" in rows["nightly"]
    assert "by api" in rows["nightly"]


def test_lane_is_paused_and_resumed(api: Api) -> None:
    """Both commands say what is so afterwards, the second time, too."""
    for _ in range(2):
        status, text = _run(api, "lanes", "pause", "bulk")
        assert status == 0
        assert re.fullmatch(r"bulk is paused since .+ UTC by api\n", text)
        assert _is_paused(api, Lane.BULK)
    for _ in range(2):
        assert _run(api, "lanes", "resume", "bulk") == (0, "bulk runs\n")
        assert not _is_paused(api, Lane.BULK)


def test_address_before_the_subcommand_counts(api: Api) -> None:
    """Otherwise a lane of another API would be paused: the one that the settings name."""
    address = str(api.http.base_url)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "lanes", "--api", address, "pause", "urgent"],
        env=dict(os.environ) | {"HISTOBATCH_API_PORT": "9"},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert _is_paused(api, Lane.URGENT)


def test_status_of_a_waiting_submission_says_why_and_until_when(api: Api) -> None:
    """Parked or without room: reason, detail, next try, and the command that tries now."""
    parked = add_parked(api.database)
    put_off = add_submission(
        api.database,
        state=SubmissionState.ACCEPTED,
        reason="queue_full",
        detail="[10] images wait already",
        retry_at=utc_now() + timedelta(seconds=30),
    )
    for submission_id, said in (
        (parked, "storage_away: the worker sees no such folder"),
        (put_off, "queue_full: [10] images wait already"),
    ):
        status, text = _run(api, "status", submission_id)
        assert status == 0
        assert said in text
        assert re.search(_TRY, text)
        assert f"histobatch retry {submission_id}" in text


def test_retry_has_a_parked_submission_tried_now(api: Api) -> None:
    """It says what has become of it; where nothing waits it says so in one line and fails."""
    submission_id = add_parked(api.database)
    status, text = _run(api, "retry", submission_id)
    assert (status, text) == (0, f"{submission_id}  accepted  lane bulk\n")
    status, text = _run(api, "retry", submission_id)
    assert status == 1
    assert "(not_waiting)" in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("listed_at", [None, utc_now()], ids=["not listed", "listed"])
def test_following_goes_on_while_a_submission_is_parked(api: Api, listed_at: object) -> None:
    """The bar says what it waits for; when the storage is back and all is done, the command ends well."""
    submission_id = add_parked(api.database, listed_at=listed_at)
    add_batch(api.database, submission_id, images=4, benign=4)
    # Drawn only on terminals, so this one is told that it has one.
    process = _start(api, "status", submission_id, "--watch", FORCE_COLOR="1", TERM="xterm")
    assert process.stdout is not None
    seen = ""

    def is_said() -> bool:
        nonlocal seen
        seen += os.read(process.stdout.fileno(), 65536).decode(errors="replace")  # type: ignore[union-attr]
        return re.search(f"storage away, {_TRY}", seen) is not None

    wait_until(is_said, "the bar says that the storage is away")
    assert process.poll() is None
    with api.database.write() as session:
        unpark_submission(session, submission_id)
        steps = [SubmissionState.RUNNING] if listed_at else [SubmissionState.LISTING, SubmissionState.RUNNING]
        for state in (*steps, SubmissionState.DONE):
            session.execute(update(Submission).where(col(Submission.id) == submission_id).values(state=state))
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "4 files: 4 benign" in _COLOURS.sub("", rest)
