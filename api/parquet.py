"""Results as Parquet, streamed through a process that writes it (api.parquet_process)."""

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from api.problems import ApiError, ProblemReason
from api.schemas import ItemPublic
from api.turns import take_turn
from core.bundle import NOTICE

_PROGRAM = Path(__file__).with_name("parquet_process.py")
_PIECE = 2**16
# Each is a process with some 100 MB.
_MOST_AT_ONCE = 4
_RETRY_AFTER_S = 30
_TURNS = threading.BoundedSemaphore(_MOST_AT_ONCE)


def take_parquet_turn() -> AsyncExitStack:
    """Take one of the few turns to write Parquet; whoever closes what is returned gives it back.

    Raises:
        ApiError: 501 where the extra is not installed, 503 where all turns are taken.
    """
    if find_spec("pyarrow") is None:
        raise ApiError(
            HTTPStatus.NOT_IMPLEMENTED,
            ProblemReason.NOT_INSTALLED,
            "Parquet needs pyarrow on the API's machine: pip install 'histobatch[parquet]'",
        )
    turn = AsyncExitStack()
    busy = "too many Parquet files are being written: try again, or take results.csv"
    turn.enter_context(take_turn(_TURNS, 0, busy, _RETRY_AFTER_S))
    return turn


def write_parquet(chunks: Iterable[Sequence[ItemPublic]], submission_id: str) -> Iterator[bytes]:
    """Yield a Parquet file piece by piece; its metadata holds the notice, the submission and the models.

    A file that could not be finished has no footer, so no reader takes it for a whole one.

    Raises:
        Whatever reading the chunks raises, and RuntimeError where the writing process failed.
    """
    process = subprocess.Popen([sys.executable, "-P", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes were asked for
    failures: list[Exception] = []
    metadata = {"notice": NOTICE, "submission": submission_id}
    feeder = threading.Thread(
        target=_feed, args=(chunks, metadata, process, process.stdin, failures), name="parquet", daemon=True
    )
    feeder.start()
    try:
        # Not read(): that would wait until a whole piece is there.
        while piece := process.stdout.read1(_PIECE):  # type: ignore[attr-defined]
            yield piece
        feeder.join()
        if failures:
            raise failures[0]
        if process.wait() != 0:
            raise RuntimeError(f"writing Parquet ended with status {process.returncode}")
    finally:
        # Whoever asked may be gone in the middle; the feeder then finds its pipe broken.
        process.kill()
        process.wait()
        process.stdout.close()


def _feed(
    chunks: Iterable[Sequence[ItemPublic]],
    metadata: dict[str, str],
    process: "subprocess.Popen[bytes]",
    stdin: BinaryIO,
    failures: list[Exception],
) -> None:
    try:
        pickle.dump(metadata, stdin)
        for items in chunks:
            pickle.dump([_row(item) for item in items], stdin, pickle.HIGHEST_PROTOCOL)
            stdin.flush()
    except Exception as error:  # carried over to the thread that answers
        # Before the input is closed: its end could pass for the end of the results.
        process.kill()
        failures.append(error)
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdin.close()


def _row(item: ItemPublic) -> tuple[object, ...]:
    return (
        item.id,
        item.path,
        item.path_exact,
        item.size,
        item.state.value,
        item.decision,
        item.probability,
        item.reason,
        item.detail,
        item.model_version,
        item.engine,
        item.elapsed_ms,
        item.content_hash,
        item.patient,
        item.slide,
        item.magnification,
        item.classified_at,
        None if item.verdict is None else item.verdict.value,
    )
