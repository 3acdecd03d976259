"""Decode files in processes of their own: the fast PNG decoder holds the GIL, and a crash must not take the worker.

A process reads the file itself, because sending its bytes would cost as much as reading them again; the parent has
hashed it shortly before, so that it comes from the page cache, and the hash says whether it is still the same. Only the
bytes of files that are far, in a bucket or packed, are sent.
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
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import psutil
from numpy.typing import NDArray

from core.errors import ImageRejected, Reason
from core.imaging import HEIGHT, WIDTH, ImageLimits, decode_full, scale
from core.storage.protocol import Storage
from core.storage.reading import Content, read_content

# Files in one message to a process: enough to make the message cheap, few enough to share a batch's end evenly.
_CHUNK = 4
_WATCH_S = 1.0
# Deaths alone that condemn an image: one may be an accident, such as the kernel's memory killer.
_DEATHS = 2


@dataclass(frozen=True)
class DecodeTask:
    """A file to decode, and the content that it must still have, or its bytes where they were kept."""

    storage: Storage
    path: str
    content: Content
    max_bytes: int
    limits: ImageLimits
    time_limit_s: float


@dataclass(frozen=True)
class Decoded:
    """RGB uint8 (96, 144, 3), the milliseconds to read, verify, decode and scale, and those of scaling alone."""

    pixels: NDArray[np.uint8]
    elapsed_ms: float
    resize_ms: float = 0.0


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
                    _end(self._alone)
                    self._alone = self._make(1)
        detail = f"the decoding process died or ran out of time each of the {_DEATHS} times it had this image alone"
        return Refused(Reason.KILLS_WORKER, detail, is_content=True)

    def close(self) -> None:
        """End the processes; nobody waits for what they have in hand."""
        _end(self._executor)
        _end(self._alone)

    def _submit_chunk(self, chunk: Sequence[DecodeTask]) -> Future[list[Decoded | Refused]]:
        with self._lock:
            try:
                return self._executor.submit(_decode_chunk, chunk)
            except BrokenProcessPool:
                _end(self._executor)
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


def _end(executor: ProcessPoolExecutor) -> None:
    """End an executor and its processes, by SIGKILL: they only read.

    Left to itself, an executor whose process died asks the others to end and waits for them without limit, and one
    that did not end was seen to hold a whole run of the tests, as it would hold a worker that must stop.
    """
    processes = list((executor._processes or {}).values())  # Python 3.14 has kill_workers() for this
    results = getattr(executor, "_result_queue", None)
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    if results is not None:
        # One may have been killed in the middle of a result. Whoever reads that waits for its end as long as anyone
        # could write it, and so did this process, at its own end, for ever.
        results._writer.close()


def _decode_chunk(tasks: Sequence[DecodeTask]) -> list[Decoded | Refused]:
    """What a process does."""
    return [_decode(task) for task in tasks]


def _decode(task: DecodeTask) -> Decoded | Refused:
    start = time.perf_counter()
    is_content = False
    try:
        data = task.content.data
        if data is None:
            data = read_content(task.storage, task.path, task.max_bytes, task.content.content_hash)
        is_content = True
        with _time_limit(task.time_limit_s):
            image = decode_full(data, task.limits)
            decoded = time.perf_counter()
            pixels = scale(image, WIDTH, HEIGHT)
    except ImageRejected as rejected:
        return Refused(rejected.reason, rejected.detail, is_content)
    end = time.perf_counter()
    return Decoded(pixels, (end - start) * 1000, resize_ms=(end - decoded) * 1000)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Have the kernel kill this process when the block takes longer: a decoder in a loop hears nobody else.

    Reading is outside: storage may be slow for reasons that no image can help.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _begin_process(parent: int) -> None:
    """Leave Ctrl-C and signals to a whole group to the parent, and end when it is gone without a word."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while psutil.pid_exists(parent):
        time.sleep(_WATCH_S)
    os._exit(1)


def _modules_of_main() -> list[str]:
    """Name what the main module imports: each process runs it again, so these are loaded once for all."""
    return [value.__name__ for value in vars(sys.modules["__main__"]).values() if isinstance(value, ModuleType)]
