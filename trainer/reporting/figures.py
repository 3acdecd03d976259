"""The report's figures: a PNG beside the page, and the same inside it."""

import base64
from dataclasses import dataclass
from pathlib import Path

from trainer import plots
from trainer.calibrate import calibration_errors
from trainer.evaluate import confusion
from trainer.reporting.pictures import Photograph
from trainer.reporting.subject import Subject


@dataclass(frozen=True, kw_only=True)
class FigureOnPage:
    """One picture.

    Attributes:
        uri: the PNG as a data URI.
        alt: what a person who cannot see it must know.
    """

    name: str
    uri: str
    alt: str
    caption: str


def draw_curves(subject: Subject, folder: Path) -> FigureOnPage | None:
    """Draw curves.png; None where the run kept no curves, and then an older file goes, too."""
    path = folder / "curves.png"
    if not subject.curves:
        path.unlink(missing_ok=True)
        return None
    plots.plot_curves(subject.curves, path, subject.brand)
    return _figure(
        path,
        "Two line charts by epoch: loss and accuracy, of training and of judged images, for each fold and their mean.",
        "Loss and accuracy by epoch, as in the paper's figures 7 and 8. Training batches are augmented and the network "
        "drops units while it learns, so training values are not comparable with test values to the point.",
    )


def draw_roc(subject: Subject, folder: Path) -> FigureOnPage:
    """Draw roc.png."""
    area, interval = subject.found.overall["auc"], subject.found.intervals["auc"]
    path = folder / "roc.png"
    plots.plot_roc(subject.scaled, (area, *interval), path, subject.brand)
    alt = f"ROC curve by image; area {area:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}."
    return _figure(path, alt, "ROC by image. The band holds 95 % of the curves when patients are drawn again.")


def draw_reliability(subject: Subject, folder: Path) -> FigureOnPage:
    """Draw reliability.png: before the temperature and, where it can be told, after."""
    path = folder / "reliability.png"
    series = {"Before temperature scaling": subject.plain.probabilities}
    if subject.cross is not None:
        series["After, fitted on other patients"] = subject.cross
    plots.plot_reliability(subject.plain.labels, series, path, subject.brand)
    errors = {
        title: calibration_errors(subject.plain.labels, probabilities)["ece_equal_width"]
        for title, probabilities in series.items()
    }
    alt = "Share of malignant images by stated probability. Expected calibration error: " + "; ".join(
        f"{title}: {error:.3f}" for title, error in errors.items()
    )
    return _figure(path, f"{alt}.", "On the dotted line, stated probabilities are right. Ten bins of the same width.")


def draw_confusion(subject: Subject, folder: Path) -> FigureOnPage:
    """Draw confusion.png."""
    path = folder / "confusion.png"
    plots.plot_confusion(subject.scaled, subject.threshold, path, subject.brand)
    counts = confusion(subject.scaled.labels, subject.scaled.probabilities, subject.threshold)
    alt = (
        f"Confusion matrix: {counts.true_negative} benign images called benign, {counts.false_positive} called "
        f"malignant; {counts.true_positive} malignant images called malignant, {counts.false_negative} called benign."
    )
    return _figure(path, alt, f"Decisions at the threshold {subject.threshold:.2f}, the abstain band left aside.")


def draw_patients(subject: Subject, folder: Path) -> FigureOnPage:
    """Draw patients.png."""
    path = folder / "patients.png"
    plots.plot_patients(subject.scaled, subject.threshold, path, subject.brand)
    rate = subject.found.overall["patient_recognition_rate"]
    alt = (
        f"Bars: for each of {int(subject.found.overall['patients'])} patients the share of images called right; the "
        f"patient recognition rate is {rate:.3f}."
    )
    return _figure(path, alt, "Share of right images by patient, the worst on top; colour and label tell the class.")


def draw_sheet(photographs: list[Photograph], title: str, path: Path, brand: str) -> None:
    """Draw photographs on one PNG beside the page, whose own pictures are apart; none of none."""
    path.unlink(missing_ok=True)
    if photographs:
        pictures = [(photograph.judged.short_caption, photograph.shown) for photograph in photographs]
        plots.plot_pictures(pictures, title, path, brand)


def _figure(path: Path, alt: str, caption: str) -> FigureOnPage:
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return FigureOnPage(name=path.name, uri=uri, alt=alt, caption=caption)
