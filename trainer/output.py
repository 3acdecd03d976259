"""Files that are whole or not there, and an error that says why they could not be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import RunError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what lies there at the end takes the place of the file, in one step.

    After an error the file is as it was, and nothing half-written is left.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_output(place: Path) -> Iterator[None]:
    """Turn the errors of writing into one that says what to do.

    Raises:
        RunError: something below the place could not be written.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise RunError(
            f"{error.filename or place} cannot be written ({cause}): free some space, or name another place with --out"
        ) from error
