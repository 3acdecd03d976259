"""Does decoding or the GPU limit this machine's workers? Told from the stage timings of what they did last."""

import socket
from dataclasses import dataclass

from sqlmodel import Session, col, select

from core.states import BatchState
from core.tables import Batch
from worker.engines.streams import CALLERS_A_STREAM

_BATCHES = 64


@dataclass(frozen=True)
class Pace:
    """Images a second that decoding and the GPU could do, each without the other."""

    decode: float
    gpu: float


def measure_pace(session: Session, processes: int, streams: int) -> Pace | None:
    """Estimate from this machine's last batches on a GPU; None where there are none.

    Args:
        session: to read by.
        processes: that decode, of one worker.
        streams: of its GPU engine; a call's time includes its wait for one.
    """
    rows = session.exec(
        select(Batch)
        .where(
            Batch.state == BatchState.DONE,
            col(Batch.engine).startswith("tensorrt"),
            col(Batch.worker).startswith(f"{socket.gethostname()}:", autoescape=True),
            col(Batch.infer_ms) > 0,
            col(Batch.decode_ms) > 0,
        )
        .order_by(col(Batch.finished_at).desc())
        .limit(_BATCHES)
    ).all()
    images = sum(row.benign + row.malignant + row.uncertain for row in rows)
    if not images:
        return None
    decode_ms, infer_ms = sum(row.decode_ms + row.resize_ms for row in rows), sum(row.infer_ms for row in rows)
    return Pace(decode=1000 * processes * images / decode_ms, gpu=1000 * CALLERS_A_STREAM * streams * images / infer_ms)


def describe_pace(pace: Pace | None) -> str:
    """Say what limits, and what helps."""
    if pace is None:
        return "not measured: no batch of this machine ran on a GPU engine"
    numbers = f"{pace.decode:.0f} images/s can be decoded here, {pace.gpu:.0f} classified"
    if pace.decode >= pace.gpu:
        return numbers
    return f"decoding is the limit: {numbers}; more cores, or workers on more machines, make it faster"
