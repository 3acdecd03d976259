"""Files to outcomes: threads hash, processes decode and threads wait for the engine, all at once."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np

from core.errors import ImageRejected, Reason
from core.storage.protocol import Storage
from core.storage.reading import Content, Expected, hash_content
from worker.context import WorkerContext
from worker.decoding import Decoded, DecodeTask, Decoding
from worker.serving import Serving

# Files whose hashes are looked up in the database at once: enough to make the question cheap for each.
GROUP = 32


@dataclass(frozen=True)
class WorkItem:
    """One image to classify.

    Attributes:
        id: of its item.
        path: as text (core.paths).
        expected: what the file must still be when it is read; None where nobody minds.
    """

    id: int
    path: str
    expected: Expected | None = None


@dataclass(frozen=True)
class KnownResult:
    """A stored result for a content."""

    id: int
    decision: str


@dataclass(frozen=True, kw_only=True)
class Classified:
    """A probability for an item's content; `known` is the stored result, of this or of earlier work."""

    item_id: int
    content_hash: str
    probability: float = 0.0
    elapsed_ms: float = 0.0
    known: KnownResult | None = None


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Why an item has no result."""

    item_id: int
    reason: Reason
    detail: str
    content_hash: str | None = None


@dataclass
class Timings:
    """Milliseconds of each stage, summed over images; stages of different images overlap.

    Attributes:
        wait_ms: that calls waited for the engine, summed over calls.
        copy_ms: of gathering images into calls.
    """

    read_ms: float = 0.0
    decode_ms: float = 0.0
    resize_ms: float = 0.0
    wait_ms: float = 0.0
    copy_ms: float = 0.0
    infer_ms: float = 0.0
    write_ms: float = 0.0

    def add(self, more: "Timings") -> None:
        """Sum up."""
        for name, value in vars(more).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class _Fresh:
    """A file whose content has no result yet."""

    item: WorkItem
    content: Content
    read_ms: float

    @property
    def content_hash(self) -> str:
        return self.content.content_hash


@dataclass(frozen=True)
class _Ready:
    """A file with its pixels."""

    file: _Fresh
    decoded: Decoded


Lookup = Callable[[Sequence[str]], Mapping[str, KnownResult]]
Store = Callable[[Sequence[Classified]], Mapping[str, KnownResult]]
_Hashed = tuple[WorkItem, "Content | ImageRejected", float]


@dataclass
class Pipeline:
    """Classifies the items of one batch.

    Attributes:
        serving: the model and engine of this batch.
        storage: where the batch's files lie.
        look_up: finds results that are stored already, by content hash.
        store: stores results as soon as they are computed, and returns what is stored now, by content hash.
        keep_going: called again and again; notes the progress, or raises to abandon the batch.
        waiting_for_storage: a context for the time in which nothing but the storage can be at fault.
    """

    context: WorkerContext
    serving: Serving
    storage: Storage
    look_up: Lookup
    store: Store
    keep_going: Callable[[], None]
    waiting_for_storage: Callable[[], AbstractContextManager[None]]
    timings: Timings = field(default_factory=Timings)

    def run(self, items: Sequence[WorkItem]) -> list[Classified | Rejected]:
        """Return an outcome for each item, in any order.

        Raises:
            EngineError, StorageAway: nothing is wrong with the images; the batch must be tried again.
        """
        outcomes: list[Classified | Rejected] = []
        twins: list[tuple[WorkItem, str]] = []
        micro = _MicroBatches(self.serving, self.store, self.timings)
        seen: set[str] = set()
        under_way: deque[tuple[list[_Fresh], Decoding]] = deque()
        for group in self._hash_ahead(items):
            self.keep_going()
            fresh, done, same = self._sort_out(group, seen)
            outcomes += done
            twins += same
            under_way.append((fresh, self.context.decoders.submit(self._tasks(fresh))))
            # The next group is decoded while the results of this one are taken in.
            if len(under_way) > 1:
                outcomes += self._take_in(*under_way.popleft(), micro)
        while under_way:
            outcomes += self._take_in(*under_way.popleft(), micro)
        micro.flush()
        outcomes += micro.collect(wait=True)
        settled, alone = _outcomes_of_twins(twins, outcomes)
        return outcomes + settled + (self.run(alone) if alone else [])

    def _hash_ahead(self, items: Sequence[WorkItem]) -> Iterator[list[_Hashed]]:
        """Yield groups of files that have been hashed, always one group ahead."""
        ahead: list[Future[_Hashed]] | None = None
        for first in range(0, len(items), GROUP):
            hashing = [self.context.readers.submit(self._hash, item) for item in items[first : first + GROUP]]
            if ahead is not None:
                yield self._wait(ahead)
            ahead = hashing
        if ahead is not None:
            yield self._wait(ahead)

    def _wait(self, hashing: list[Future[_Hashed]]) -> list[_Hashed]:
        with self.waiting_for_storage():
            return [future.result() for future in hashing]

    def _hash(self, item: WorkItem) -> _Hashed:
        start = time.perf_counter()
        content: Content | ImageRejected
        try:
            limit = self.context.settings.max_image_bytes
            content = hash_content(self.storage, item.path, limit, item.expected)
        except ImageRejected as rejected:
            content = rejected
        return item, content, _ms_since(start)

    def _sort_out(
        self, group: list[_Hashed], seen: set[str]
    ) -> tuple[list[_Fresh], list[Classified | Rejected], list[tuple[WorkItem, str]]]:
        """Part a group into files to decode, outcomes that are clear already, and twins of files in this batch."""
        known = self.look_up([content.content_hash for _, content, _ in group if isinstance(content, Content)])
        fresh: list[_Fresh] = []
        done: list[Classified | Rejected] = []
        twins: list[tuple[WorkItem, str]] = []
        for item, content, read_ms in group:
            self.timings.read_ms += read_ms
            if isinstance(content, ImageRejected):
                done.append(Rejected(item_id=item.id, reason=content.reason, detail=content.detail))
            elif stored := known.get(content.content_hash):
                done.append(Classified(item_id=item.id, content_hash=content.content_hash, known=stored))
            elif content.content_hash in seen:
                twins.append((item, content.content_hash))
            else:
                seen.add(content.content_hash)
                fresh.append(_Fresh(item, content, read_ms))
        return fresh, done, twins

    def _tasks(self, fresh: list[_Fresh]) -> list[DecodeTask]:
        limits = self.context.settings.image_limits  # one object, so that a message to a process holds it once
        return [
            DecodeTask(
                storage=self.storage,
                path=file.item.path,
                content=file.content,
                max_bytes=self.context.settings.max_image_bytes,
                limits=limits,
                time_limit_s=self.context.settings.image_time_limit_s,
            )
            for file in fresh
        ]

    def _take_in(self, fresh: list[_Fresh], decoding: Decoding, micro: "_MicroBatches") -> list[Classified | Rejected]:
        """Hand decoded images to the engine; return the outcomes that are there."""
        rejected: list[Classified | Rejected] = []
        for file, answer in zip(fresh, decoding.results(), strict=True):
            self.keep_going()
            if isinstance(answer, Decoded):
                self.timings.decode_ms += answer.elapsed_ms - answer.resize_ms
                self.timings.resize_ms += answer.resize_ms
                micro.add(_Ready(file, answer))
                continue
            rejected.append(
                Rejected(
                    item_id=file.item.id,
                    reason=answer.reason,
                    detail=answer.detail,
                    # Where the file is at fault and not its content, another with the same content may be whole.
                    content_hash=file.content_hash if answer.is_content else None,
                )
            )
        return rejected + micro.collect(wait=False)


class _MicroBatches:
    """Gathers decoded images into calls of the size that the engine likes, and keeps a bounded number under way."""

    def __init__(self, serving: Serving, store: Store, timings: Timings) -> None:
        self._serving = serving
        self._store = store
        self._timings = timings
        self._waiting: list[_Ready] = []
        self._running: list[Future[tuple[Timings, list[Classified]]]] = []
        self._finished: list[Classified] = []

    def add(self, ready: _Ready) -> None:
        self._waiting.append(ready)
        if len(self._waiting) >= self._serving.engine.best_batch:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        while len(self._running) > 2 * self._serving.engine.parallel_calls:
            self._take_oldest()
        self._running.append(self._serving.inferrers.submit(self._infer, self._waiting, time.perf_counter()))
        self._waiting = []

    def collect(self, *, wait: bool) -> list[Classified]:
        """Take the outcomes that are there, or wait for all."""
        while self._running and (wait or self._running[0].done()):
            self._take_oldest()
        finished, self._finished = self._finished, []
        return finished

    def _take_oldest(self) -> None:
        timings, outcomes = self._running.pop(0).result()
        self._timings.add(timings)
        self._finished += outcomes

    def _infer(self, images: list[_Ready], flushed: float) -> tuple[Timings, list[Classified]]:
        timings = Timings(wait_ms=_ms_since(flushed))
        start = time.perf_counter()
        pixels = np.stack([image.decoded.pixels for image in images])
        timings.copy_ms = _ms_since(start)
        start = time.perf_counter()
        probabilities = self._serving.engine.classify(pixels)
        timings.infer_ms = _ms_since(start)
        computed = [
            Classified(
                item_id=image.file.item.id,
                content_hash=image.file.content_hash,
                probability=float(probability),
                elapsed_ms=image.file.read_ms + image.decoded.elapsed_ms + timings.infer_ms / len(images),
            )
            for image, probability in zip(images, probabilities, strict=True)
        ]
        start = time.perf_counter()
        stored = self._store(computed)
        timings.write_ms = _ms_since(start)
        return timings, [replace(image, known=stored[image.content_hash]) for image in computed]


def _outcomes_of_twins(
    twins: list[tuple[WorkItem, str]], outcomes: list[Classified | Rejected]
) -> tuple[list[Classified | Rejected], list[WorkItem]]:
    """Give files of equal content in one batch the outcome of the one that was decoded.

    Also returns the twins of a file that could not be read to its end: they must be looked at themselves.
    """
    by_hash = {outcome.content_hash: outcome for outcome in outcomes if outcome.content_hash}
    settled = [replace(by_hash[key], item_id=item.id) for item, key in twins if key in by_hash]
    return settled, [item for item, key in twins if key not in by_hash]


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
