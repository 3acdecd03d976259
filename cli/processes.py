"""Child processes that never outlive their parent."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.errors import PermanentError

_PR_SET_PDEATHSIG = 1
_STOP_S = 15


class ProgramDied(PermanentError):
    """A program that should serve has ended."""


class Programs:
    """The demo's programs, each `histobatch NAME` with a log file of its own; a context that ends them all."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, tuple[Mapping[str, str], Sequence[str]]] = {}

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        """Start a program in a session of its own, so that Ctrl-C reaches only us and we end it in order."""
        self._started[name] = environment, arguments
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "cli.main", name, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
            )

    def pid(self, name: str) -> int:
        """Process id of a program that was started."""
        return self._running[name].pid

    def check(self) -> None:
        """Start again what asks for it by its exit status.

        Raises:
            ProgramDied: another program has ended; with the last line of its log.
        """
        for name, process in list(self._running.items()):
            status = process.poll()
            if status == os.EX_TEMPFAIL:  # a worker that is of no use any more asks so for a fresh one
                self.start(name, *self._started[name])
            elif status is not None:
                log = self._logs / f"{name}.log"
                lines = log.read_text(errors="replace").strip().splitlines()
                raise ProgramDied(
                    f"{name} ended with status {status} ({lines[-1] if lines else 'no output'}); see {log}"
                )

    def stop(self) -> None:
        """End the programs, the last one first, and wait; kill what does not end."""
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
