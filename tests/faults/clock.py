"""A wall clock of its own for a process, which can jump; its monotonic clock runs on as the kernel's does."""

import importlib.util
from pathlib import Path

# A jump is seen so much later, at most.
SEEN_S = 1


def preload_library() -> Path | None:
    """The library that, preloaded into a process, answers its questions for the time; None where it is missing."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None:
        return None
    library = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return library if library.exists() else None


class Clock:
    """The time in processes that were started with its environment."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            # The file is read once a second at most: at each question would slow the whole program down.
            "FAKETIME_CACHE_DURATION": str(SEEN_S),
            # Only the wall clock jumps, as it does when someone sets it; files keep their times.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: float) -> None:
        """Show that many seconds more than the true time, or fewer, from now on."""
        scratch = self._file.with_suffix(".next")
        scratch.write_text(f"{seconds:+.0f}")
        scratch.replace(self._file)


def remove_traces(pid: int) -> None:
    """Delete what the library leaves of a process that could not end in order."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)
