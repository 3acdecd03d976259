"""A worker's parts with the fake engine, on each database and a real broker, without a process of its own."""

import base64
import json
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from core.settings import Settings
from worker.context import WorkerContext, open_context


@pytest.fixture
def context(settings: Settings, database_url: str) -> Iterator[WorkerContext]:
    """A worker's parts; batches of four images, so that few files make several."""
    changed = settings.model_copy(update={"database_url": database_url, "batch_size": 4, "decode_processes": 2})
    opened = open_context(changed)
    yield opened
    opened.close()


@pytest.fixture
def sent(redis_url: str) -> Callable[[str], list[object]]:
    """Ask for the ids that wait in a queue, oldest first."""
    client = Redis.from_url(redis_url)

    def ask(queue: str) -> list[object]:
        messages = [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]

    return ask
