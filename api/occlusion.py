"""Where in an image its probability comes from, worked out when somebody asks (core.occlusion, worker.occlusion)."""

import json
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from api.problems import ApiError, ProblemReason
from api.serving import find_bundle_folder
from api.thumbnails import Picture, Thumbnails, take_picture_turn
from core.settings import Settings

log = structlog.get_logger(__name__)

# Each is a process with some 310 MB that keeps a core for two seconds.
_AT_ONCE = 1
_WAIT_S = 10
_LONGEST_S = 60
# A page asks for its picture right after it; half a kilobyte each.
_REMEMBERED = 256


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the places of an image do to its probability.

    Attributes:
        engine: that worked it out, which need not be the one that classified.
        probability: of malignancy, by this engine.
        effects: float32 (ROWS, COLUMNS), what each place adds to the probability; see core.occlusion.
    """

    engine: str
    probability: float
    effects: NDArray[np.float32]

    @property
    def lowest(self) -> float:
        """The probability without the place that speaks most for malignant."""
        return self.probability - max(float(self.effects.max()), 0.0)

    @property
    def highest(self) -> float:
        """The probability without the place that speaks most for benign."""
        return self.probability - min(float(self.effects.min()), 0.0)


class Occlusion:
    """Works one out at a time, and remembers the latest."""

    def __init__(self, settings: Settings, thumbnails: Thumbnails) -> None:
        self._settings = settings
        self._thumbnails = thumbnails
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Explanation] = OrderedDict()

    def explain(self, picture: Picture, model_version: str) -> Explanation:
        """Find out what the places of an image do to the probability that a model gives it.

        Raises:
            ApiError: as Thumbnails.preview(); 409 where the model's bundle is not here; 501 where no engine of it runs
                here; 503 where it takes too long.
        """
        key = (picture.content_hash, model_version)
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        bundle = find_bundle_folder(self._settings, model_version)
        if bundle is None:
            raise ApiError(
                HTTPStatus.CONFLICT,
                ProblemReason.BUNDLE_REFUSED,
                f"the bundle of {model_version} is not on the API's machine",
            )
        with take_picture_turn(self._turns, _WAIT_S):
            explanation = self._ask(bundle, self._thumbnails.read_input(picture))
        with self._lock:
            self._known[key] = explanation
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return explanation

    def _ask(self, bundle: Path, image: NDArray[np.uint8]) -> Explanation:
        command = [sys.executable, "-m", "worker.occlusion", str(bundle), self._settings.precision]
        try:
            done = subprocess.run(command, input=image.tobytes(), capture_output=True, timeout=_LONGEST_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                ProblemReason.TOO_BUSY,
                f"the machine is too busy: not worked out within {_LONGEST_S} s",
                retry_after_s=_LONGEST_S,
            ) from error
        if done.returncode != 0:
            log.warning("occlusion_failed", status=done.returncode, why=done.stderr.decode(errors="replace")[-500:])
            raise ApiError(
                HTTPStatus.NOT_IMPLEMENTED,
                ProblemReason.NOT_INSTALLED,
                "no CPU engine runs this model on the API's machine; the API's log says why",
            )
        answer = json.loads(done.stdout)
        effects = np.array(answer["effects"], np.float32)
        return Explanation(engine=answer["engine"], probability=answer["probability"], effects=effects)
