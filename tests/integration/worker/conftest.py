"""Real worker and beat processes on a real broker and each database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.database import Database
from core.lanes import Lane
from core.queue import WorkQueue
from core.settings import Settings
from core.states import SubmissionState
from tests.assets.programs import Program, programs_in, wait_until
from tests.assets.rows import add_submission, submission_of


@pytest.fixture
def program(tmp_path: Path, settings: Settings) -> Iterator[Callable[..., Program]]:
    """Start programs; whatever still runs at the test's end is killed."""
    with programs_in(tmp_path) as begin:

        def start(name: str, running: Settings = settings, **changes: object) -> Program:
            return begin(name, running, **changes)

        yield start


class House:
    """What a test does from outside: submit a folder as the API does, and wait for its end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.queue = WorkQueue(settings)

    def submit(self, folder: Path, lane: Lane = Lane.BULK) -> str:
        """Record a submission, then send its id."""
        with self.database.write() as session:
            submission_id = add_submission(session, folder, state=SubmissionState.ACCEPTED, lane=lane)
        self.queue.send_intake(submission_id)
        return submission_id

    def state(self, submission_id: str) -> str:
        """Where the submission stands."""
        return submission_of(self.database, submission_id).state

    def wait_done(self, submission_id: str, timeout_s: float = 60) -> None:
        """Wait until every image has an outcome."""
        wait_until(lambda: self.state(submission_id) == SubmissionState.DONE, "the submission is done", timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self.queue.close()
        self.database.close()


@pytest.fixture
def any_house(settings: Settings, database_url: str) -> Iterator[House]:
    """A house on each database in turn."""
    opened = House(settings.model_copy(update={"database_url": database_url, "batch_size": 20}))
    yield opened
    opened.close()


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    """A house on SQLite."""
    opened = House(settings.model_copy(update={"batch_size": 20}))
    yield opened
    opened.close()
