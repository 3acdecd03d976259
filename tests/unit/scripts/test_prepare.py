"""What scripts/prepare says on machines where it cannot do its work."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from core.settings import PROJECT

TOOLS = ("sh", "cat", "cksum", "dirname", "awk", "df", "rm")


class Machine:
    """A copy of the script in a project of its own, and a PATH that holds only what we put there."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for part in ("scripts", "constraints"):
            shutil.copytree(PROJECT / part, self.project / part)
        shutil.copy(PROJECT / "pyproject.toml", self.project)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)

    def add_tool(self, name: str, script: str) -> None:
        """Put a shell script on the PATH, instead of the tool of that name."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{self.bin}/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def prepare(self) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [self.bin / "sh", self.project / "scripts" / "prepare", "light"],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a shell and its basic tools, but without Python."""
    return Machine(tmp_path)


def _assert_one_line(finished: subprocess.CompletedProcess[str], wanted: str) -> None:
    assert finished.returncode == 1
    assert len(finished.stderr.strip().splitlines()) == 1, finished.stderr
    assert wanted in finished.stderr


def test_missing_python_is_one_line_that_says_what_to_install(machine: Machine) -> None:
    """Without any Python, the script names the versions it needs and the package that brings one."""
    _assert_one_line(machine.prepare(), "apt install python3")


def test_old_python_is_one_line_that_says_what_to_install(machine: Machine) -> None:
    """A Python that fails the question for its version is passed over."""
    machine.add_tool("python3", "exit 1")
    _assert_one_line(machine.prepare(), "Python 3.11, 3.12 or 3.13 is needed")


def test_python_without_venv_is_one_line_that_says_what_to_install(machine: Machine) -> None:
    """Debian splits venv off: the package's name is in the message."""
    machine.add_tool("python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    _assert_one_line(machine.prepare(), "apt install python3-venv")


def test_full_disk_is_one_line_that_says_how_much_is_needed(machine: Machine) -> None:
    """Before anything is installed the free space is compared with what is needed."""
    machine.add_tool("python3", "exit 0")
    machine.add_tool("df", 'printf "Filesystem 1M-blocks Used Available\\nx 10 8 2\\n"')
    _assert_one_line(machine.prepare(), "1500 MB of free disk are needed here and 2 MB are left")
    assert not (machine.project / ".venv").exists()
