"""The doctor's hint tells from stored timings whether decoding or the GPU limits."""

import socket

import pytest

from cli.bottleneck import describe_pace, measure_pace
from core.database import Database
from core.states import BatchState
from core.tables import utc_now
from tests.assets.rows import add_batch, add_submission

HERE = f"{socket.gethostname()}:77"


def add_done(database: Database, **values: object) -> None:
    usual = {
        "images": 100,
        "benign": 60,
        "malignant": 40,
        "state": BatchState.DONE,
        "finished_at": utc_now(),
        "worker": HERE,
        "engine": "tensorrt-fp16",
        "decode_ms": 800.0,
        "infer_ms": 40.0,
    }
    with database.write() as session:
        submission = add_submission(session, "/images/case")
        add_batch(session, submission, [], **(usual | values))


def test_slow_decoding_is_named_as_the_limit(database: Database) -> None:
    """Four processes of 8 ms an image decode 500 a second; four calls of 0.4 ms an image classify 10,000."""
    add_done(database)
    with database.read() as session:
        pace = measure_pace(session, processes=4, streams=2)
    assert pace is not None
    assert (round(pace.decode), round(pace.gpu)) == (500, 10_000)
    assert "decoding is the limit" in describe_pace(pace)


def test_a_slow_gpu_is_no_fault_of_decoding(database: Database) -> None:
    """Where the GPU is the slower part, more cores would not help."""
    add_done(database, infer_ms=8000.0)
    with database.read() as session:
        pace = measure_pace(session, processes=4, streams=2)
    assert "limit" not in describe_pace(pace)


@pytest.mark.parametrize("change", [{"worker": "elsewhere:1"}, {"engine": "openvino-int8"}, {"infer_ms": 0.0}])
def test_only_batches_of_this_machines_gpu_count(database: Database, change: dict[str, object]) -> None:
    """Another machine has other cores, and on the CPU both share them; known results took no time."""
    add_done(database, **change)
    with database.read() as session:
        pace = measure_pace(session, processes=4, streams=2)
    assert pace is None
    assert "not measured" in describe_pace(pace)
