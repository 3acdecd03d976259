"""What queue and database cost an image, and how a worker's memory moves over many images.

    python -m benchmarks.bulk [--images 10000] [--photos 2000]

Tiny images and the fake engine leave little but the overhead: the same files go once through the bare pipeline
(read, hash, decode, infer) in this process and once through the whole system, and the difference is what intake,
queue, leases and rows cost. Memory is the resident set of a worker with the real engine and of
its decoding processes, sampled throughout.
"""

import argparse
import contextlib
import io
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.images import write_png_copies
from benchmarks.stack import running_stack
from core.database import Database
from core.paths import path_to_text
from core.settings import read_settings
from core.storage.local import LocalStorage
from worker.context import open_context
from worker.pipeline import KnownResult, Pipeline, WorkItem


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="tiny images for the overhead")
    parser.add_argument("--photos", type=int, default=2_000, help="700x460 PNGs for memory, about 0.5 MB of disk each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch_name:
        _measure_overhead(Path(scratch_name), arguments.images)
    with tempfile.TemporaryDirectory() as scratch_name:
        _measure_memory(Path(scratch_name), arguments.photos)


def _measure_overhead(scratch: Path, number: int) -> None:
    folder = scratch / "images" / "tiny"
    paths = _write_tiny(folder, number)
    with running_stack(scratch, scratch / "images", HISTOBATCH_ENGINE="fake") as stack:
        bare_s = _bare_pipeline(folder, paths)
        system_s, ended = stack.classify(folder)
    print(f"{ended.counts.total} tiny images: bare pipeline {bare_s:.2f} s, whole system {system_s:.2f} s")
    print(f"queue and database: {(system_s - bare_s) / number * 1000:.3f} ms an image", flush=True)


def _measure_memory(scratch: Path, number: int) -> None:
    folder = scratch / "images" / "photos"
    write_png_copies(folder, number)
    with running_stack(scratch, scratch / "images", HISTOBATCH_ENGINE="auto") as stack, _Memory(stack.worker) as memory:
        elapsed_s, ended = stack.classify(folder)
    print(f"{ended.counts.total} PNGs of 700x460 through the real engine: {number / elapsed_s:.0f} images/s")
    print(
        f"worker's memory: {memory.quarters_mb()} MB at most in each quarter of the run, peak {memory.peak_mb:.0f} MB"
    )


def _write_tiny(folder: Path, number: int) -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for index in range(number):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG", compress_level=1)
        path = folder / f"{index:06}.png"
        path.write_bytes(buffer.getvalue())
        paths.append(path)
    return paths


def _bare_pipeline(folder: Path, paths: list[Path]) -> float:
    settings = read_settings().model_copy(update={"database_url": f"sqlite:///{folder.parent / 'bare.db'}"})
    database = Database(settings.database)
    database.migrate()
    database.close()
    context = open_context(settings)
    items = [WorkItem(index, path_to_text(path.name.encode())) for index, path in enumerate(paths)]
    storage = LocalStorage(str(folder).encode(), (folder.parent,))
    size = context.settings.batch_size
    start = time.perf_counter()
    serving = context.slot.current
    if serving is None:
        raise SystemExit("the model that serves does not load")
    for first in range(0, len(items), size):
        pipeline = Pipeline(
            context,
            serving,
            storage,
            look_up=lambda _: {},
            store=lambda images: {image.content_hash: KnownResult(0, "benign") for image in images},
            keep_going=lambda: None,
            waiting_for_storage=contextlib.nullcontext,
        )
        pipeline.run(items[first : first + size])
    elapsed_s = time.perf_counter() - start
    context.close()
    return elapsed_s


class _Memory:
    """Samples a worker's resident set ten times a second."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mb(self) -> float:
        return max(self._samples)

    def quarters_mb(self) -> list[int]:
        return [round(float(part.max())) for part in np.array_split(np.array(self._samples), 4) if len(part)]

    def _sample(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(0.1)
            self._samples.append(self._resident_mb())

    def _resident_mb(self) -> float:
        """The worker and its decoding processes; pages that they share count in each, so that this is too high."""
        resident = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                resident += child.memory_info().rss
        return float(resident) / 2**20


if __name__ == "__main__":
    main()
