"""Say what keeps this machine from serving, and how to mend it."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from core.bundle import find_serving_folder, load_bundle
from core.database import Database
from core.errors import HistobatchError
from core.queue import WorkQueue
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

    choice = choose_engine(settings)
    return f"{choice.kind}: {choice.why}"


def _model(settings: Settings) -> str:
    bundle = load_bundle(find_serving_folder(settings))
    return f"{bundle.model_version}, every file as its manifest says"


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
    except Exception as error:  # the client raises its own types
        raise Fault(
            f"the broker does not answer ({type(error).__name__})",
            "start Redis or `histobatch broker`, or correct HISTOBATCH_REDIS_URL",
        ) from error
    finally:
        queue.close()
    return "answers; waiting: " + ", ".join(f"{name} {number}" for name, number in depths.items())


def _roots(settings: Settings) -> str:
    if not settings.roots:
        return "none: only uploads can be submitted (HISTOBATCH_ROOTS allows folders)"
    for root in settings.roots:
        if not root.is_dir():
            raise Fault(f"{root} is no folder", "mount the storage, or correct HISTOBATCH_ROOTS")
        if not os.access(root, os.R_OK | os.X_OK):
            raise Fault(f"{root} cannot be read", "grant this user read access")
    return ", ".join(str(root) for root in settings.roots)


def _disk(settings: Settings) -> str:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise Fault(f"{folder} cannot be written", "grant this user write access, or set HISTOBATCH_DATA_DIR")
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        raise Fault(f"{free / 2**30:.1f} GiB are free at {folder}", "free some, or move HISTOBATCH_DATA_DIR")
    return f"{free / 2**30:.0f} GiB free at {folder}"


def _clock(settings: Settings) -> str:
    """Leases are compared across machines: their clocks must agree far better than a lease is long."""
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
    Check("model", _model),
    Check("database", _database),
    Check("queue", _queue),
    Check("roots", _roots),
    Check("disk", _disk),
    Check("clock", _clock),
)
