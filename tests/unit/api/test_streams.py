"""Streams that hold something while they are sent."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from api.streams import HoldingResponse

SCOPE = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "GET", "path": "/", "headers": []}


def _pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


def test_what_is_held_is_free_before_the_end_is_told() -> None:
    """Whoever sees the end and asks again at once is not told that it is taken; until then it is held."""
    freed: list[bool] = []
    held = AsyncExitStack()
    held.callback(freed.append, True)
    told: list[tuple[bytes, bool]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            told.append((message["body"], bool(freed)))

    asyncio.run(HoldingResponse(held, _pieces())(SCOPE, _never, send))
    assert told == [(b"one", False), (b"two", False), (b"", True)]
    assert freed == [True]


def test_who_leaves_in_the_middle_holds_nothing() -> None:
    """A connection that breaks gives it back, once."""
    freed: list[bool] = []
    held = AsyncExitStack()
    held.callback(freed.append, True)

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises(ClientDisconnect):
        asyncio.run(HoldingResponse(held, _pieces())(SCOPE, _never, send))
    assert freed == [True]


async def _never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
