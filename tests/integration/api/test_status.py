"""The service at a glance, and what happens where there is no room."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from core.bundle import NOTICE
from core.database import Database
from core.settings import Settings
from core.states import BatchState, SubmissionState
from core.tables import utc_now
from tests.integration.api.server import Api, add_batch, add_parked, add_submission, running


def test_status_tells_room_lanes_states_and_speed(each_api: Api) -> None:
    """Everything that an operator asks first, in one answer."""
    database = each_api.database
    submission_id = add_submission(database)
    add_parked(database)
    add_batch(database, submission_id, images=600, benign=600)
    add_batch(database, submission_id, images=20, state=BatchState.QUEUED)
    add_batch(database, submission_id, images=30, state=BatchState.QUEUED, sent_at=utc_now())
    each_api.http.post("/v1/lanes/nightly/pause")
    body = each_api.http.get("/v1/status").json()
    intake = body["intake"]
    assert (intake["level"], intake["reason"], intake["detail"], intake["waiting_images"]) == ("open", None, None, 50)
    assert intake["free_bytes"] == pytest.approx(shutil.disk_usage(each_api.settings.data_dir).free, rel=0.1)
    assert [(lane["lane"], lane["waiting"], lane["paused_at"] is not None) for lane in body["lanes"]] == [
        ("urgent", 0, False),
        ("bulk", 2, False),
        ("nightly", 0, True),
    ]
    assert (body["outbox"], body["images_per_s"]) == (1, 10)
    assert body["submissions"] == {state: int(state in ("running", "parked")) for state in SubmissionState}
    assert body["notice"] == NOTICE


def test_status_tells_which_engines_serve(each_api: Api) -> None:
    """A GPU that was refused, so that the CPU serves in its place, must not go unnoticed."""
    database = each_api.database
    submission_id = add_submission(database)
    for engine, images, age in (("tensorrt-fp16", 50, 2), ("openvino-int8", 30, 0), ("openvino-int8", 20, 0)):
        add_batch(
            database,
            submission_id,
            images=images,
            engine=engine,
            finished_at=utc_now() - timedelta(hours=age),
        )
    assert each_api.http.get("/v1/status").json()["engines"] == {"openvino-int8": 50}


@pytest.mark.parametrize(
    ("engine", "infer_ms", "waits"),
    [("tensorrt-fp16", 499.0, True), ("tensorrt-fp16", 501.0, False), ("openvino-int8", 1.0, False)],
)
def test_the_page_tells_when_the_gpu_waits(each_api: Api, engine: str, infer_ms: float, waits: bool) -> None:
    """Two batches in hand that have less than one call at the GPU together leave it idle."""
    submission_id = add_submission(each_api.database)
    times = {"infer_ms": infer_ms, "wall_ms": 1000.0}
    add_batch(each_api.database, submission_id, images=10, engine=engine, finished_at=utc_now(), **times)
    assert ("the GPU waits for decoding" in each_api.http.get("/").text) is waits


@pytest.mark.parametrize(
    ("limits", "level", "reason"),
    [
        ({"max_waiting_images": 11}, "slow", "queue_full"),
        ({"max_waiting_images": 10}, "stopped", "queue_full"),
        ({"min_free_bytes": 2**60}, "stopped", "disk_low"),
    ],
    ids=["queue nearly full", "queue full", "disk low"],
)
def test_status_tells_what_limits_intake(
    api_settings: Settings, sqlite: Database, limits: dict[str, int], level: str, reason: str
) -> None:
    """The level with its reason and a sentence."""
    add_batch(sqlite, add_submission(sqlite), images=10, state=BatchState.QUEUED)
    with running(api_settings.model_copy(update=limits), sqlite) as api:
        intake = api.http.get("/v1/status").json()["intake"]
    assert (intake["level"], intake["reason"]) == (level, reason)
    assert intake["detail"]


def test_folder_is_refused_while_the_disk_is_low(api_settings: Settings, sqlite: Database, images_root: Path) -> None:
    """507 with a reason and a time to come back; what was taken in before is still found by its key."""
    ask = {"json": {"folder": str(images_root)}, "headers": {"Idempotency-Key": "k"}}
    with running(api_settings, sqlite) as api:
        taken = api.http.post("/v1/submissions", **ask).json()["id"]  # type: ignore[arg-type]
    with running(api_settings.model_copy(update={"min_free_bytes": 2**60}), sqlite) as api:
        answer = api.http.post("/v1/submissions", json={"folder": str(images_root)})
        assert (answer.status_code, answer.json()["reason"]) == (507, "disk_low")
        assert int(answer.headers["Retry-After"]) > 0
        again = api.http.post("/v1/submissions", **ask)  # type: ignore[arg-type]
        assert (again.status_code, again.json()["id"]) == (200, taken)
        assert len(api.http.get("/v1/submissions").json()["submissions"]) == 1


def test_full_queue_refuses_nobody(api_settings: Settings, sqlite: Database, images_root: Path) -> None:
    """The folder is taken in; its listing waits."""
    add_batch(sqlite, add_submission(sqlite), images=10, state=BatchState.QUEUED)
    with running(api_settings.model_copy(update={"max_waiting_images": 5}), sqlite) as api:
        assert api.http.post("/v1/submissions", json={"folder": str(images_root)}).status_code == 202
        upload = api.http.post("/v1/submissions/upload", files=[("files", ("a.png", b"1"))])
        assert upload.status_code == 202
