"""Decoding on all cores, with only a few images at a time in memory."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from trainer.dataset.decoding import Outcome, look_at
from trainer.dataset.origins import Origin
from trainer.errors import DatasetError

# Called with the number of files looked at, and of all that need it.
Listener = Callable[[int, int], None]


def ignore(done: int, files: int) -> None:
    """Tell nobody."""


_Look = Callable[[Path | bytes], Outcome]

# Starting processes takes about a second; threads decode this many images meanwhile, although the decoder of PNGs
# keeps the interpreter's lock.
FEW = 64
_WAITING_PER_CORE = 4


def look_at_files(
    paths: Sequence[Path], origin: Origin, known: frozenset[str], listener: Listener
) -> Iterator[tuple[Path, Outcome]]:
    """Read, hash and decode files, in whatever order they are ready.

    Args:
        paths: the files.
        origin: where to read them.
        known: sha256 of contents that need no decoding.
        listener: told of progress.

    Raises:
        DatasetError: a decoding process died.
    """
    wanted = set(paths)
    ordered = [path for path in origin.images() if path in wanted] if origin.in_order else paths
    cores = os.cpu_count() or 1
    running: dict[Future[Outcome], Path] = {}
    try:
        with _executor(len(paths), origin, known) as (executor, look):
            for done, path in enumerate(ordered):
                if len(running) >= cores * _WAITING_PER_CORE:
                    yield from _finished(running)
                listener(done - len(running), len(paths))
                running[executor.submit(look, _work(path, origin))] = path
            while running:
                yield from _finished(running)
                listener(len(paths) - len(running), len(paths))
    except BrokenProcessPool as error:
        raise DatasetError("a decoding process died, perhaps for want of memory: close other programs") from error


def _finished(running: dict[Future[Outcome], Path]) -> Iterator[tuple[Path, Outcome]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


def _work(path: Path, origin: Origin) -> Path | bytes:
    """Return what a worker is given: bytes where only one reader can read."""
    if not origin.in_order:
        return path
    try:
        return origin.read(path)
    except DatasetError:
        return path  # the worker meets the same fault, and names it


@contextmanager
def _executor(files: int, origin: Origin, known: frozenset[str]) -> Iterator[tuple[Executor, _Look]]:
    """Give threads for few files and processes for many, and the function to run there."""
    executor: Executor
    look: _Look
    if files <= FEW:
        executor, look = ThreadPoolExecutor(os.cpu_count()), partial(_look, origin, known)
    else:
        context = get_context("forkserver")  # fork would copy torch's threads in the middle of their work
        executor = ProcessPoolExecutor(mp_context=context, initializer=_begin, initargs=(origin, known))
        look = _look_in_process
    try:
        yield executor, look
    finally:
        executor.shutdown(cancel_futures=True)


def _look(origin: Origin, known: frozenset[str], work: Path | bytes) -> Outcome:
    try:
        return look_at(work if isinstance(work, bytes) else origin.read(work), known)
    except DatasetError as error:
        return Outcome(sha256="", fault=str(error))


_in_process: list[
    _Look
] = []  # of this decoding process, set once: sent with each task it would cost more than the image


def _begin(origin: Origin, known: frozenset[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers in order
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _in_process[:] = [partial(_look, origin, known)]


def _die_with_parent() -> None:
    """End with a parent that was killed: the pool's queue would wait for it for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _look_in_process(work: Path | bytes) -> Outcome:
    return _in_process[0](work)
