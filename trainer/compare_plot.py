"""The picture of a comparison: accuracy against cost."""

import os
from pathlib import Path

import matplotlib as mpl

from core.bundle import NOTICE
from trainer.compare_table import MEASURED, Comparison

mpl.use("Agg")  # servers have no display
from matplotlib import pyplot as plt

_MARKERS = "osD^v<>"  # seven, and twenty colours: no two systems look alike


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw accuracy against multiply-adds an image, a point a measured system, replacing an older picture."""
    rows = [row for row in comparison.systems if row.outcome == MEASURED and row.accuracy is not None]
    figure, axes = plt.subplots(figsize=(10.5, 5.5), dpi=90)
    for number, row in enumerate(rows):
        colour = mpl.colormaps["tab20"](number % 20)
        axes.plot(
            row.gmac,
            100 * (row.accuracy or 0),
            linestyle="none",
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=10,
            markeredgewidth=2,
            markeredgecolor=colour,
            markerfacecolor=colour if "ImageNet" in row.start else "none",
            label=row.title,
        )
    axes.set(xscale="log", xlabel="GMAC an image of 144x96", ylabel="accuracy, %, patients apart")
    axes.set_title(
        f"{len(rows)} systems, recipe {comparison.protocol.recipe.get('name')}, {comparison.protocol.judged_folds} of "
        f"{comparison.protocol.folds} folds judged (filled: from ImageNet)\n{NOTICE}",
        fontsize=9,
    )
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    if rows:
        axes.legend(bbox_to_anchor=(1.01, 1), loc="upper left", fontsize=8, frameon=False)
    figure.tight_layout()
    # Without the software's version the same numbers give the same bytes.
    temporary = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(temporary, format="png", metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        plt.close(figure)
        temporary.unlink(missing_ok=True)
