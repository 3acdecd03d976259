"""Say what keeps this machine from serving, and how to mend it."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from core.activation import find_active_bundle, read_active
from core.archive_file import ArchiveFileError, read_archive_file
from core.bundle import load_bundle, read_manifest
from core.database import Database
from core.errors import ConfigurationError, HistobatchError
from core.queue import WorkQueue
from core.serving_tables import ModelActivation
from core.settings import Settings, read_settings

_FREE_BYTES = 2 * 2**30
_CLOCK_S = 5.0


class Fault(Exception):
    """What is wrong, and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend


@dataclass(frozen=True)
class Check:
    """One question to the machine; `run` returns what is well, or raises."""

    name: str
    run: Callable[[Settings], str]


def run_checks(console: Console) -> bool:
    """Print what each check finds; whether all is well."""
    settings = read_settings()
    found = [_report(check, settings, console) for check in _CHECKS]
    return all(found)


def _report(check: Check, settings: Settings, console: Console) -> bool:
    try:
        found = check.run(settings)
    except Fault as fault:
        _print(console, check.name, "red", f"WRONG  {fault}", f"mend: {fault.mend}")
        return False
    except HistobatchError as error:
        _print(console, check.name, "red", f"WRONG  {error}")
        return False
    _print(console, check.name, "green", f"ok     {found}")
    return True


def _print(console: Console, name: str, style: str, *lines: str) -> None:
    for line in lines:
        console.print(f"{name:9}", end="", highlight=False)
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
        name = ""


def _python(_: Settings) -> str:
    version = sys.version_info
    if not (3, 11) <= version[:2] < (3, 14):
        raise Fault(f"Python {version.major}.{version.minor} is not supported", "use Python 3.11, 3.12 or 3.13")
    return f"Python {version.major}.{version.minor}.{version.micro}"


def _engine(settings: Settings) -> str:
    from worker.engines.choice import choose_engine
    from worker.engines.place import engines_folder
    from worker.engines.refusals import read_refusal

    choice = choose_engine(settings)
    refusal = read_refusal(engines_folder(settings))
    if refusal is not None and choice.kind.startswith("tensorrt"):
        raise Fault(
            f"{refusal.engine} was refused at {refusal.at:%Y-%m-%d %H:%M:%S} UTC and another serves: {refusal.why}",
            "see docs/gpu.md; `histobatch engines prune --all` has the worker build anew",
        )
    return f"{choice.kind}: {choice.why}"


def check_model(settings: Settings) -> str:
    """Verify the bundle of the model that serves, and say who made it that."""
    active = _read_active(settings)
    bundle = load_bundle(find_active_bundle(settings, active))
    said = f"{bundle.model_version}, every file as its manifest says"
    if active is None:
        return said
    said += f"; activated by {active.who}"
    if settings.model is None or read_manifest(settings.model).model_version == active.model_version:
        return said
    return f"{said}, which goes before HISTOBATCH_MODEL ({settings.model})"


def _read_active(settings: Settings) -> ModelActivation | None:
    try:
        database = Database(settings.database)
        try:
            with database.read() as session:
                return read_active(session)
        finally:
            database.close()
    except (SQLAlchemyError, ConfigurationError):
        # The database has a check of its own; without it the model of the settings is looked at.
        return None


def _database(settings: Settings) -> str:
    try:
        database = Database(settings.database)
        database.ping()
        current = database.is_current()
        database.close()
    except HistobatchError:
        raise
    except Exception as error:  # drivers raise their own types
        raise Fault(
            f"the database does not answer ({type(error).__name__})", "start it, or correct HISTOBATCH_DATABASE_URL"
        ) from error
    if not current:
        raise Fault("its tables are missing or of another version", "run `histobatch migrate`")
    return "answers, tables are current"


def _queue(settings: Settings) -> str:
    queue = WorkQueue(settings)
    try:
        queue.ping()
        depths = queue.depths()
        may_evict = queue.may_evict()
    except Exception as error:  # the client raises its own types
        raise Fault(
            f"the broker does not answer ({type(error).__name__})",
            "start Redis or `histobatch broker`, or correct HISTOBATCH_REDIS_URL",
        ) from error
    finally:
        queue.close()
    if may_evict:
        raise Fault("the broker drops messages when its memory is full", "set its maxmemory-policy to noeviction")
    return "answers; waiting: " + ", ".join(f"{name} {number}" for name, number in depths.items())


def _decoding(settings: Settings) -> str:
    """A hint: what limits is no fault."""
    from cli.bottleneck import describe_pace, measure_pace

    processes = settings.decode_processes or len(os.sched_getaffinity(0))
    try:
        database = Database(settings.database)
        with database.read() as session:
            pace = describe_pace(measure_pace(session, processes, settings.gpu_streams))
        database.close()
    except Exception as error:  # drivers raise their own types
        raise Fault(f"the stage timings cannot be read ({type(error).__name__})", "see database") from error
    return pace


def _roots(settings: Settings) -> str:
    if not settings.roots:
        return "none: only uploads can be submitted (HISTOBATCH_ROOTS allows folders)"
    for root in settings.roots:
        if not root.is_dir():
            raise Fault(f"{root} is no folder", "mount the storage, or correct HISTOBATCH_ROOTS")
        if not os.access(root, os.R_OK | os.X_OK):
            raise Fault(f"{root} cannot be read", "grant this user read access")
    return ", ".join(str(root) for root in settings.roots)


def _archives(settings: Settings) -> str:
    if settings.archives_file is None:
        return "defined by the API and the command line only (HISTOBATCH_ARCHIVES_FILE names a file)"
    try:
        definitions = read_archive_file(settings.archives_file, settings)
    except ArchiveFileError as error:
        raise Fault(str(error), "correct it; until then its archives stay as they are") from error
    return f"{len(definitions)} in the file of archives"


def _disk(settings: Settings) -> str:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise Fault(f"{folder} cannot be written", "grant this user write access, or set HISTOBATCH_DATA_DIR")
    free = shutil.disk_usage(folder).free
    if free < max(_FREE_BYTES, settings.min_free_bytes):
        raise Fault(f"{free / 2**30:.1f} GiB are free at {folder}", "free some, or move HISTOBATCH_DATA_DIR")
    return f"{free / 2**30:.0f} GiB free at {folder}"


def _clock(settings: Settings) -> str:
    """Times of tries, rates and ETAs are compared across machines; leases are not, so seconds do no harm."""
    queue = WorkQueue(settings)
    try:
        offset_s = queue.clock_offset_s()
    except Exception as error:  # the client raises its own types
        raise Fault("cannot be compared: the broker does not answer", "see queue") from error
    finally:
        queue.close()
    if abs(offset_s) > _CLOCK_S:
        raise Fault(f"differs from the broker's by {offset_s:.0f} s", "run NTP on every machine")
    return f"within {abs(offset_s):.1f} s of the broker's"


_CHECKS = (
    Check("python", _python),
    Check("engine", _engine),
    Check("model", check_model),
    Check("database", _database),
    Check("decoding", _decoding),
    Check("queue", _queue),
    Check("roots", _roots),
    Check("archives", _archives),
    Check("disk", _disk),
    Check("clock", _clock),
)
