"""/live, /ready and /metrics say what is so."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from core.database import Database
from core.lanes import Lane
from core.settings import Settings
from core.states import BatchState, SubmissionState
from core.tables import utc_now
from tests.integration.api.server import Api, add_batch, add_parked, add_submission, running

_BROKEN = "redis://127.0.0.1:1/0"


def _scrape(api: Api) -> dict[tuple[str, str], float]:
    """All samples: (name, value of its label) to value."""
    answer = api.http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_ready_when_all_parts_answer(each_api: Api) -> None:
    """200, and nothing fails."""
    answer = each_api.http.get("/ready")
    assert (answer.status_code, answer.json()["failing"]) == (200, [])
    assert [check["name"] for check in answer.json()["checks"]] == ["database", "queue", "model"]


def _break_model(settings: Settings) -> Settings:
    shutil.rmtree(settings.models)
    return settings


def _break_manifest(settings: Settings) -> Settings:
    (settings.models / "new" / "manifest.json").write_text("{")
    return settings


@pytest.mark.parametrize(
    ("damage", "failing"),
    [
        (_break_model, ["model"]),
        (_break_manifest, ["model"]),
        (
            lambda settings: settings.model_copy(update={"database_url": f"sqlite:///{settings.data_dir}/new.db"}),
            ["database"],
        ),
        (lambda settings: settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/x"}), ["database"]),
    ],
    ids=["no bundle", "malformed manifest", "not migrated", "database away"],
)
def test_ready_names_what_fails(
    api_settings: Settings, sqlite: Database, damage: Callable[[Settings], Settings], failing: list[str]
) -> None:
    """503 with the failing part's name; the process itself lives on."""
    with running(damage(api_settings), sqlite) as api:
        answer = api.http.get("/ready")
        assert (answer.status_code, answer.json()["failing"]) == (503, failing)
        assert "127.0.0.1" not in answer.text
        assert api.http.get("/live").json() == {"status": "live"}


def test_an_api_without_a_broker_stays_in_service(api_settings: Settings, sqlite: Database, images_root: Path) -> None:
    """200, degraded: results are read, and a submission is taken, all the same. With more away, it is 503."""
    with running(api_settings.model_copy(update={"redis_url": _BROKEN}), sqlite) as api:
        answer = api.http.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["failing"] == ["queue"]
        assert "127.0.0.1" not in answer.text
        assert api.http.post("/v1/submissions", json={"folder": str(images_root)}).status_code == 202
        _break_model(api_settings)
        answer = api.http.get("/ready")
        assert (answer.status_code, answer.json()["failing"]) == (503, ["queue", "model"])


def test_metrics_are_computed_from_the_database(each_api: Api) -> None:
    """Items by outcome without split batches, durations, expired leases, waiting batches and their age."""
    database = each_api.database
    first = add_submission(database)
    add_submission(database, state=SubmissionState.DONE)
    add_parked(database)
    add_batch(
        database, first, images=300, benign=100, malignant=80, uncertain=60, failed=40, skipped=20, wall_ms=2000,
        decode_ms=900, infer_ms=600, expirations=1,
    )  # fmt: skip
    add_batch(database, first, images=100, state=BatchState.SPLIT, failed=7, expirations=2)
    add_batch(
        database,
        first,
        images=50,
        state=BatchState.QUEUED,
        lane=Lane.NIGHTLY,
        created_at=utc_now() - timedelta(hours=1),
    )
    found = _scrape(each_api)
    outcomes = {
        name: found[("histobatch_items_total", name)] for name in ("benign", "malignant", "uncertain", "failed")
    }
    assert outcomes == {"benign": 100, "malignant": 80, "uncertain": 60, "failed": 40}
    assert found[("histobatch_items_pending", "")] == 50
    assert found[("histobatch_leases_expired_total", "")] == 3
    assert found[("histobatch_batches_queued", "nightly")] == 1
    assert found[("histobatch_batches_queued", "bulk")] == 0
    assert found[("histobatch_oldest_queued_batch_age_seconds", "nightly")] == pytest.approx(3600, abs=60)
    assert found[("histobatch_images_per_second", "")] == pytest.approx(5)
    assert found[("histobatch_batch_duration_seconds_count", "")] == 1
    assert found[("histobatch_batch_duration_seconds_sum", "")] == 2
    assert found[("histobatch_batch_duration_seconds_bucket", "1.0")] == 0
    assert found[("histobatch_batch_duration_seconds_bucket", "2.5")] == 1
    assert found[("histobatch_stage_duration_seconds_sum", "decode")] == pytest.approx(0.9)
    assert found[("histobatch_stage_duration_seconds_count", "decode")] == 300
    assert found[("histobatch_submissions", "parked")] == 1
    assert found[("histobatch_submissions", "running")] == 1
    assert found[("histobatch_submissions", "done")] == 1


def test_metrics_tell_where_batches_wait_and_which_lane_is_paused(each_api: Api) -> None:
    """Batches that were sent wait at the broker, the others for their turn in the database."""
    first = add_submission(each_api.database)
    for sent_at in (None, None, utc_now()):
        add_batch(each_api.database, first, images=10, state=BatchState.QUEUED, sent_at=sent_at)
    each_api.http.post("/v1/lanes/nightly/pause")
    found = _scrape(each_api)
    assert found[("histobatch_batches_waiting", "bulkdatabase")] == 2
    assert found[("histobatch_batches_waiting", "bulkbroker")] == 1
    assert found[("histobatch_batches_waiting", "urgentdatabase")] == 0
    assert (found[("histobatch_lane_paused", "nightly")], found[("histobatch_lane_paused", "bulk")]) == (1, 0)
    assert found[("histobatch_intake_level", "")] == 0
    assert found[("histobatch_data_free_bytes", "")] == pytest.approx(
        shutil.disk_usage(each_api.settings.data_dir).free, rel=0.1
    )


@pytest.mark.parametrize(
    ("limits", "level"),
    [({"max_waiting_images": 11}, 1), ({"max_waiting_images": 10}, 2), ({"min_free_bytes": 2**60}, 2)],
    ids=["queue nearly full", "queue full", "disk low"],
)
def test_metrics_tell_the_level_of_intake(
    api_settings: Settings, sqlite: Database, limits: dict[str, int], level: int
) -> None:
    """1 where intake slows down, 2 where it stopped."""
    add_batch(sqlite, add_submission(sqlite), images=10, state=BatchState.QUEUED)
    with running(api_settings.model_copy(update=limits), sqlite) as api:
        assert _scrape(api)[("histobatch_intake_level", "")] == level


def test_metrics_survive_a_restart(api_settings: Settings, sqlite: Database) -> None:
    """A new process tells the same counts."""
    add_batch(sqlite, add_submission(sqlite), images=10, benign=10)
    seen = []
    for _ in range(2):
        with running(api_settings, sqlite) as api:
            seen.append(_scrape(api)[("histobatch_items_total", "benign")])
    assert seen == [10, 10]


def test_queue_depth_is_that_of_the_broker(api: Api) -> None:
    """Messages that wait in each queue."""
    Redis.from_url(api.settings.redis_url).rpush("bulk", "a", "b", "c")
    found = _scrape(api)
    assert found[("histobatch_broker_up", "")] == 1
    assert found[("histobatch_queue_depth", "bulk")] == 3
    assert found[("histobatch_queue_depth", "urgent")] == 0


def test_scrape_works_without_the_broker(api_settings: Settings, sqlite: Database) -> None:
    """The broker is reported as down, and the rest as usual."""
    add_batch(sqlite, add_submission(sqlite), images=10, benign=10)
    with running(api_settings.model_copy(update={"redis_url": _BROKEN}), sqlite) as api:
        found = _scrape(api)
    assert found[("histobatch_broker_up", "")] == 0
    assert ("histobatch_queue_depth", "bulk") not in found
    assert found[("histobatch_items_total", "benign")] == 10


def test_scrape_works_without_the_database(api_settings: Settings, sqlite: Database, tmp_path: Path) -> None:
    """The database is reported as down; no count pretends to be zero."""
    settings = api_settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'empty.db'}"})
    with running(settings, sqlite) as api:
        found = _scrape(api)
    assert found[("histobatch_database_up", "")] == 0
    assert ("histobatch_items_total", "benign") not in found
