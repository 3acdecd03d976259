"""The report's figures: the same numbers give the same bytes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_curve

from core.bundle import CLASSES, NOTICE
from trainer.calibrate import BINS
from trainer.curves import ALL, Curve, mean_by_epoch, values_of
from trainer.evaluate import confusion, patient_draws
from trainer.output import replacing
from trainer.predictions import Predictions

mpl.use("Agg")  # servers have no display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Told apart in print and by people who see no red or green, too.
BLUE, ORANGE, GREY = "#1f5fa8", "#c75000", "#777777"
_ROC_DRAWS = 500
_FEW_EPOCHS = 15
_RATES = np.linspace(0, 1, 201)


def plot_curves(curves: tuple[Curve, ...], path: Path, brand: str) -> None:
    """Draw loss and accuracy, train and test, by epoch: each fold thin, their mean thick (the paper's figures 7, 8)."""
    folds = tuple(curve for curve in curves if curve.fit != ALL) or curves
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), dpi=100)
    for place, kind in enumerate(("loss", "accuracy")):
        for part, colour, style in (("train", BLUE, "--"), ("test", ORANGE, "-")):
            _draw_curves(axes[place], folds, f"{part}_{kind}", colour, style)
        axes[place].set(title=kind.capitalize(), xlabel="epoch", ylabel=kind)
        axes[place].legend()
    axes[1].set_ylim(0, 1.02)
    title = "One fit" if len(folds) == 1 else f"Each fold thin, the mean of {len(folds)} thick"
    _save(figure, path, title, brand)


def plot_roc(predictions: Predictions, area: tuple[float, float, float], path: Path, brand: str) -> None:
    """Draw the ROC by image, with the band that 95 % of the draws of patients lie in.

    Args:
        predictions: to draw.
        area: the AUC and its interval, for the legend.
        path: the PNG to write.
        brand: see _save.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    drawn = np.stack(
        [
            _roc_at_rates(labels[rows], probabilities[rows])
            for rows, _ in patient_draws(labels, predictions.patients, _ROC_DRAWS)
        ]
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    figure, axes = plt.subplots(figsize=(5, 4.6), dpi=100)
    axes.fill_between(_RATES, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95 %, patients drawn again")
    axes.plot(false_rate, true_rate, color=BLUE, label="AUC {:.3f} ({:.3f} to {:.3f})".format(*area))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right", fontsize=8)
    _save(figure, path, "ROC by image", brand)


def plot_reliability(labels: NDArray[np.int64], series: dict[str, NDArray[np.float32]], path: Path, brand: str) -> None:
    """Draw the share of malignant images by stated probability, in ten bins of the same width.

    Args:
        labels: (N,), benign 0, malignant 1.
        series: probabilities (N,) by the title of their panel.
        path: the PNG to write.
        brand: see _save.
    """
    figure, axes = plt.subplots(1, len(series), figsize=(4.8 * len(series), 4.4), dpi=100, squeeze=False)
    for panel, (title, probabilities) in zip(axes[0], series.items(), strict=True):
        _draw_reliability(panel, labels, probabilities)
        panel.set(title=title, xlabel="stated probability of malignancy", ylabel="share malignant")
    _save(figure, path, "Reliability; numbers count images", brand)


def plot_confusion(predictions: Predictions, threshold: float, path: Path, brand: str) -> None:
    """Draw how many images of each class got which class."""
    counts = confusion(predictions.labels, predictions.probabilities, threshold)
    table = np.array([[counts.true_negative, counts.false_positive], [counts.false_negative, counts.true_positive]])
    shares = table / table.sum(axis=1, keepdims=True).clip(min=1)
    figure, axes = plt.subplots(figsize=(4.4, 4.2), dpi=100)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{value}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set(xlabel="called", ylabel="is")
    axes.set_xticks([0, 1], CLASSES)
    axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
    _save(figure, path, f"Confusion at {threshold:.2f}", brand)


def plot_patients(predictions: Predictions, threshold: float, path: Path, brand: str) -> None:
    """Draw for each patient the share of right images, the worst on top; the mean is the patient recognition rate."""
    right = (predictions.probabilities >= threshold) == (predictions.labels == 1)
    names, first, places = np.unique(predictions.patients, return_index=True, return_inverse=True)
    images = np.bincount(places)
    rates = np.bincount(places, weights=right) / images
    order = np.lexsort((names, -rates))
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.2 * len(names)), dpi=90)
    for class_, colour in ((0, BLUE), (1, ORANGE)):
        rows = [height for height, place in enumerate(order) if predictions.labels[first[place]] == class_]
        axes.barh(rows, [rates[order[row]] for row in rows], color=colour, label=CLASSES[class_])
    ticks = axes.set_yticks(range(len(names)), [f"{names[place]} ({images[place]})" for place in order], fontsize=7)
    for tick, place in zip(ticks, order, strict=True):  # a patient without a right image has no bar to show its class
        tick.label1.set_color((BLUE, ORANGE)[predictions.labels[first[place]]])
    axes.axvline(rates.mean(), color="black", linestyle=":", label=f"mean {rates.mean():.3f}")
    axes.set(xlabel="share of the patient's images called right", xlim=(0, 1), ylim=(-0.7, len(names) - 0.3))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False)
    _save(figure, path, "Patients (number of images)", brand)


def plot_pictures(pictures: list[tuple[str, list[NDArray[np.uint8]]]], title: str, path: Path, brand: str) -> None:
    """Draw rows of RGB images of the same size, each row under its caption; three captions side by side."""
    columns = min(len(pictures), 3)
    rows = -(-len(pictures) // columns)
    tall = 0.75 + 2.0 / len(pictures[0][1])
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 0.7 + tall * rows), dpi=68, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (caption, images) in zip(axes.flat, pictures, strict=False):
        axis.imshow(np.concatenate(images, axis=1))
        axis.set_title(caption, fontsize=6.5)
    _save(figure, path, title, brand)
    with Image.open(path) as picture:  # photographs as true colours would be ten times the size of the other figures
        few = picture.convert("RGB").quantize(256)
    with replacing(path) as temporary:
        few.save(temporary, format="PNG", optimize=True)


def _draw_curves(axes: Axes, curves: tuple[Curve, ...], name: str, colour: str, style: str) -> None:
    for curve in curves:
        axes.plot(curve.epochs, values_of(curve, name), color=colour, linestyle=style, linewidth=0.6, alpha=0.5)
    epochs, mean = mean_by_epoch(curves, name)
    marker = "o" if len(epochs) < _FEW_EPOCHS else ""  # a single epoch is no line
    label = name.partition("_")[0]
    axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=2.2, marker=marker, markersize=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _roc_at_rates(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    false_rate, true_rate, _ = roc_curve(labels, probabilities)
    rates: NDArray[np.float64] = np.interp(_RATES, false_rate, true_rate)
    return rates


def _draw_reliability(axes: Axes, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> None:
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    stated = np.array([probabilities[bins == index].mean() for index in filled])
    found = np.array([labels[bins == index].mean() for index in filled])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.vlines(stated, np.minimum(stated, found), np.maximum(stated, found), color=ORANGE, linewidth=1)
    axes.plot(stated, found, marker="o", markersize=4, color=BLUE)
    for index, x, y in zip(filled, stated, found, strict=True):
        axes.annotate(str(np.sum(bins == index)), (x, y), fontsize=7, xytext=(4, -9), textcoords="offset points")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.05, 1.05))


def _save(figure: Figure, path: Path, title: str, brand: str) -> None:
    """Write the PNG with a title that carries the notice and the brand.

    Args:
        figure: to write; it is closed.
        path: the PNG.
        title: of the picture.
        brand: "shares patients between train and test", or "" for a picture that needs no such words.
    """
    figure.suptitle(title + (f"\n{brand.upper()}" if brand else ""), fontsize=10, color="#a00000" if brand else "black")
    figure.supxlabel(NOTICE, fontsize=7, color=GREY)
    figure.tight_layout()
    # Without the software's version the same numbers give the same bytes.
    metadata: dict[str, Any] = {"Software": None}
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata=metadata)
    finally:
        plt.close(figure)
