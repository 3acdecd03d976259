"""Programs that are started again whenever they end, as a container's restart policy does."""

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from core.settings import PROJECT
from tests.assets.programs import wait_until

# Names the house in the environment of every process of it, and of those that they start.
MARK = "FAULTS_HOUSE"


class Kept:
    """A program that runs until `stop`. Safe to use from several threads."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start `python ARGUMENTS` in a session of its own, and keep it running.

        Args:
            environment: all of it; nothing is inherited.
        """
        self.name = name
        self.log = log
        self.pids: list[int] = []
        self.ends: list[int] = []
        self._arguments = arguments
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._is_wanted = True
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ended a moment ago."""
        return self._process.pid

    def process(self) -> psutil.Process | None:
        """The process, for signals that its successor must not get; None where it just ended."""
        try:
            return psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return None

    def is_logged(self, event: str) -> bool:
        """Whether the log of all its lives names an event."""
        return f'"{event}"' in self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that runs now."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it, and return when another runs in its place."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        """Send a signal that ends it, and return when another runs in its place."""
        ends = len(self.ends)
        self.send(number)
        wait_until(lambda: len(self.ends) > ends, f"{self.name} has ended")

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and start it no more."""
        with self._lock:
            self._is_wanted = False
        self.send(signal.SIGTERM)

    def stop(self, timeout_s: float = 60) -> bool:
        """End it for good; whether it ended by itself in time."""
        if self._is_wanted:
            self.ask_to_stop()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        self.send(signal.SIGKILL)
        self._thread.join()
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.pids.append(process.pid)
        return process

    def _keep(self) -> None:
        is_wanted = True
        while is_wanted:
            status = self._process.wait()
            with self._lock:
                is_wanted = self._is_wanted
                if is_wanted:
                    self._process = self._start()
            # Last, so that who waits for an end finds the successor.
            self.ends.append(status)


def processes_of(mark: str) -> list[psutil.Process]:
    """Every process that carries a house's mark, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
