"""The first page: what waits and runs, who serves with what, what was scanned, what needs someone."""

from datetime import datetime

from fastapi import Request
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from api.archives import read_archives
from api.context import Context, ContextDep
from api.faults import find_faults
from api.loads import measure_gpu_calls, measure_lanes, measure_rate
from api.pages.page_route import make_router
from api.rendering import render
from api.serving import list_models
from api.submissions import read_submissions
from core.activation import read_active
from core.presence import read_workers
from core.pressure import measure_pressure
from core.states import SubmissionState
from core.tables import utc_now
from core.unreviewed import KINDS, UnreviewedFilter, count_unreviewed

router = make_router()

_NEWEST = 10
_ARCHIVES = 20


@router.get("/")
def overview(request: Request, context: ContextDep) -> HTMLResponse:
    """Show the lanes, workers, model, archives, what needs review or is at fault, and the newest submissions."""
    now = utc_now()
    with context.database.read() as session:
        values = _read(session, context, now)
    return render(request, "overview.html", now=now, **values)


def _read(session: Session, context: Context, now: datetime) -> dict[str, object]:
    lanes = measure_lanes(session, now)
    rate = measure_rate(session, now)
    waiting = sum(lane.waiting_images for lane in lanes)
    workers = read_workers(session)
    archives = read_archives(session, context.settings, "", _ARCHIVES)
    pressure = measure_pressure(session, context.settings)
    newest = read_submissions(session, state=None, lane=None, cursor=None, limit=_NEWEST)
    parked = read_submissions(session, state=SubmissionState.PARKED, lane=None, cursor=None, limit=_NEWEST)
    active = read_active(session)
    models = list_models(context.settings, active)
    gpu_calls = measure_gpu_calls(session, now)
    return {
        "lanes": lanes,
        "images_per_s": rate,
        "waiting_images": waiting,
        "eta_s": waiting / rate if waiting and rate else None,
        "gpu_waits": gpu_calls is not None and gpu_calls * context.settings.worker_concurrency < 1,
        "workers": workers,
        "model": models[0] if models and models[0].serves else None,
        "active": active,
        "archives": archives.archives,
        "more_archives": archives.next_cursor is not None,
        "unreviewed": {kind: count_unreviewed(session, UnreviewedFilter(kind=kind)) for kind in KINDS},
        "faults": find_faults(session, pressure=pressure, lanes=lanes, workers=workers, archives=archives, now=now),
        "parked": parked.submissions,
        "more_parked": parked.next_cursor is not None,
        "submissions": newest.submissions,
        "more": newest.next_cursor is not None,
    }
