"""The whole system on this machine for one folder: broker, database, worker, beat, Flower, API."""

import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console

from cli.client import ApiClient
from cli.processes import Programs
from cli.progress import follow, print_items, print_totals
from core.database import Database
from core.errors import ConfigurationError, TransientError
from core.lanes import Lane
from core.settings import PROJECT, Settings, read_settings
from core.states import SubmissionState

_READY_S = 120
_TABLE_ROWS = 200


def run_demo(folder: Path, *, once: bool, console: Console) -> None:
    """Classify a folder and show the outcome; then serve until Ctrl-C, or end at once.

    Raises:
        HistobatchError: a program did not start, or the submission failed.
        KeyboardInterrupt: by Ctrl-C or SIGTERM; no process is left then, either.
    """
    folder = _existing(folder)
    # SIGTERM ends the demo as Ctrl-C does, children first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _scratch() as scratch, Programs(scratch) as programs:
        client, addresses = _start(programs, scratch, folder, console)
        _classify(client, folder, console)
        for name, address in addresses.items():
            console.print(f"{name:12} {address}", highlight=False, soft_wrap=True)
        if not once:
            console.print("Serving until Ctrl-C.")
            _serve(programs)


def _existing(folder: Path) -> Path:
    resolved = folder.expanduser().resolve()
    if not resolved.is_dir():
        raise ConfigurationError(f"there is no folder {resolved}")
    return resolved


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for database, logs and broker of this run; after a failure it stays, with its logs, until the next."""
    parent = PROJECT / ".demo"
    parent.mkdir(exist_ok=True)
    for left in parent.glob("run-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=parent))
    try:
        yield scratch
    except KeyboardInterrupt:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _start(programs: Programs, scratch: Path, folder: Path, console: Console) -> tuple[ApiClient, dict[str, str]]:
    """Start every program and wait until the API says that all it needs is there."""
    environment = _environment(scratch, folder)
    with console.status("Starting broker, database, worker, beat, Flower and API"):
        if "REDIS_URL" not in os.environ:
            programs.start("broker", environment, [str(_port_of(environment["HISTOBATCH_REDIS_URL"]))])
        client, settings = start_programs(programs, environment, ("api", "worker", "beat", "flower"))
    return client, {
        "status page": f"{client.address}/",
        "API docs": f"{client.address}/docs",
        "Flower": f"http://127.0.0.1:{settings.flower_port}/  (user {settings.flower_user}, "
        f"password {settings.flower_password.get_secret_value()})",
    }


def start_programs(programs: Programs, environment: dict[str, str], names: Sequence[str]) -> tuple[ApiClient, Settings]:
    """Take over an environment, migrate its database, start programs, the API among them, and wait for it.

    Raises:
        HistobatchError: a setting is wrong, a program died, or the API is not ready in time.
    """
    os.environ.update(environment)
    settings = read_settings()
    database = Database(settings.database)
    database.migrate()
    database.close()
    for name in names:
        programs.start(name, environment)
    client = ApiClient(f"http://127.0.0.1:{settings.api_port}", settings)
    _wait_until_ready(client, programs)
    return client, settings


def _environment(scratch: Path, folder: Path) -> dict[str, str]:
    """Settings of this run: everything on loopback, on free ports, below the scratch folder."""
    broker_port, api_port, flower_port = free_ports(3)
    run = {
        "HISTOBATCH_DATA_DIR": str(scratch),
        "HISTOBATCH_DATABASE_URL": os.environ.get("DATABASE_URL", ""),
        "HISTOBATCH_REDIS_URL": os.environ.get("REDIS_URL", f"redis://127.0.0.1:{broker_port}/0"),
        "HISTOBATCH_ROOTS": str(folder),
        "HISTOBATCH_API_HOST": "127.0.0.1",
        "HISTOBATCH_API_PORT": str(api_port),
        # It listens on loopback only, and whoever tries it out has no key yet.
        "HISTOBATCH_REQUIRE_KEY": "false",
        "HISTOBATCH_FLOWER_HOST": "127.0.0.1",
        "HISTOBATCH_FLOWER_PORT": str(flower_port),
        "HISTOBATCH_FLOWER_PASSWORD": secrets.token_urlsafe(12),
        "HISTOBATCH_RECONCILE_EVERY_S": "5",
    }
    return dict(os.environ) | run


def free_ports(number: int) -> list[int]:
    """Ports on loopback that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])


def _wait_until_ready(client: ApiClient, programs: Programs) -> None:
    deadline = time.monotonic() + _READY_S
    while not client.is_ready():
        programs.check()
        if time.monotonic() > deadline:
            raise TransientError(f"the API was not ready within {_READY_S} s")
        time.sleep(0.1)


def _classify(client: ApiClient, folder: Path, console: Console) -> None:
    submitted = client.submit(folder, Lane.URGENT)
    first_outcome_s: list[float] = []
    ended = follow(client, submitted.id, console, lambda: first_outcome_s.append(_seconds_since_start()))
    if ended.state != SubmissionState.DONE:
        raise ConfigurationError(f"the submission ended as {ended.state}: {ended.detail}")
    print_items(client.items(submitted.id), console, thresholds=client.thresholds(), limit=_TABLE_ROWS)
    print_totals(ended, console)
    console.print(f"first outcome {first_outcome_s[0]:.1f} s after the start of the demo")


def _seconds_since_start() -> float:
    return time.time() - float(psutil.Process().create_time())


def _serve(programs: Programs) -> None:
    while True:
        programs.check()
        time.sleep(1)
