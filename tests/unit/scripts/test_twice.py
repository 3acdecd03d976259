"""What failed is run once more, alone, and what passes then is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import PROJECT

FLAKY = """
from pathlib import Path
def test_it():
    seen = Path(__file__).with_suffix(".seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
WRONG = "def test_it():\n    assert False\n"
RIGHT = "def test_it():\n    pass\n"


def twice(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(PROJECT / "tests" / "twice.py"), "-q", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "2")])
def test_what_passes_alone_is_named_and_passes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The run succeeds, and says loudly what was flaky; what failed in an earlier run has no part in it."""
    (tmp_path / "test_flaky.py").write_text(FLAKY)
    (tmp_path / "test_right.py").write_text(RIGHT)
    done = twice(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout
    assert "FLAKY test_flaky.py::test_it: failed beside others, passed alone" in done.stdout
    again = twice(tmp_path, *arguments)
    assert (again.returncode, "FLAKY" in again.stdout) == (0, False)


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    """A second run helps no test that is wrong, nor those beside it that were flaky."""
    (tmp_path / "test_flaky.py").write_text(FLAKY)
    (tmp_path / "test_wrong.py").write_text(WRONG)
    done = twice(tmp_path)
    assert done.returncode == 1
    assert "FLAKY" not in done.stdout


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    """Then there is no second run."""
    for number in range(6):
        (tmp_path / f"test_flaky_{number}.py").write_text(FLAKY)
    done = twice(tmp_path)
    assert done.returncode == 1
    assert "once more" not in done.stdout


def test_what_cannot_be_collected_has_failed(tmp_path: Path) -> None:
    """A file that does not import fails the run."""
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name\n")
    assert twice(tmp_path).returncode != 0
