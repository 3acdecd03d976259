"""/v1/submissions/{id}/events: progress as server-sent events."""

from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.context import ContextDep
from api.events import read_snapshot
from api.problems import Problem
from api.rights import needs
from api.streams import HoldingResponse
from core.access import Scope

router = APIRouter(prefix="/v1/submissions", tags=["submissions"], dependencies=[needs(Scope.READ)])


@router.get(
    "/{submission_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "It has ended, and the last event was seen."},
        404: {"model": Problem},
        503: {"model": Problem},
    },
)
async def stream_events(
    submission_id: str, context: ContextDep, last_event_id: Annotated[str | None, Header(max_length=64)] = None
) -> Response:
    """Follow a submission: an event for each change (at most one a second), the last is named "end".

    Each event holds what GET /v1/submissions/{id} answers. Who comes back names the last id that it saw, and gets the
    state as it is now unless it is the same: states in between are not repeated.
    """
    first = await run_in_threadpool(read_snapshot, context.database, submission_id)
    if first.is_last and first.id == last_event_id:
        # Browsers come back after every end, unless they are told that there is no more.
        return Response(status_code=HTTPStatus.NO_CONTENT)
    # Joined before the answer begins, so that a refusal is an answer of its own.
    stack = AsyncExitStack()
    channel = await stack.enter_async_context(context.events.listen(submission_id, first))
    # nginx would gather events until its buffer is full.
    headers = {"X-Accel-Buffering": "no"}
    return HoldingResponse(stack, channel.stream(last_event_id), media_type="text/event-stream", headers=headers)
