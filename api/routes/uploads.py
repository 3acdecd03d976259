"""/v1/submissions/upload: hand in images themselves, where they are on no storage that the workers see."""

import os
from functools import partial
from http import HTTPStatus
from pathlib import Path

import anyio
import structlog
from fastapi import APIRouter, BackgroundTasks, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.admission import Admission, admit, find_replayed, hash_request
from api.context import Context, ContextDep, SubmitterDep
from api.disk import check_disk
from api.multipart import Receiver, make_receiver
from api.problems import ApiError, Problem, ProblemReason
from api.rights import needs
from api.routes.submissions import IdempotencyKey, answer
from api.schemas import SubmissionPublic
from api.upload_folder import UploadFolder, UploadLimits, invalid, too_large
from core.access import Scope
from core.lanes import Lane
from core.paths import path_to_text
from core.settings import Settings
from core.tables import Submission, new_id

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1/submissions", tags=["submissions"], dependencies=[needs(Scope.SUBMIT)])

# Bytes gathered before a thread writes them: fewer hops, and all that an upload holds in memory.
_PIECE_BYTES = 2**20
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["files"],
            }
        },
        "application/zip": {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.post(
    "/upload",
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra={"requestBody": _BODY},
    responses={code: {"model": Problem} for code in (413, 422, 507)},
)
async def upload_submission(
    *,
    request: Request,
    response: Response,
    tasks: BackgroundTasks,
    context: ContextDep,
    submitter: SubmitterDep,
    lane: Lane = Lane.BULK,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionPublic:
    """Hand in images: files of a form, zips among them, or one zip as the body. Folders in zips are kept.

    All or nothing: an upload that is refused leaves nothing behind.
    """
    submission = Submission(
        id=new_id(),
        lane=lane,
        source="upload",
        folder="",
        submitter=submitter,
        idempotency_key=idempotency_key,
    )
    # Before the body is read: who sends gigabytes should not send them for nothing.
    await run_in_threadpool(_check_announced, request, context.settings)
    target = context.settings.uploads_dir / submission.id
    check_room = partial(check_disk, context.settings)
    folder = await run_in_threadpool(UploadFolder, target, _limits(context.settings), check_room)
    try:
        await _receive(request, folder, context.settings)
        admission = await run_in_threadpool(_admit, context, submission, folder, target)
    except OSError as error:
        log.error("upload_not_stored", submission_id=submission.id, errno=error.errno)
        raise ApiError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            ProblemReason.STORAGE_FAILED,
            "the upload cannot be stored: is the disk full?",
        ) from error
    finally:
        # Also when the client went away in the middle, or the server stops.
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(folder.clean)
    return await run_in_threadpool(answer, admission, request, response, tasks, context)


def _check_announced(request: Request, settings: Settings) -> None:
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else 0
    if announced > settings.max_upload_bytes + settings.max_upload_files * 1024:
        raise too_large(f"an upload may have {settings.max_upload_bytes} bytes")
    check_disk(settings, announced)


async def _receive(request: Request, folder: UploadFolder, settings: Settings) -> None:
    receiver: Receiver = make_receiver(
        request.headers.get("content-type", ""), folder, settings.max_upload_bytes, settings.max_upload_files
    )
    piece = bytearray()
    async for data in request.stream():
        piece += data
        if len(piece) >= _PIECE_BYTES:
            await run_in_threadpool(receiver.feed, bytes(piece))
            piece.clear()
    await run_in_threadpool(receiver.feed, bytes(piece))
    await run_in_threadpool(receiver.finish)


def _admit(context: Context, submission: Submission, folder: UploadFolder, target: Path) -> Admission:
    if folder.files == 0:
        raise invalid("the upload holds no file")
    submission.folder = path_to_text(os.fsencode(target))
    submission.request_hash = hash_request(source="upload", content=folder.digest(), lane=submission.lane)
    earlier = find_replayed(context.database, submission.idempotency_key, submission.request_hash)
    if earlier is not None:
        return Admission(earlier, is_new=False)
    # First the files, then the row: a worker must find them when it hears of it.
    folder.keep()
    is_admitted = False
    try:
        admission = admit(context.database, submission)
        is_admitted = admission.is_new
    finally:
        if not is_admitted:
            folder.discard()
    return admission


def _limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        max_bytes=settings.max_upload_bytes,
        max_files=settings.max_upload_files,
        max_file_bytes=settings.max_image_bytes,
    )
