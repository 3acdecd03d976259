"""Real programs as subprocesses, and waiting on conditions."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.settings import PROJECT, Settings


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Wait for a condition; fail with its name when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain: {what}")
        time.sleep(0.05)


def stands_still(pid: int) -> bool:
    """Whether SIGSTOP has reached all threads of a process: until then one may still take a lock."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def run_histobatch(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as users type it, to its end, on a terminal wide enough for its tables."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"COLUMNS": "200"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


class Program:
    """One of our programs, started by its real command with its settings in the environment."""

    def __init__(self, name: str, settings: Settings, log: Path, **changes: object) -> None:
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", name],
                cwd=PROJECT,
                env={"PATH": os.environ["PATH"]} | _variables(settings, changes),
                stdout=stream,
                stderr=stream,
            )

    def wait_for_log(self, event: str, timeout_s: float = 60) -> None:
        """Wait until the program has logged an event."""
        wait_until(lambda: self.is_logged(event) or self.process.poll() is not None, event, timeout_s)
        assert self.is_logged(event), self.log.read_text()[-3000:]

    def is_logged(self, event: str) -> bool:
        """Whether the log names an event."""
        return f'"{event}"' in self.log.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 40) -> int:
        """Send a signal and wait for the end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout_s)


@contextmanager
def programs_in(folder: Path) -> Iterator[Callable[..., Program]]:
    """Start programs that log into a folder; whatever still runs at the end is killed."""
    started: list[Program] = []

    def begin(name: str, settings: Settings, **changes: object) -> Program:
        started.append(Program(name, settings, folder / f"{name}-{len(started)}.log", **changes))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


def _variables(settings: Settings, changes: dict[str, object]) -> dict[str, str]:
    values = {
        "data_dir": settings.data_dir,
        "database_url": settings.database,
        "redis_url": settings.redis_url,
        "roots": os.pathsep.join(map(str, settings.roots)),
        "engine": settings.engine,
        "batch_size": settings.batch_size,
    } | changes
    return {f"HISTOBATCH_{name.upper()}": str(value) for name, value in values.items()}
