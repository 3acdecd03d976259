"""For each alert: series that raise it, and series close to those that do not; a value a minute, as promtool reads."""

from dataclasses import dataclass, field

UNPAUSED = {'histobatch_lane_paused{lane="bulk"}': "0x60", 'histobatch_lane_paused{lane="urgent"}': "0x60"}
PAUSED = {'histobatch_lane_paused{lane="bulk"}': "1x60"}


@dataclass(frozen=True)
class Case:
    """Series, and when to look whether they have raised the alert.

    Attributes:
        labels: that the alert takes over from its series.
    """

    alert: str
    series: dict[str, str]
    at: str
    fires: bool
    labels: dict[str, str] = field(default_factory=dict)


def _images(outcome: str, values: str) -> dict[str, str]:
    return {f'histobatch_items_total{{outcome="{outcome}",instance="a"}}': values}


CASES = (
    Case("ApiDown", {'up{job="histobatch"}': "0x60"}, "3m", fires=True),
    Case("ApiDown", {'up{job="other"}': "1x60"}, "3m", fires=True, labels={"job": "histobatch"}),
    Case("ApiDown", {'up{job="histobatch"}': "0 0 1x60"}, "3m", fires=False),
    Case("DatabaseAway", {"histobatch_database_up": "0x60"}, "2m", fires=True),
    Case(
        "DatabaseAway",
        {'histobatch_database_up{instance="a"}': "0x9", 'histobatch_database_up{instance="b"}': "1x9"},
        "2m",
        fires=False,
    ),
    Case("BrokerAway", {"histobatch_broker_up": "0x60"}, "3m", fires=True),
    Case("BrokerAway", {"histobatch_broker_up": "0 1x60"}, "3m", fires=False),
    Case(
        "NoWorker",
        {'histobatch_workers{state="serving"}': "0x60", 'histobatch_workers{state="away"}': "2x60"},
        "6m",
        fires=True,
    ),
    Case("NoWorker", {'histobatch_workers{state="serving"}': "0x3 1x60"}, "6m", fires=False),
    Case("ModelAway", {'histobatch_workers{state="waiting"}': "1x60"}, "11m", fires=True),
    Case("ModelAway", {'histobatch_workers{state="waiting"}': "1x8 0x60"}, "11m", fires=False),
    Case(
        "QueueStuck",
        {'histobatch_batches_queued{lane="bulk"}': "3x60", "histobatch_images_per_second": "0x60"} | UNPAUSED,
        "11m",
        fires=True,
    ),
    Case(
        "QueueStuck",
        {'histobatch_batches_queued{lane="bulk"}': "3x60", "histobatch_images_per_second": "0x60"} | PAUSED,
        "11m",
        fires=False,
    ),
    Case(
        "QueueStuck",
        {'histobatch_batches_queued{lane="bulk"}': "3x60", "histobatch_images_per_second": "2x60"} | UNPAUSED,
        "11m",
        fires=False,
    ),
    Case(
        "QueueStuck",
        {'histobatch_batches_queued{lane="bulk"}': "0x60", "histobatch_images_per_second": "0x60"} | UNPAUSED,
        "11m",
        fires=False,
    ),
    Case(
        "OldestBatchTooOld",
        {'histobatch_oldest_queued_batch_age_seconds{lane="urgent"}': "1000x60"} | UNPAUSED,
        "6m",
        fires=True,
        labels={"lane": "urgent"},
    ),
    Case(
        "OldestBatchTooOld",
        {'histobatch_oldest_queued_batch_age_seconds{lane="bulk"}': "90000x60"} | UNPAUSED,
        "6m",
        fires=True,
        labels={"lane": "bulk"},
    ),
    Case(
        "OldestBatchTooOld",
        {'histobatch_oldest_queued_batch_age_seconds{lane="bulk"}': "1000x60"} | UNPAUSED,
        "6m",
        fires=False,
    ),
    Case(
        "OldestBatchTooOld",
        {'histobatch_oldest_queued_batch_age_seconds{lane="bulk"}': "90000x60"} | PAUSED,
        "6m",
        fires=False,
    ),
    Case("IntakeStopped", {"histobatch_intake_level": "2x60"}, "11m", fires=True),
    Case("IntakeStopped", {"histobatch_intake_level": "1x60"}, "11m", fires=False),
    Case(
        "DiskLow",
        {"histobatch_data_free_bytes": "1500x60", "histobatch_data_free_bytes_least": "1000x60"},
        "11m",
        fires=True,
    ),
    Case(
        "DiskLow",
        {"histobatch_data_free_bytes": "2500x60", "histobatch_data_free_bytes_least": "1000x60"},
        "11m",
        fires=False,
    ),
    Case(
        "ManyFailures",
        _images("failed", "0+1x60") | _images("benign", "0+9x60") | _images("skipped", "0+900x60"),
        "60m",
        fires=True,
    ),
    Case("ManyFailures", _images("failed", "0+1x60") | _images("benign", "0+99x60"), "60m", fires=False),
    Case("ManyFailures", _images("failed", "0 1x60") | _images("benign", "0 1x60"), "60m", fires=False),
    Case("WorkersDie", {"histobatch_leases_expired_total": "0x9 1 2 3 4 5x60"}, "20m", fires=True),
    Case("WorkersDie", {"histobatch_leases_expired_total": "0x9 1x60"}, "20m", fires=False),
    Case(
        "ScanFailed",
        {'histobatch_archive_scan_failed{archive="a"}': "1x9", 'histobatch_archive_scan_failed{archive="b"}': "0x9"},
        "1m",
        fires=True,
        labels={"archive": "a"},
    ),
    Case("ScanFailed", {'histobatch_archive_scan_failed{archive="a"}': "1 0x9"}, "1m", fires=False),
    Case(
        "ScanOverdue",
        {'histobatch_archive_overdue_seconds{archive="a"}': "90000x9"},
        "1m",
        fires=True,
        labels={"archive": "a"},
    ),
    Case("ScanOverdue", {'histobatch_archive_overdue_seconds{archive="a"}': "80000x9"}, "1m", fires=False),
    Case("StorageAway", {'histobatch_submissions_parked{reason="storage_away"}': "1x60"}, "16m", fires=True),
    Case("StorageAway", {'histobatch_submissions_parked{reason="outside_window"}': "1x60"}, "16m", fires=False),
    Case("WebhookGivenUp", {"histobatch_webhooks_given_up": "1x9"}, "1m", fires=True),
    Case("WebhookGivenUp", {"histobatch_webhooks_given_up": "0x9"}, "1m", fires=False),
)
