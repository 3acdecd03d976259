"""The model that serves in this worker: one value, taken by each batch, and replaced between batches."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from core.bundle import MANIFEST, Bundle, DecisionRule, file_sha256, load_bundle
from core.errors import BundleError, EngineError
from core.presence import WorkerState
from core.settings import Settings
from worker.engines.choice import EngineChoice, choose_engine, fall_back, load_engine
from worker.engines.protocol import Engine

log = structlog.get_logger()

_FAKE_VERSION = "fake@0.0.0"
_FAKE_RULE = DecisionRule(threshold=0.5, abstain_low=0.4, abstain_high=0.6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    """A model on an engine, ready to classify. A batch takes one at its start and keeps it to its end.

    Attributes:
        model_version: under which results are stored.
        manifest_sha256: of its bundle's manifest; None for the fake engine, which has no bundle.
        inferrers: threads that wait for the engine, one for each call it takes at once.
    """

    engine: Engine
    choice: EngineChoice
    model_version: str
    rule: DecisionRule
    inferrers: ThreadPoolExecutor
    manifest_sha256: str | None = None

    def close(self) -> None:
        """Free the engine, once the calls of batches that were abandoned are through."""
        self.inferrers.shutdown(cancel_futures=True)
        try:
            self.engine.close()
        except EngineError as error:
            # Nothing of it is used any more; a device that is lost shows in the engine that goes on.
            log.warning("engine_not_freed", engine=self.engine.name, why=str(error))


@dataclass(frozen=True)
class Wanted:
    """The model that was activated: no batch begins with another.

    Attributes:
        manifest_sha256: of the manifest that was verified; None takes any bundle of that name.
    """

    model_version: str
    manifest_sha256: str | None = None

    def is_met_by(self, serving: Serving) -> bool:
        """Whether this is it, byte for byte."""
        same_files = self.manifest_sha256 in (None, serving.manifest_sha256)
        return serving.model_version == self.model_version and same_files


class Slot:
    """The place of the model that serves. Lends it to batches, and closes one that was replaced after its last batch.

    Safe to use from several threads.
    """

    def __init__(self, serving: Serving | None = None) -> None:
        self._changed = threading.Condition()
        self._serving = serving
        self._wanted: Wanted | None = None
        self._trouble: str | None = None
        self._batches: Counter[Serving] = Counter()
        self._is_closed = False

    @property
    def current(self) -> Serving | None:
        """What is loaded, whether or not it may serve; None where nothing is."""
        with self._changed:
            return self._serving

    @property
    def wanted(self) -> Wanted | None:
        """What was activated; None where nothing was."""
        with self._changed:
            return self._wanted

    @property
    def state(self) -> WorkerState:
        """SERVING, LOADING or WAITING."""
        with self._changed:
            return self._state()

    @property
    def trouble(self) -> str | None:
        """Why it waits."""
        with self._changed:
            return self._trouble if self._state() is WorkerState.WAITING else None

    @contextmanager
    def lend(self, patience_s: float) -> Iterator[Serving | None]:
        """Lend what serves for the time of a batch; None where nothing may serve within patience_s seconds."""
        with self._changed:
            self._changed.wait_for(self._is_ready, patience_s)
            serving = self._serving if self._is_ready() else None
            if serving is not None:
                self._batches[serving] += 1
        try:
            yield serving
        finally:
            if serving is not None:
                self._give_back(serving)

    def want(self, wanted: Wanted | None) -> None:
        """Lend nothing but this from now on. None is met by whatever is there."""
        with self._changed:
            if wanted != self._wanted:
                self._wanted, self._trouble = wanted, None
                self._changed.notify_all()

    def note_trouble(self, wanted: Wanted | None, why: str) -> None:
        """Note why what is wanted is not there, unless something else is wanted by now."""
        with self._changed:
            if wanted == self._wanted:
                self._trouble = why

    def put(self, serving: Serving) -> bool:
        """Have this serve from the next batch on; where another is wanted by now, it is closed, and this is False."""
        with self._changed:
            is_welcome = not self._is_closed and (self._wanted is None or self._wanted.is_met_by(serving))
            replaced = self._serving if is_welcome else serving
            if is_welcome:
                self._serving, self._trouble = serving, None
                self._changed.notify_all()
            is_idle = replaced is not None and not self._batches[replaced]
        if replaced is not None and is_idle:
            replaced.close()
        return is_welcome

    def close(self) -> None:
        """Close whatever is loaded. No batch may be in hand, or its calls fail."""
        with self._changed:
            loaded = {*self._batches, *([self._serving] if self._serving else [])}
            self._is_closed, self._serving = True, None
            self._batches.clear()
        for serving in loaded:
            serving.close()

    def _give_back(self, serving: Serving) -> None:
        with self._changed:
            if serving not in self._batches:
                return  # closed with the slot
            self._batches[serving] -= 1
            is_last = not self._batches[serving]
            if is_last:
                del self._batches[serving]
            is_over = is_last and serving is not self._serving
        if is_over:
            serving.close()

    def _is_ready(self) -> bool:
        return self._serving is not None and (self._wanted is None or self._wanted.is_met_by(self._serving))

    def _state(self) -> WorkerState:
        if self._is_ready():
            return WorkerState.SERVING
        return WorkerState.LOADING if self._trouble is None else WorkerState.WAITING


def load_serving(settings: Settings, folder: Path, wanted: Wanted | None = None) -> Serving:
    """Verify a bundle, load the best engine that the settings allow, and let it through its gate.

    Raises:
        BundleError: the bundle is damaged, or is not the one that was activated.
        EngineError: no engine can run it here.
    """
    bundle = load_bundle(folder)
    manifest_sha256 = file_sha256(folder / MANIFEST)
    if wanted is not None and wanted.manifest_sha256 not in (None, manifest_sha256):
        raise BundleError(
            f"the bundle of {wanted.model_version} on this machine is not the one that was activated: copy that one"
        )
    engine, choice = _load_allowed(choose_engine(settings), bundle, settings)
    return Serving(
        engine=engine,
        choice=choice,
        model_version=bundle.model_version,
        rule=bundle.manifest.decision,
        inferrers=_make_inferrers(engine),
        manifest_sha256=manifest_sha256,
    )


def make_fake_serving(settings: Settings) -> Serving:
    """Make the engine without a network, which needs no bundle."""
    choice = choose_engine(settings)
    engine = load_engine(choice, None, settings)
    return Serving(
        engine=engine, choice=choice, model_version=_FAKE_VERSION, rule=_FAKE_RULE, inferrers=_make_inferrers(engine)
    )


def _load_allowed(choice: EngineChoice, bundle: Bundle, settings: Settings) -> tuple[Engine, EngineChoice]:
    """Load the chosen engine, or the next that the settings allow.

    Raises:
        EngineError: none of them loads.
    """
    while True:
        try:
            return load_engine(choice, bundle, settings), choice
        except EngineError as error:
            choice = fall_back(choice, error, settings)


def _make_inferrers(engine: Engine) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(engine.parallel_calls, thread_name_prefix="infer")
