"""Folders of small images that all differ, some of which kill the engine."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.assets import images
from tests.faults.ledger import POISON_RGB


@dataclass(frozen=True)
class Folder:
    """What lies in a folder: names of good images, and of those that kill."""

    path: Path
    good: frozenset[str]
    poison: frozenset[str]

    def __len__(self) -> int:
        return len(self.good) + len(self.poison)


class Pictures:
    """Makes folders below a root. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._lock = threading.Lock()
        self._folders = 0
        self._images = 0

    def folder(self, good: int, *, poison: int = 0, repeated: int = 0) -> Folder:
        """Make a folder.

        Args:
            good: images with a content of their own.
            poison: images that kill, each with a content of its own.
            repeated: further good ones, with contents that every folder repeats.
        """
        with self._lock:
            first, self._images = self._images, self._images + good + poison
            path = self._root / f"case-{self._folders:05}"
            self._folders += 1
        path.mkdir()
        contents = {f"{first + number:07}.png": images.plain(first + number) for number in range(good)}
        # Seeds below zero do not exist; these lie where the count never gets.
        contents |= {f"repeated-{number}.png": images.plain(10**9 + number) for number in range(repeated)}
        killers = {f"{first + good + number:07}.png": _poison(first + good + number) for number in range(poison)}
        for name, content in (contents | killers).items():
            (path / name).write_bytes(content)
        return Folder(path, frozenset(contents), frozenset(killers))


def _poison(number: int) -> bytes:
    pure = images.encode(np.full((40, 50, 3), POISON_RGB, np.uint8))
    return images.with_text(pure, "number", str(number))
