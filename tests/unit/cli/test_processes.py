"""Child processes end with their parent, and are started again only where they ask for it."""

import os
import sys
from pathlib import Path

import pytest

from cli.processes import ProgramDied, Programs
from tests.assets.programs import wait_until


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for Python: notes each start, and ends with the status that a file holds."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\nexit $(cat {tmp_path}/status)\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return tmp_path


def starts(folder: Path) -> int:
    file = folder / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_program_that_asks_for_it_is_started_again(python: Path) -> None:
    """A worker whose watchdog ended it gets a fresh process."""
    (python / "status").write_text(str(os.EX_TEMPFAIL))
    with Programs(python) as programs:
        programs.start("worker", os.environ)

        def is_started_twice() -> bool:
            programs.check()
            return starts(python) >= 2

        wait_until(is_started_twice, "a second start")


def test_a_program_that_died_is_named(python: Path) -> None:
    """Whatever else ends is told, with its status."""
    (python / "status").write_text("3")
    with Programs(python) as programs:
        programs.start("worker", os.environ)
        with pytest.raises(ProgramDied, match="worker ended with status 3"):
            wait_until(programs.check, "never comes")
