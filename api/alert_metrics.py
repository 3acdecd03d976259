"""The metrics from which alerts are raised (deploy/prometheus/alerts.yml)."""

from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from sqlmodel import Session

from api.alerts import (
    ArchiveWatch,
    audit_length,
    count_given_up,
    count_parked,
    count_serving,
    name_active_model,
    watch_archives,
)
from core.presence import PresentWorker, WorkerState, read_workers
from core.settings import Settings
from core.tables import utc_now


def build_metrics() -> Iterator[Metric]:
    """Say which version answers."""
    yield InfoMetricFamily("histobatch_build", "Version of the API.", value={"version": version("histobatch")})


def alert_metrics(session: Session, settings: Settings) -> Iterator[Metric]:
    """Read and yield what alerts look at."""
    now = utc_now()
    yield from _worker_metrics(read_workers(session))
    model = name_active_model(session, settings)
    yield InfoMetricFamily("histobatch_model", "The model that serves.", value={"model": model} if model else None)
    parked = GaugeMetricFamily(
        "histobatch_submissions_parked", "Submissions that are parked, by reason.", labels=["reason"]
    )
    for reason, amount in count_parked(session).items():
        parked.add_metric([reason], amount)
    yield parked
    yield from _archive_metrics(watch_archives(session, now))
    yield GaugeMetricFamily(
        "histobatch_webhooks_given_up",
        "Webhooks that were given up in the last day.",
        value=count_given_up(session, now),
    )
    yield GaugeMetricFamily("histobatch_audit_rows", "Rows in the audit's chain.", value=audit_length(session))


def _worker_metrics(workers: list[PresentWorker]) -> Iterator[Metric]:
    found = Counter(worker.state for worker in workers)
    states = GaugeMetricFamily("histobatch_workers", "Workers by state, as they say themselves.", labels=["state"])
    for state in WorkerState:
        states.add_metric([state], found[state])
    serving = GaugeMetricFamily(
        "histobatch_workers_serving", "Workers that serve, by engine and model.", labels=["engine", "model"]
    )
    for (engine, model), amount in count_serving(workers).items():
        serving.add_metric([engine, model], amount)
    yield from (states, serving)


def _archive_metrics(archives: list[ArchiveWatch]) -> Iterator[Metric]:
    ended = GaugeMetricFamily(
        "histobatch_archive_scan_ended_timestamp_seconds", "When the last scan was done or failed.", labels=["archive"]
    )
    failed = GaugeMetricFamily(
        "histobatch_archive_scan_failed", "Whether the last scan that ended failed.", labels=["archive"]
    )
    overdue = GaugeMetricFamily(
        "histobatch_archive_overdue_seconds",
        "Since when a scan should have begun, while none that began since is done; 0 for in time.",
        labels=["archive"],
    )
    for archive in archives:
        if archive.ended_at is not None:
            ended.add_metric([archive.name], archive.ended_at.timestamp())
        failed.add_metric([archive.name], archive.has_failed)
        overdue.add_metric([archive.name], archive.overdue_s)
    yield from (ended, failed, overdue)
