"""/metrics, computed from the database and the broker at each scrape, so that history survives restarts."""

from collections.abc import Iterator

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col

from api.context import Context, ContextDep
from api.progress import OUTCOMES, measure_lanes, measure_rate
from core.queue import BrokerAway, WorkQueue
from core.states import BatchState, SubmissionState
from core.tables import Batch, Submission, utc_now

log = structlog.get_logger(__name__)
router = APIRouter(tags=["health"])

_STAGES = ("read", "decode", "infer", "write")
_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(context: ContextDep) -> Response:
    """Report everything in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(context))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class ServiceCollector(Collector):
    """Reads all metrics of the service. A part that is away is reported as down, and the rest as usual."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def describe(self) -> Iterator[Metric]:
        """Describe nothing, so that registering reads nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read and yield all metrics."""
        yield from _read_broker(self._context.queue)
        families: list[Metric] = []
        try:
            with self._context.database.read() as session:
                families = [*_read_lanes(session), *_read_batches(session), _read_submissions(session)]
        except SQLAlchemyError as error:
            log.warning("scrape_without_database", error=type(error).__name__)
        yield GaugeMetricFamily("histobatch_database_up", "Whether the database answered.", value=bool(families))
        yield from families


def _read_broker(queue: WorkQueue) -> Iterator[Metric]:
    try:
        depths = queue.depths()
    except BrokerAway:
        log.warning("scrape_without_broker")
        depths = {}
    yield GaugeMetricFamily("histobatch_broker_up", "Whether the broker answered.", value=bool(depths))
    if depths:
        depth = GaugeMetricFamily("histobatch_queue_depth", "Messages waiting in the broker.", labels=["queue"])
        for name, messages in depths.items():
            depth.add_metric([name], messages)
        yield depth


def _read_lanes(session: Session) -> Iterator[Metric]:
    now = utc_now()
    waiting = GaugeMetricFamily("histobatch_batches_queued", "Batches that wait for a worker.", labels=["lane"])
    running = GaugeMetricFamily("histobatch_batches_running", "Batches that a worker holds.", labels=["lane"])
    oldest = GaugeMetricFamily(
        "histobatch_oldest_queued_batch_age_seconds",
        "Age of the batch that waits longest; 0 for none.",
        labels=["lane"],
    )
    for load in measure_lanes(session, now):
        waiting.add_metric([load.lane], load.waiting)
        running.add_metric([load.lane], load.running)
        oldest.add_metric([load.lane], load.oldest_s)
    yield from (waiting, running, oldest)
    yield GaugeMetricFamily(
        "histobatch_images_per_second",
        "Images with an outcome a second, over the last minute.",
        value=measure_rate(session, now),
    )


def _read_batches(session: Session) -> Iterator[Metric]:
    """Everything that needs all batch rows, in one pass over them."""
    is_whole = col(Batch.state) != BatchState.SPLIT
    is_done = (col(Batch.state) == BatchState.DONE) & col(Batch.started_at).is_not(None)
    columns = {
        "images": func.sum(case((is_whole, col(Batch.images)))),
        "expirations": func.sum(col(Batch.expirations)),
        "classified": func.sum(case((is_done, col(Batch.images)))),
        "count": func.count(case((is_done, 1))),
        "wall": func.sum(case((is_done, col(Batch.wall_ms)))),
        **{name: func.sum(case((is_whole, getattr(Batch, name)))) for name in OUTCOMES},
        **{stage: func.sum(case((is_done, getattr(Batch, f"{stage}_ms")))) for stage in _STAGES},
        **{
            f"le_{bound_s}": func.count(case((is_done & (col(Batch.wall_ms) <= bound_s * 1e3), 1)))
            for bound_s in _BUCKETS_S
        },
    }
    row = session.execute(select(*(column.label(name) for name, column in columns.items()))).one()
    sums = {name: float(row._mapping[name] or 0) for name in columns}
    yield from _outcome_metrics(sums)
    yield from _duration_metrics(sums)
    yield CounterMetricFamily(
        "histobatch_leases_expired", "Leases that ran out; each may mean a dead worker.", value=sums["expirations"]
    )


def _outcome_metrics(sums: dict[str, float]) -> Iterator[Metric]:
    items = CounterMetricFamily("histobatch_items", "Images with an outcome.", labels=["outcome"])
    for outcome in OUTCOMES:
        items.add_metric([outcome], sums[outcome])
    yield items
    pending = sums["images"] - sum(sums[outcome] for outcome in OUTCOMES)
    yield GaugeMetricFamily("histobatch_items_pending", "Images without an outcome yet.", value=pending)


def _duration_metrics(sums: dict[str, float]) -> Iterator[Metric]:
    buckets = [(str(bound_s), sums[f"le_{bound_s}"]) for bound_s in _BUCKETS_S]
    yield HistogramMetricFamily(
        "histobatch_batch_duration_seconds",
        "From a worker's claim of a batch to its close.",
        buckets=[*buckets, ("+Inf", sums["count"])],
        sum_value=sums["wall"] / 1e3,
    )
    stages = SummaryMetricFamily(
        "histobatch_stage_duration_seconds", "Time of one image in each stage; stages overlap.", labels=["stage"]
    )
    for stage in _STAGES:
        stages.add_metric([stage], count_value=int(sums["classified"]), sum_value=sums[stage] / 1e3)
    yield stages


def _read_submissions(session: Session) -> Metric:
    family = GaugeMetricFamily("histobatch_submissions", "Submissions by state.", labels=["state"])
    rows = session.execute(select(col(Submission.state), func.count()).group_by(col(Submission.state)))
    found = {row[0]: row[1] for row in rows}
    for state in SubmissionState:
        family.add_metric([state], found.get(state, 0))
    return family
