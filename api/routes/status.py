"""/v1/status: the service at a glance."""

from fastapi import APIRouter

from api.context import ContextDep
from api.loads import count_by_engine, count_submissions, measure_lanes, measure_rate
from api.rights import needs
from api.service_schemas import IntakePublic, LaneSummary, StatusPublic
from core.access import Scope
from core.pressure import measure_pressure
from core.tables import utc_now

router = APIRouter(prefix="/v1/status", tags=["service"], dependencies=[needs(Scope.READ)])


@router.get("")
def show_status(context: ContextDep) -> StatusPublic:
    """Show whether there is room for new work, what waits and runs in each lane, and the speed."""
    now = utc_now()
    with context.database.read() as session:
        lanes = measure_lanes(session, now)
        return StatusPublic(
            intake=IntakePublic.model_validate(measure_pressure(session, context.settings)),
            lanes=[LaneSummary.model_validate(lane) for lane in lanes],
            submissions=count_submissions(session),
            outbox=sum(lane.waiting - lane.at_broker for lane in lanes),
            images_per_s=measure_rate(session, now),
            engines=count_by_engine(session, now),
        )
