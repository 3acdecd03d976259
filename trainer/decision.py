"""From out-of-fold probabilities to the rule that turns a probability into a decision."""

import numpy as np
from numpy.typing import NDArray

from core.bundle import DecisionRule

# The share of images that may be left to a person; more would make the classifier pointless.
ABSTAIN_SHARE = 0.15
USUAL_THRESHOLD = 0.5
_GRID = np.round(np.arange(0.05, 0.96, 0.01), 2)


def choose_rule(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], patients: NDArray[np.str_]
) -> DecisionRule:
    """Lock threshold and abstain band on predictions that the judged images' own models never trained on.

    The threshold is one half, because training draws both classes evenly, unless another cut is clearly better: by
    more than two standard errors of the gain in balanced accuracy, with every patient weighing the same. The best
    cut as such is luck: with 37 patients the curve is flat, and its top wanders from 0.3 to 0.76. The band holds the
    images nearest to the threshold, ABSTAIN_SHARE of all.

    Args:
        labels: (N,), benign 0, malignant 1.
        probabilities: out-of-fold probabilities of malignancy, (N,).
        patients: (N,).
    """
    by_patient = _patient_accuracy(labels, probabilities, patients)
    usual = int(np.argmin(np.abs(_GRID - USUAL_THRESHOLD)))
    score = np.mean([rows.mean(axis=0) for rows in by_patient], axis=0)
    best = int(np.argmax(np.convolve(np.pad(score, 5, mode="edge"), np.ones(11) / 11, mode="valid")))
    gains = [rows[:, best] - rows[:, usual] for rows in by_patient]
    error = np.sqrt(sum(gain.var() / len(gain) for gain in gains)) / 2
    clear = score[best] - score[usual] > 2 * error
    threshold = float(_GRID[best if clear else usual])
    reach = float(np.quantile(np.abs(probabilities - threshold), ABSTAIN_SHARE))
    return DecisionRule(
        threshold=threshold,
        abstain_low=round(max(0.0, threshold - reach), 4),
        abstain_high=round(min(1.0, threshold + reach), 4),
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


def _patient_accuracy(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], patients: NDArray[np.str_]
) -> list[NDArray[np.float64]]:
    """Return for each class the accuracy of each patient at each cut of the grid, (patients, cuts)."""
    correct = (probabilities[:, np.newaxis] >= _GRID) == (labels[:, np.newaxis] == 1)
    return [
        np.stack([correct[patients == patient].mean(axis=0) for patient in np.unique(patients[labels == label])])
        for label in (0, 1)
    ]
