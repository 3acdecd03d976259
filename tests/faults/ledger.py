"""An engine that writes down what it computed, in a file that survives every death."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.engines.protocol import Engine

# An image of this colour alone makes the engine call abort(), as a fault in a driver would.
POISON_RGB = (255, 0, 255)
_RECORD = 16


class LedgerEngine:
    """Works like another engine, more slowly, and adds a record to the ledger for each image that it computed."""

    def __init__(self, engine: Engine, ledger: Path, pause_s: float) -> None:
        """Wrap an engine.

        Args:
            pause_s: for each image, so that faults find something under way.
        """
        self.name = engine.name
        self.max_batch = engine.max_batch
        self.best_batch = engine.best_batch
        self.parallel_calls = engine.parallel_calls
        self.warm_up = engine.warm_up
        self.close = engine.close
        self._engine = engine
        self._sleep_s = pause_s
        self._fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (N,) for RGB uint8 (N, 96, 144, 3); see Engine."""
        if (images == POISON_RGB).all(axis=(1, 2, 3)).any():
            os.abort()
        time.sleep(self._sleep_s * len(images))
        answers = self._engine.classify(images)
        # One write to a file opened for appending: records of several workers never mix.
        os.write(self._fd, b"".join(hashlib.blake2b(image, digest_size=_RECORD).digest() for image in images))
        return answers


def count_computed(ledger: Path) -> int:
    """How many images were computed, each time counted."""
    return ledger.stat().st_size // _RECORD if ledger.exists() else 0
