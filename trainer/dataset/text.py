"""Folders and texts that a command writes."""

import os
from pathlib import Path

from trainer.errors import DatasetError


def made_folder(folder: Path) -> Path:
    """Make a folder to write to.

    Raises:
        DatasetError: a file is in the way, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be made ({error.strerror}): name another folder with --out") from error
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text, replacing an older one in a single step.

    Raises:
        DatasetError: the disk is full or read-only.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(f"{path} cannot be written ({error.strerror}): name another folder with --out") from error
