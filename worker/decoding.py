"""Decode files in processes of their own: the fast PNG decoder holds the GIL, and a crash must not take the worker.

A process reads the file itself, because sending its bytes would cost as much as reading them again; the parent has
hashed it shortly before, so that it comes from the page cache, and the hash says whether it is still the same.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
from numpy.typing import NDArray

from core.errors import ImageRejected, Reason
from core.imaging import ImageLimits, decode_rgb
from worker.reading import read_content

# Files in one message to a process: enough to make the message cheap, few enough to share a batch's end evenly.
_CHUNK = 4
_WATCH_S = 1.0
# Deaths alone that condemn an image: one may be an accident, such as the kernel's memory killer.
_DEATHS = 2


@dataclass(frozen=True)
class DecodeTask:
    """A file to decode, and the content that it must still have."""

    folder: bytes
    path: bytes
    roots: tuple[Path, ...]
    content_hash: str
    max_bytes: int
    limits: ImageLimits


@dataclass(frozen=True)
class Decoded:
    """RGB uint8 (96, 144, 3), and the milliseconds it took to read, verify, decode and scale."""

    pixels: NDArray[np.uint8]
    elapsed_ms: float


@dataclass(frozen=True)
class Refused:
    """Why there are no pixels; `is_content` tells a fault of the bytes from one of this file."""

    reason: Reason
    detail: str
    is_content: bool


class DecodePool:
    """Processes that decode for all batches of a worker. Safe to use from several threads."""

    def __init__(self, processes: int) -> None:
        # Not forked from this process: it has threads, whose locks a fork would copy in any state.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *_modules_of_main()])
        self._processes = processes
        self._lock = threading.Lock()
        self._executor = self._make(processes)
        self._alone_lock = threading.Lock()
        self._alone = self._make(1)

    def warm_up(self) -> None:
        """Start every process now, so that the first batch does not wait for them."""
        for future in [self._executor.submit(time.sleep, 0.05) for _ in range(self._processes)]:
            future.result()

    def submit(self, tasks: Sequence[DecodeTask]) -> "Decoding":
        """Begin to decode; the answer's results() waits."""
        chunks = [tasks[first : first + _CHUNK] for first in range(0, len(tasks), _CHUNK)]
        return Decoding(self, [(chunk, self._submit_chunk(chunk)) for chunk in chunks])

    def decode_alone(self, task: DecodeTask) -> Decoded | Refused:
        """Decode a file that was in hand when a process died, with nothing else beside it."""
        with self._alone_lock:
            for _ in range(_DEATHS):
                try:
                    return self._alone.submit(_decode_chunk, [task]).result()[0]
                except BrokenProcessPool:
                    self._alone.shutdown(wait=False)
                    self._alone = self._make(1)
        detail = f"the decoding process died each of the {_DEATHS} times it had this image alone in hand"
        return Refused(Reason.KILLS_WORKER, detail, is_content=True)

    def close(self) -> None:
        """End the processes; what they have in hand is finished, what waits is dropped."""
        self._executor.shutdown(cancel_futures=True)
        self._alone.shutdown(cancel_futures=True)

    def _submit_chunk(self, chunk: Sequence[DecodeTask]) -> Future[list[Decoded | Refused]]:
        with self._lock:
            try:
                return self._executor.submit(_decode_chunk, chunk)
            except BrokenProcessPool:
                self._executor.shutdown(wait=False)
                self._executor = self._make(self._processes)
                return self._executor.submit(_decode_chunk, chunk)

    def _make(self, processes: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            processes, mp_context=self._context, initializer=_begin_process, initargs=(os.getpid(),)
        )


class Decoding:
    """Files that are being decoded."""

    def __init__(
        self, pool: DecodePool, chunks: list[tuple[Sequence[DecodeTask], Future[list[Decoded | Refused]]]]
    ) -> None:
        self._pool = pool
        self._chunks = chunks

    def results(self) -> Iterator[Decoded | Refused]:
        """Yield an answer for each task, in order.

        Raises:
            StorageAway: the folder is gone.
        """
        for chunk, future in self._chunks:
            try:
                yield from future.result()
            except BrokenProcessPool:
                # One image of those in hand killed a process, and all that waited were lost with it.
                yield from [self._pool.decode_alone(task) for task in chunk]


def _decode_chunk(tasks: Sequence[DecodeTask]) -> list[Decoded | Refused]:
    """What a process does."""
    return [_decode(task) for task in tasks]


def _decode(task: DecodeTask) -> Decoded | Refused:
    start = time.perf_counter()
    is_content = False
    try:
        data = read_content(task.folder, task.path, task.roots, task.max_bytes, task.content_hash)
        is_content = True
        pixels = decode_rgb(data, task.limits)
    except ImageRejected as rejected:
        return Refused(rejected.reason, rejected.detail, is_content)
    return Decoded(pixels, (time.perf_counter() - start) * 1000)


def _begin_process(parent: int) -> None:
    """Leave Ctrl-C and signals to a whole group to the parent, and end when it is gone without a word."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while psutil.pid_exists(parent):
        time.sleep(_WATCH_S)
    os._exit(1)


def _modules_of_main() -> list[str]:
    """Name what the main module imports: each process runs it again, so these are loaded once for all."""
    return [value.__name__ for value in vars(sys.modules["__main__"]).values() if isinstance(value, ModuleType)]
