"""Files to outcomes: reading and decoding in one pool of threads overlap with inference in another."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import ImageRejected, Reason
from core.imaging import decode_rgb
from core.paths import text_to_path
from worker.context import WorkerContext
from worker.reading import FileContent, read_again, read_content

# Files whose hashes are looked up in the database at once: enough to make the question cheap for each, few enough
# to bound the bytes that wait for its answer (32 x KEEP_BYTES at the most).
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


@dataclass
class _Decoded:
    item_id: int
    content_hash: str
    pixels: NDArray[np.uint8]
    read_ms: float
    decode_ms: float


Lookup = Callable[[Sequence[str]], Mapping[str, KnownResult]]
_Read = tuple[WorkItem, "FileContent | ImageRejected", float]


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
        for group in self._read_ahead(items):
            self.keep_going()
            fresh, done, same = self._sort_out(group, seen)
            outcomes += done
            twins += same
            for decoded in self._decode(fresh):
                if isinstance(decoded, Rejected):
                    outcomes.append(decoded)
                else:
                    micro.add(decoded)
            outcomes += micro.collect(wait=False)
        micro.flush()
        outcomes += micro.collect(wait=True)
        settled, alone = _outcomes_of_twins(twins, outcomes)
        return outcomes + settled + (self.run(alone) if alone else [])

    def _read_ahead(self, items: Sequence[WorkItem]) -> Iterator[list[_Read]]:
        """Yield groups of files that have been read, always one group ahead."""
        ahead: list[Future[_Read]] | None = None
        for first in range(0, len(items), GROUP):
            reading = [self.context.decoders.submit(self._read, item) for item in items[first : first + GROUP]]
            if ahead is not None:
                yield [future.result() for future in ahead]
            ahead = reading
        if ahead is not None:
            yield [future.result() for future in ahead]

    def _read(self, item: WorkItem) -> _Read:
        start = time.perf_counter()
        content: FileContent | ImageRejected
        try:
            limit = self.context.settings.max_image_bytes
            content = read_content(self.source.folder, text_to_path(item.path), self.source.roots, limit)
        except ImageRejected as rejected:
            content = rejected
        return item, content, _ms_since(start)

    def _sort_out(
        self, group: list[_Read], seen: set[str]
    ) -> tuple[list[tuple[WorkItem, FileContent, float]], list[Classified | Rejected], list[tuple[WorkItem, str]]]:
        """Part a group into files to decode, outcomes that are clear already, and twins of files in this batch."""
        hashes = [content.content_hash for _, content, _ in group if isinstance(content, FileContent)]
        known = self.look_up(hashes)
        fresh: list[tuple[WorkItem, FileContent, float]] = []
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
                fresh.append((item, content, read_ms))
        return fresh, done, twins

    def _decode(self, fresh: list[tuple[WorkItem, FileContent, float]]) -> Iterator[_Decoded | Rejected]:
        futures = [self.context.decoders.submit(self._decode_one, *entry) for entry in fresh]
        fresh.clear()  # the futures hold the bytes now, and let go of them one by one
        for future in futures:
            decoded = future.result()
            if isinstance(decoded, _Decoded):
                self.timings.decode_ms += decoded.decode_ms
            yield decoded

    def _decode_one(self, item: WorkItem, content: FileContent, read_ms: float) -> _Decoded | Rejected:
        start = time.perf_counter()
        settings = self.context.settings
        data = content.data
        if data is None:
            try:
                data = read_again(
                    self.source.folder,
                    text_to_path(item.path),
                    self.source.roots,
                    settings.max_image_bytes,
                    content.content_hash,
                )
            except ImageRejected as rejected:
                # The file is at fault, not the content: another file with the same one may be whole.
                return Rejected(item_id=item.id, reason=rejected.reason, detail=rejected.detail)
        try:
            pixels = decode_rgb(data, settings.image_limits)
        except ImageRejected as rejected:
            return Rejected(
                item_id=item.id, reason=rejected.reason, detail=rejected.detail, content_hash=content.content_hash
            )
        return _Decoded(item.id, content.content_hash, pixels, read_ms, _ms_since(start))


class _MicroBatches:
    """Gathers decoded images into calls of the size that the engine likes, and keeps a bounded number under way."""

    def __init__(self, context: WorkerContext, timings: Timings) -> None:
        self._context = context
        self._timings = timings
        self._waiting: list[_Decoded] = []
        self._running: list[Future[tuple[float, list[Classified]]]] = []
        self._finished: list[Classified] = []

    def add(self, decoded: _Decoded) -> None:
        self._waiting.append(decoded)
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

    def _infer(self, images: list[_Decoded]) -> tuple[float, list[Classified]]:
        start = time.perf_counter()
        probabilities = self._context.engine.classify(np.stack([image.pixels for image in images]))
        infer_ms = _ms_since(start)
        return infer_ms, [
            Classified(
                item_id=image.item_id,
                content_hash=image.content_hash,
                probability=float(probability),
                elapsed_ms=image.read_ms + image.decode_ms + infer_ms / len(images),
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
