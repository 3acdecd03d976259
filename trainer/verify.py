"""Do the exported graphs say what the network says? Judged on the very engines that serve."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle, Precision
from trainer.errors import VerificationError
from worker.engines.openvino import OpenVinoEngine

# The ONNX is the truth that all engines compile, so its probabilities may hardly move.
ONNX_MIN_AGREEMENT = 0.999
ONNX_MAX_DIFFERENCE = 0.01
# Of the graph that ships. On the images that it was fitted to, the only ones that a release can be sure to have, it
# is sure of itself; what quantisation costs on other patients is measured fold by fold, and published.
INT8_MIN_AGREEMENT = 0.995
# Networks fitted to few patients are undecided about many images of others, and those cross the threshold easily:
# out of fold the gate only stops what is plainly broken.
INT8_FOLD_MIN_AGREEMENT = 0.90


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far one graph strays from the network in float32.

    Attributes:
        graph: which graph on which engine.
        images: number of images compared.
        label_agreement: share of images that fall on the same side of the threshold.
        largest_difference, mean_difference: of the probability.
    """

    graph: str
    images: int
    label_agreement: float
    largest_difference: float
    mean_difference: float

    def describe(self) -> dict[str, object]:
        """Return the values for JSON."""
        return asdict(self)


def compare(graph: str, expected: NDArray[np.float32], actual: NDArray[np.float32], threshold: float) -> Agreement:
    """Compare two series of probabilities (N,)."""
    difference = np.abs(expected - actual)
    return Agreement(
        graph=graph,
        images=len(expected),
        label_agreement=label_agreement(expected, actual, threshold),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


def label_agreement(expected: NDArray[np.float32], actual: NDArray[np.float32], threshold: float) -> float:
    """Return the share of images (N,) that fall on the same side of the threshold."""
    return float(np.mean((expected >= threshold) == (actual >= threshold)))


def engine_probabilities(bundle: Bundle, precision: Precision, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the serving engine says, float32 (N,), for RGB uint8 (N, 96, 144, 3).

    Args:
        bundle: holds the graphs.
        precision: "fp32" runs the ONNX graph, "int8" the quantised one.
        images: to classify.
    """
    engine = OpenVinoEngine(bundle, precision)
    try:
        size = engine.best_batch
        return np.concatenate([engine.classify(images[i : i + size]) for i in range(0, len(images), size)])
    finally:
        engine.close()


def require_agreement(agreement: Agreement, min_agreement: float, max_difference: float = 1.0) -> None:
    """Refuse a graph that strays too far.

    Raises:
        VerificationError: with the numbers.
    """
    if agreement.label_agreement < min_agreement or agreement.largest_difference > max_difference:
        raise VerificationError(
            f"{agreement.graph} disagrees with the network: {agreement.label_agreement:.2%} same labels "
            f"(at least {min_agreement:.2%} needed), largest difference {agreement.largest_difference:.3f} "
            f"(at most {max_difference}): nothing was published"
        )
