"""Files to outcomes: threads hash, processes decode and threads wait for the engine, all at once."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from core.errors import ImageRejected, Reason
from core.paths import text_to_path
from worker.context import WorkerContext
from worker.decoding import Decoded, DecodeTask, Decoding
from worker.reading import hash_content

# Files whose hashes are looked up in the database at once: enough to make the question cheap for each.
GROUP = 32


@dataclass(frozen=True)
class WorkItem:
    """One image to classify: id of its item, and its path as text (core.paths)."""

    id: int
    path: str


@dataclass(frozen=True)
class KnownResult:
    """A stored result for a content."""

    id: int
    decision: str


@dataclass(frozen=True, kw_only=True)
class Classified:
    """A probability for an item's content; `known` where an earlier result says it already."""

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
    """Milliseconds of each stage, summed over images; stages of different images overlap."""

    read_ms: float = 0.0
    decode_ms: float = 0.0
    infer_ms: float = 0.0


@dataclass(frozen=True)
class Source:
    """Where a batch's files lie: the folder's bytes, and the roots that links may lead to."""

    folder: bytes
    roots: tuple[Path, ...]


@dataclass(frozen=True)
class _Fresh:
    """A file whose content has no result yet."""

    item: WorkItem
    content_hash: str
    read_ms: float


@dataclass(frozen=True)
class _Ready:
    """A file with its pixels."""

    file: _Fresh
    decoded: Decoded


Lookup = Callable[[Sequence[str]], Mapping[str, KnownResult]]
_Hashed = tuple[WorkItem, "str | ImageRejected", float]


@dataclass
class Pipeline:
    """Classifies the items of one batch.

    Attributes:
        look_up: finds results that are stored already, by content hash.
        keep_going: called between groups; renews the lease, or raises to abandon the batch.
    """

    context: WorkerContext
    source: Source
    look_up: Lookup
    keep_going: Callable[[], None]
    timings: Timings = field(default_factory=Timings)

    def run(self, items: Sequence[WorkItem]) -> list[Classified | Rejected]:
        """Return an outcome for each item, in any order.

        Raises:
            EngineError, StorageAway: nothing is wrong with the images; the batch must be tried again.
        """
        outcomes: list[Classified | Rejected] = []
        twins: list[tuple[WorkItem, str]] = []
        micro = _MicroBatches(self.context, self.timings)
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
            self.keep_going()
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
                yield [future.result() for future in ahead]
            ahead = hashing
        if ahead is not None:
            yield [future.result() for future in ahead]

    def _hash(self, item: WorkItem) -> _Hashed:
        start = time.perf_counter()
        content: str | ImageRejected
        try:
            limit = self.context.settings.max_image_bytes
            content = hash_content(self.source.folder, text_to_path(item.path), self.source.roots, limit)
        except ImageRejected as rejected:
            content = rejected
        return item, content, _ms_since(start)

    def _sort_out(
        self, group: list[_Hashed], seen: set[str]
    ) -> tuple[list[_Fresh], list[Classified | Rejected], list[tuple[WorkItem, str]]]:
        """Part a group into files to decode, outcomes that are clear already, and twins of files in this batch."""
        known = self.look_up([content for _, content, _ in group if isinstance(content, str)])
        fresh: list[_Fresh] = []
        done: list[Classified | Rejected] = []
        twins: list[tuple[WorkItem, str]] = []
        for item, content, read_ms in group:
            self.timings.read_ms += read_ms
            if isinstance(content, ImageRejected):
                done.append(Rejected(item_id=item.id, reason=content.reason, detail=content.detail))
            elif stored := known.get(content):
                done.append(Classified(item_id=item.id, content_hash=content, known=stored))
            elif content in seen:
                twins.append((item, content))
            else:
                seen.add(content)
                fresh.append(_Fresh(item, content, read_ms))
        return fresh, done, twins

    def _tasks(self, fresh: list[_Fresh]) -> list[DecodeTask]:
        limits = self.context.settings.image_limits  # one object, so that a message to a process holds it once
        return [
            DecodeTask(
                folder=self.source.folder,
                path=text_to_path(file.item.path),
                roots=self.source.roots,
                content_hash=file.content_hash,
                max_bytes=self.context.settings.max_image_bytes,
                limits=limits,
            )
            for file in fresh
        ]

    def _take_in(self, fresh: list[_Fresh], decoding: Decoding, micro: "_MicroBatches") -> list[Classified | Rejected]:
        """Hand decoded images to the engine; return the outcomes that are there."""
        rejected: list[Classified | Rejected] = []
        for file, answer in zip(fresh, decoding.results(), strict=True):
            if isinstance(answer, Decoded):
                self.timings.decode_ms += answer.elapsed_ms
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

    def __init__(self, context: WorkerContext, timings: Timings) -> None:
        self._context = context
        self._timings = timings
        self._waiting: list[_Ready] = []
        self._running: list[Future[tuple[float, list[Classified]]]] = []
        self._finished: list[Classified] = []

    def add(self, ready: _Ready) -> None:
        self._waiting.append(ready)
        if len(self._waiting) >= self._context.engine.best_batch:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        while len(self._running) > 2 * self._context.engine.parallel_calls:
            self._take_oldest()
        self._running.append(self._context.inferrers.submit(self._infer, self._waiting))
        self._waiting = []

    def collect(self, *, wait: bool) -> list[Classified]:
        """Take the outcomes that are there, or wait for all."""
        while self._running and (wait or self._running[0].done()):
            self._take_oldest()
        finished, self._finished = self._finished, []
        return finished

    def _take_oldest(self) -> None:
        infer_ms, outcomes = self._running.pop(0).result()
        self._timings.infer_ms += infer_ms
        self._finished += outcomes

    def _infer(self, images: list[_Ready]) -> tuple[float, list[Classified]]:
        start = time.perf_counter()
        probabilities = self._context.engine.classify(np.stack([image.decoded.pixels for image in images]))
        infer_ms = _ms_since(start)
        return infer_ms, [
            Classified(
                item_id=image.file.item.id,
                content_hash=image.file.content_hash,
                probability=float(probability),
                elapsed_ms=image.file.read_ms + image.decoded.elapsed_ms + infer_ms / len(images),
            )
            for image, probability in zip(images, probabilities, strict=True)
        ]


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
