"""The parity gate: before an engine serves, it must say of the bundle's canaries what the network said."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from core.bundle import Bundle
from core.errors import EngineError
from worker.engines.cache import GATE, write_atomically
from worker.engines.protocol import Engine

CANARIES = "report/canaries.npz"
MIN_AGREEMENT = 0.999
MAX_DIFFERENCE = 0.02


class EngineRefused(EngineError):
    """The engine runs, and says something else than the network."""


@dataclass(frozen=True)
class Canaries:
    """Images with known answers.

    Attributes:
        images: RGB uint8 (N, 96, 144, 3).
        expected: probabilities (N,).
        threshold: from which on an image is malignant.
    """

    images: NDArray[np.uint8]
    expected: NDArray[np.float32]
    threshold: float


class GateReport(BaseModel):
    """What the gate found.

    Attributes:
        label_agreement: share of the canaries that fall on the same side of the threshold.
        largest_difference: of the probability; infinite where an answer is no number.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    engine: str
    images: int
    label_agreement: float
    largest_difference: float
    min_agreement: float = MIN_AGREEMENT
    max_difference: float = MAX_DIFFERENCE

    @property
    def passed(self) -> bool:
        """Whether the engine may serve."""
        return self.label_agreement >= self.min_agreement and self.largest_difference <= self.max_difference

    def __str__(self) -> str:
        """Say the numbers in a sentence."""
        return (
            f"{self.engine} gives {self.label_agreement:.2%} of {self.images} canaries their label (at least "
            f"{self.min_agreement:.1%} needed), largest difference {self.largest_difference:.4f} (at most "
            f"{self.max_difference})"
        )


def read_canaries(bundle: Bundle, reference: str = "torch_fp32") -> Canaries | None:
    """Read the canaries that export wrote; None where the bundle has none, or no such reference.

    Args:
        bundle: verified.
        reference: whose answers are expected: "torch_fp32", the network itself, or "openvino_int8".
    """
    if all(entry.path != CANARIES for entry in bundle.manifest.files):
        return None
    with np.load(bundle.folder / CANARIES, allow_pickle=False) as stored:
        if reference not in stored or not len(stored["images"]):
            return None
        return Canaries(stored["images"], stored[reference], bundle.manifest.decision.threshold)


def judge_engine(engine: Engine, canaries: Canaries) -> GateReport:
    """Run the canaries, as one call and as a call for each, and compare the worst answers."""
    together = engine.classify(canaries.images)
    alone = np.concatenate([engine.classify(image[np.newaxis]) for image in canaries.images])
    answers = np.stack([together, alone])
    same = (answers >= canaries.threshold) == (canaries.expected >= canaries.threshold)
    difference = np.abs(answers - canaries.expected)
    return GateReport(
        engine=engine.name,
        images=len(canaries.images),
        label_agreement=float(np.mean(np.all(same & np.isfinite(answers), axis=0))),
        largest_difference=float(np.where(np.isfinite(difference), difference, np.inf).max()),
    )


def pass_gate(engine: Engine, canaries: Canaries | None, report_folder: Path | None = None) -> None:
    """Let the engine through, or refuse it.

    Args:
        engine: loaded.
        canaries: of the bundle that it serves.
        report_folder: where the report is kept; None keeps none.

    Raises:
        EngineRefused: it strays too far, or there is nothing to judge it by.
    """
    if canaries is None:
        raise EngineRefused(f"the bundle has no canaries to judge {engine.name} by: export it again")
    report = judge_engine(engine, canaries)
    if report_folder is not None:
        _keep(report, report_folder)
    if not report.passed:
        raise EngineRefused(f"the parity gate refuses the engine: {report}")


def read_gate_report(folder: Path) -> GateReport | None:
    """Return what the gate said of the engine in this folder; None where it never judged it."""
    try:
        return GateReport.model_validate_json((folder / GATE).read_bytes())
    except (OSError, ValidationError):
        return None


def _keep(report: GateReport, folder: Path) -> None:
    try:
        write_atomically(folder / GATE, report.model_dump_json(indent=2).encode())
    except OSError:  # the report is for people; an engine on a read-only folder may serve
        return
