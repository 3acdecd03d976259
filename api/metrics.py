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
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from api.alert_metrics import alert_metrics, build_metrics
from api.batch_totals import BUCKETS_S, STAGES
from api.context import Context, ContextDep
from api.loads import LaneLoad, count_submissions, measure_lanes, measure_rate
from api.rights import needs
from core.access import Scope
from core.pressure import Level, Pressure, measure_pressure
from core.progress import OUTCOMES
from core.queue import BrokerAway, WorkQueue
from core.settings import Settings
from core.tables import utc_now

log = structlog.get_logger(__name__)
router = APIRouter(tags=["health"], dependencies=[needs(Scope.READ)])


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
        yield from build_metrics()
        yield from _read_broker(self._context.queue)
        families: list[Metric] = []
        try:
            with self._context.database.read() as session:
                families = [
                    *_intake_metrics(measure_pressure(session, self._context.settings), self._context.settings),
                    *_read_lanes(session),
                    *_batch_metrics(self._context.batch_totals.read(session)),
                    _read_submissions(session),
                    *alert_metrics(session, self._context.settings),
                ]
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


def _intake_metrics(pressure: Pressure, settings: Settings) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "histobatch_intake_level",
        "Whether there is room for new work: 0 open, 1 slow, 2 stopped.",
        value=list(Level).index(pressure.level),
    )
    yield GaugeMetricFamily(
        "histobatch_data_free_bytes",
        "Free on the data folder's disk, as the API's machine sees it.",
        value=pressure.free_bytes,
    )
    yield GaugeMetricFamily(
        "histobatch_data_free_bytes_least", "Below this nothing new is taken in.", value=settings.min_free_bytes
    )


def _read_lanes(session: Session) -> Iterator[Metric]:
    now = utc_now()
    loads = measure_lanes(session, now)
    yield from _load_metrics(loads)
    yield from _turn_metrics(loads)
    yield GaugeMetricFamily(
        "histobatch_images_per_second",
        "Images with an outcome a second, over the last minute.",
        value=measure_rate(session, now),
    )


def _load_metrics(loads: list[LaneLoad]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("histobatch_batches_queued", "Batches that wait for a worker.", labels=["lane"])
    running = GaugeMetricFamily("histobatch_batches_running", "Batches that a worker holds.", labels=["lane"])
    oldest = GaugeMetricFamily(
        "histobatch_oldest_queued_batch_age_seconds",
        "Age of the batch that waits longest; 0 for none.",
        labels=["lane"],
    )
    for load in loads:
        waiting.add_metric([load.lane], load.waiting)
        running.add_metric([load.lane], load.running)
        oldest.add_metric([load.lane], load.oldest_s)
    yield from (waiting, running, oldest)


def _turn_metrics(loads: list[LaneLoad]) -> Iterator[Metric]:
    paused = GaugeMetricFamily(
        "histobatch_lane_paused", "Whether no batch of the lane is started, on request.", labels=["lane"]
    )
    where = GaugeMetricFamily(
        "histobatch_batches_waiting",
        "Batches that wait: for their turn in the database, or for a worker at the broker.",
        labels=["lane", "where"],
    )
    for load in loads:
        paused.add_metric([load.lane], load.paused_at is not None)
        where.add_metric([load.lane, "database"], load.waiting - load.at_broker)
        where.add_metric([load.lane, "broker"], load.at_broker)
    yield from (paused, where)


def _batch_metrics(sums: dict[str, float]) -> Iterator[Metric]:
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
    buckets = [(str(bound_s), sums[f"le_{bound_s}"]) for bound_s in BUCKETS_S]
    yield HistogramMetricFamily(
        "histobatch_batch_duration_seconds",
        "From a worker's claim of a batch to its close.",
        buckets=[*buckets, ("+Inf", sums["count"])],
        sum_value=sums["wall"] / 1e3,
    )
    stages = SummaryMetricFamily(
        "histobatch_stage_duration_seconds", "Time of one image in each stage; stages overlap.", labels=["stage"]
    )
    for stage in STAGES:
        stages.add_metric([stage], count_value=int(sums["classified"]), sum_value=sums[stage] / 1e3)
    yield stages


def _read_submissions(session: Session) -> Metric:
    family = GaugeMetricFamily("histobatch_submissions", "Submissions by state.", labels=["state"])
    for state, amount in count_submissions(session).items():
        family.add_metric([state], amount)
    return family
