"""Answers that hold something while they are sent: a place among listeners, a turn among exports."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_Piece = TypeVar("_Piece")


class HoldingResponse(StreamingResponse):
    """A stream that gives back what it holds at its end, also where the asker went before it began."""

    def __init__(self, held: AsyncExitStack, content: AsyncIterator[bytes] | Iterator[bytes], **values: Any) -> None:
        super().__init__(content, **values)
        self._held = held
        self.body_iterator = self._let_go_at_end(self.body_iterator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream to its end, or until nobody listens."""
        async with self._held:
            await super().__call__(scope, receive, send)

    async def _let_go_at_end(self, content: AsyncIterable[_Piece]) -> AsyncIterator[_Piece]:
        async for piece in content:
            yield piece
        # Before the end is told: whoever asks again at once finds the turn free.
        await self._held.aclose()
