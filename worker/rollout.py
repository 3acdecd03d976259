"""Brings this worker to the model that is active, while batches in hand go on with the one they began with."""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.activation import find_bundle, find_bundles, read_active
from core.bundle import find_serving_folder
from core.database import Database
from core.errors import HistobatchError
from core.settings import Settings
from worker.serving import Serving, Slot, Wanted, load_serving, make_fake_serving

log = structlog.get_logger()

# Looks for another activation in the time of one lease.
_LOOKS = 4
# Seconds until a model that does not load is tried again; or longer, where trying costs more than that.
_RETRY_S = 10.0
_AWAY = "the database, which says which model is active, does not answer or is not migrated"

Load = Callable[[Settings, Wanted | None], Serving]


class Rollout:
    """Reads which model is active, and puts it into the slot. The fake engine has no model: nothing concerns it.

    One thread loads, however many notice: they only say what is wanted, from which moment on nothing else is lent.
    """

    def __init__(self, settings: Settings, database: Database, slot: Slot, load: Load | None = None) -> None:
        """Follow the activations in a database.

        Args:
            load: verifies and loads what is wanted.
        """
        self._settings = settings
        self._database = database
        self._slot = slot
        self._load = load or load_wanted
        self._retry_at = 0.0
        self._tried: Wanted | None = None
        self._told: object = None
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._on_change: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._repeat, name="rollout", daemon=True)

    def begin(self) -> None:
        """Load the model that serves.

        One that was activated and does not load is tried again later, as is a database that does not answer.

        Raises:
            BundleError, EngineError: no model was activated, and the one of the settings cannot serve.
        """
        if self._settings.engine == "fake":
            self._slot.put(make_fake_serving(self._settings))
            return
        try:
            self.look()
        except SQLAlchemyError as error:
            log.warning("database_away", error=type(error).__name__)
            self._slot.note_trouble(None, _AWAY)
            return
        if self._slot.wanted is None:
            self._slot.put(self._load(self._settings, None))
        else:
            self._warn_of_setting(self._slot.wanted)
            self._try(self._slot.wanted)

    def start(self, on_change: Callable[[], object]) -> None:
        """Follow in a thread of its own.

        Args:
            on_change: called in that thread after each change of what this worker serves or waits for.
        """
        self._on_change = on_change
        if self._settings.engine != "fake":
            self._thread.start()

    def stop(self) -> None:
        """Follow no more; an engine that is being built is not waited for beyond the grace time."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.shutdown_grace_s)

    def look(self) -> None:
        """Notice which model is active: from now on no batch begins with another."""
        if self._settings.engine == "fake":
            return
        # One after the other: whoever read before an activation must not speak after one who read behind it.
        with self._looking:
            with self._database.read() as session:
                active = read_active(session)
            # Where there was an activation and is none, as in a database that was restored, what serves goes on.
            wanted = Wanted(active.model_version, active.manifest_sha256) if active else self._slot.wanted
            if wanted != self._slot.wanted:
                self._slot.want(wanted)
                self._wake.set()

    def follow(self) -> None:
        """Notice which model is active, and load it where it is not there."""
        self.look()
        self._tell()
        wanted = self._slot.wanted
        if self._is_missing() and (wanted != self._tried or time.monotonic() >= self._retry_at):
            self._try(wanted)
            self._tell()

    def _warn_of_setting(self, wanted: Wanted) -> None:
        """Whoever set HISTOBATCH_MODEL must be able to see why another model serves."""
        folder = self._settings.model
        if folder is not None and folder.resolve() not in find_bundles(self._settings, wanted.model_version):
            log.warning("model_setting_overruled", active=wanted.model_version, setting=str(folder))

    def _tell(self) -> None:
        standing = (self._slot.state, self._slot.wanted, self._slot.current)
        if standing != self._told:
            self._told = standing
            self._on_change()

    def _is_missing(self) -> bool:
        serving, wanted = self._slot.current, self._slot.wanted
        return serving is None or (wanted is not None and not wanted.is_met_by(serving))

    def _try(self, wanted: Wanted | None) -> None:
        start = time.monotonic()
        name = wanted.model_version if wanted else None
        log.info("model_loading", model=name)
        try:
            serving = self._load(self._settings, wanted)
        except HistobatchError as error:
            self._note_failure(wanted, str(error), start)
        except Exception as error:
            # The edge of the thread: a worker that cannot load a model, whatever the cause, must say so and try again.
            log.exception("model_load_failed", model=name)
            self._note_failure(wanted, f"it does not load ({type(error).__name__}); the worker's log has more", start)
        else:
            if self._slot.put(serving):
                seconds = round(time.monotonic() - start, 1)
                log.info("model_swapped", model=serving.model_version, engine=serving.engine.name, seconds=seconds)

    def _note_failure(self, wanted: Wanted | None, why: str, start: float) -> None:
        elapsed_s = time.monotonic() - start
        self._tried, self._retry_at = wanted, time.monotonic() + max(_RETRY_S, 2 * elapsed_s)
        self._slot.note_trouble(wanted, why)
        log.error("model_away", model=wanted.model_version if wanted else None, why=why)

    def _repeat(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                self.follow()
            except SQLAlchemyError as error:
                log.warning("database_away", error=type(error).__name__)
            except Exception:
                # The edge of the thread: without it the worker would never learn of another activation.
                log.exception("rollout_failed")
            self._wake.wait(self._settings.lease_s / _LOOKS)


def load_wanted(settings: Settings, wanted: Wanted | None) -> Serving:
    """Load the model that was activated, or where none was, the one that the settings name.

    Raises:
        BundleError, EngineError: it cannot serve here; says why.
    """
    folder = find_serving_folder(settings) if wanted is None else find_bundle(settings, wanted.model_version)
    return load_serving(settings, folder, wanted)
