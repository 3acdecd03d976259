"""The report's pictures."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_curve

from core.bundle import NOTICE, DecisionRule
from trainer.evaluate import confusion

mpl.use("Agg")  # servers have no display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_BINS = 8


def plot_judgement(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], rule: DecisionRule, path: Path
) -> None:
    """Draw ROC, reliability and confusion of out-of-fold probabilities (N,) into one small PNG."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), dpi=80)
    _draw_roc(axes[0], labels, probabilities)
    _draw_reliability(axes[1], labels, probabilities)
    _draw_confusion(axes[2], labels, probabilities, rule)
    figure.suptitle(f"Out-of-fold, patients apart. {NOTICE}", fontsize=10)
    figure.tight_layout()
    # Without the software's version the same numbers give the same bytes.
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _draw_roc(axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    axes.plot(false_rate, true_rate, label=f"AUC {auc(false_rate, true_rate):.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(title="ROC by image", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right")


def _draw_reliability(axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
    bins = np.clip((probabilities * _BINS).astype(int), 0, _BINS - 1)
    filled = [index for index in range(_BINS) if np.any(bins == index)]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.plot(
        [probabilities[bins == index].mean() for index in filled],
        [labels[bins == index].mean() for index in filled],
        marker="o",
    )
    for index in filled:
        at = (probabilities[bins == index].mean(), labels[bins == index].mean())
        axes.annotate(str(np.sum(bins == index)), at, fontsize=7, xytext=(4, -9), textcoords="offset points")
    axes.set(title="Reliability (number of images)", xlabel="mean probability", ylabel="share malignant")


def _draw_confusion(
    axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float32], rule: DecisionRule
) -> None:
    counts = confusion(labels, probabilities, rule.threshold)
    table = np.array([[counts.true_negative, counts.false_positive], [counts.false_negative, counts.true_positive]])
    axes.imshow(table, cmap="Blues", vmin=0, vmax=table.sum())
    for (row, column), value in np.ndenumerate(table):
        axes.text(column, row, str(value), ha="center", va="center")
    axes.set(title=f"Confusion at {rule.threshold:.2f}", xlabel="decided", ylabel="true")
    axes.set_xticks([0, 1], ["benign", "malignant"])
    axes.set_yticks([0, 1], ["benign", "malignant"], rotation=90, va="center")
