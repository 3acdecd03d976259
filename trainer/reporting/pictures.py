"""The report's photographs: the worst errors, and where the networks looked."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.bundle import CLASSES
from trainer.checkpoint import load_checkpoint
from trainer.device import choose_device
from trainer.errors import RunError
from trainer.gradcam import evidence_maps, overlay
from trainer.mistakes import Judged, describe, farthest_first, worst_errors
from trainer.reporting.subject import Subject

WORST = 12
_EXAMPLES = 2
_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One judged image with what is shown of it: RGB uint8 (192, 288, 3) each."""

    judged: Judged
    shown: list[NDArray[np.uint8]]


def worst(subject: Subject) -> list[Photograph]:
    """Return the errors that the networks were most sure of."""
    errors = worst_errors(subject.scaled, subject.threshold, WORST)
    return [Photograph(judged=error, shown=[_field(subject, error)]) for error in errors]


def explained(subject: Subject) -> list[Photograph]:
    """Return the surest images of each kind, each with what spoke for its class laid over it.

    The kinds are right and wrong, benign and malignant; each map is of the network that judged the image, which had
    not seen its patient (unless the run shares patients).

    Raises:
        RunError: a fold's checkpoint is missing.
    """
    chosen = _surest_of_each_kind(subject)
    maps: dict[int, NDArray[np.float32]] = {}
    for fold in sorted({judged.fold for judged in chosen}):
        path = subject.run.fold_checkpoint(fold)
        if not path.is_file():
            raise RunError(f"{path} is missing, and Grad-CAM needs it: restore it, or train again")
        of_fold = [judged for judged in chosen if judged.fold == fold]
        pixels = subject.data.pixels[subject.rows[[judged.row for judged in of_fold]]]
        decided = np.array([CLASSES.index(judged.decided) for judged in of_fold])
        evidence = evidence_maps(load_checkpoint(path).to(choose_device()), pixels, decided)
        maps |= {judged.row: image for judged, image in zip(of_fold, evidence, strict=True)}
    return [Photograph(judged=judged, shown=_beside(_field(subject, judged), maps[judged.row])) for judged in chosen]


def photograph_uri(image: NDArray[np.uint8]) -> str:
    """Return an RGB image as a data URI (JPEG)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _surest_of_each_kind(subject: Subject) -> list[Judged]:
    """Return up to _EXAMPLES of each truth and decision, of different patients where there are some."""
    kinds: dict[tuple[str, str], list[Judged]] = {
        (truth, decided): [] for truth in CLASSES for decided in (truth, CLASSES[1 - CLASSES.index(truth)])
    }
    for row in farthest_first(subject.scaled, subject.threshold):
        judged = describe(subject.scaled, row, subject.threshold)
        kind = kinds[judged.truth, judged.decided]
        if len(kind) < _EXAMPLES and judged.patient not in [other.patient for other in kind]:
            kind.append(judged)
    return [judged for kind in kinds.values() for judged in kind]


def _beside(field: NDArray[np.uint8], evidence: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    larger = np.asarray(Image.fromarray(evidence).resize(field.shape[1::-1], Image.Resampling.BILINEAR))
    return [field, overlay(field, larger)]


def _field(subject: Subject, judged: Judged) -> NDArray[np.uint8]:
    return np.asarray(subject.data.fields[subject.rows[judged.row]])
