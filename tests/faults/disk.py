"""A disk so small that it can be filled: a file system in memory of its own, which only root may mount."""

import errno
import os
import subprocess
import threading
from pathlib import Path

_SIZE = "64m"


class SmallDisk:
    """A mounted file system; `close` unmounts it."""

    def __init__(self, folder: Path) -> None:
        """Mount it.

        Raises:
            PermissionError: this user, or this container, may not mount anything.
        """
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder]
        mounted = subprocess.run(command, check=False, capture_output=True)
        if mounted.returncode:
            raise PermissionError(f"mounting {folder} failed: {mounted.stderr.decode().strip()}")
        self.folder = folder
        self._filler = folder / "filler"
        self._lock = threading.Lock()
        self._fillings = 0

    def fill(self) -> None:
        """Leave not one byte. Fillings add up."""
        with self._lock:
            self._fillings += 1
            with self._filler.open("ab") as stream:
                for size in (2**20, 2**12, 1):
                    _write_until_full(stream.fileno(), size)

    def free(self) -> None:
        """Take one filling back; after the last, there is room again."""
        with self._lock:
            self._fillings -= 1
            if not self._fillings:
                self._filler.unlink()

    def close(self) -> None:
        """Unmount it; what lies there is gone."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def _write_until_full(fd: int, size: int) -> None:
    try:
        while True:
            os.write(fd, b"\0" * size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
