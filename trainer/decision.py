"""From out-of-fold probabilities to the rule that turns a probability into a decision."""

import numpy as np
from numpy.typing import NDArray

from core.bundle import DecisionRule

# The share of images that may be left to a person; more would make the classifier pointless.
ABSTAIN_SHARE = 0.15
_GRID = np.round(np.arange(0.05, 0.96, 0.01), 2)


def choose_rule(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], patients: NDArray[np.str_]
) -> DecisionRule:
    """Lock threshold and abstain band on predictions that the judged images' own models never trained on.

    The threshold maximises balanced accuracy with every patient weighing the same, averaged over its
    neighbourhood: with 37 patients the best single point is luck. The band holds the images nearest to the
    threshold, ABSTAIN_SHARE of all.

    Args:
        labels: (N,), benign 0, malignant 1.
        probabilities: out-of-fold probabilities of malignancy, (N,).
        patients: (N,).
    """
    scores = np.array([_patient_balanced_accuracy(labels, probabilities, patients, cut) for cut in _GRID])
    smooth = np.convolve(np.pad(scores, 5, mode="edge"), np.ones(11) / 11, mode="valid")
    # Of equally good cuts the one nearest to one half.
    best = np.flatnonzero(smooth >= smooth.max() - 1e-9)
    threshold = float(_GRID[best[np.argmin(np.abs(_GRID[best] - 0.5))]])
    reach = float(np.quantile(np.abs(probabilities - threshold), ABSTAIN_SHARE))
    return DecisionRule(
        threshold=threshold,
        abstain_low=round(max(0.0, threshold - reach), 3),
        abstain_high=round(min(1.0, threshold + reach), 3),
    )


def judged_with_abstention(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], rule: DecisionRule
) -> dict[str, float]:
    """Return the share of images left uncertain, and the accuracy on the others."""
    decisions = np.array([rule.decide(float(probability)) for probability in probabilities])
    decided = decisions != "uncertain"
    correct = (decisions == "malignant") == (labels == 1)
    return {
        "uncertain_share": float(1 - decided.mean()),
        "accuracy_when_decided": float(correct[decided].mean()) if decided.any() else float("nan"),
    }


def _patient_balanced_accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], patients: NDArray[np.str_], cut: float
) -> float:
    correct = (probabilities >= cut) == (labels == 1)
    by_class = [
        np.mean([correct[patients == patient].mean() for patient in np.unique(patients[labels == label])])
        for label in (0, 1)
    ]
    return float(np.mean(by_class))
