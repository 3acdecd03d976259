"""The report's tables, as text in cells."""

from dataclasses import dataclass

from trainer.errors import RunError
from trainer.evaluate import HEADLINE
from trainer.published import PAPER_ACCURACY, PAPER_SOURCE, PATIENT_RATE, PATIENT_RATE_SOURCE
from trainer.reporting.command import steps_of
from trainer.reporting.subject import Subject
from trainer.run import RunConfig, RunFolder, RunMetrics
from trainer.verify import Agreement

_RATE = "patient_recognition_rate"
_NAMES = {"auc": "AUC", "f1": "F1", _RATE: "patient recognition rate"}
_PAPER_RECIPE = "paper"
_PAPER_EFFORT = "40,000 steps of 32, 7,909 images"
PAPER_COMMAND = "histobatch train FULL --recipe paper"


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table with one heading a column; the first cell of each row is its heading."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def headline_table(subject: Subject) -> PageTable:
    """Every metric over all images, with its interval."""
    found = subject.found
    rows = [
        (_name(name), f"{found.overall[name]:.3f}", _interval(found.intervals.get(name)))
        for name in HEADLINE
        if name in found.overall
    ]
    rows += [(_name(name), f"{found.overall[name]:.3f}", "") for name in ("uncertain_share", "accuracy_when_decided")]
    how = "Mean over the folds, which overlap." if subject.plain.overlap else "All folds together, each image once."
    images, patients = (int(found.overall[name]) for name in ("images", "patients"))
    return PageTable(
        caption=f"All {images} images of {patients} patients. {how}",
        headings=("metric", "value", "95 % interval, patients drawn again"),
        rows=tuple(rows),
    )


def comparison_table(subject: Subject, paper_run: RunFolder | None) -> PageTable:
    """The paper's number, ours under its protocol, what others published with patients apart, and ours.

    Raises:
        RunError: `paper_run` is no run of the paper's recipe.
    """
    apart = "patients apart"
    shared = "shares patients between train and test"
    missing = f"not run here: {PAPER_COMMAND}"
    paper = _paper_run(subject, paper_run)
    rates = ", ".join(f"{rate:.1%} at {magnification}X" for magnification, rate in PATIENT_RATE.items())
    rows = [
        (PAPER_SOURCE, shared, f"{PAPER_ACCURACY:.1%} at 40X", "not quoted", "not quoted"),
        ("Ours, the paper's protocol", shared, *(missing,) * 3)
        if paper is None
        else (
            f"Ours, the paper's protocol, {_effort(paper[0])}; published: {_PAPER_EFFORT}",
            shared,
            *_triple(paper[1]),
        ),
        (PATIENT_RATE_SOURCE, apart, "not quoted", rates, "not quoted"),
    ]
    if not subject.brand:
        rows.append((f"Ours, recipe {_effort(subject.config)}", apart, *_triple(subject.metrics, subject)))
    else:
        rows.append(("Ours, patients apart", apart, *("not in this run: histobatch train --recipe patient",) * 3))
    return PageTable(
        caption="What was published, and what was measured here. Numbers of different splits cannot be compared.",
        headings=("who", "split", "image accuracy", "patient recognition rate", "AUC"),
        rows=tuple(rows),
    )


def magnification_table(subject: Subject) -> PageTable:
    """Metrics by magnification beside the published bar."""
    rows = []
    for magnification, values in sorted(subject.found.by_magnification.items(), key=lambda entry: int(entry[0])):
        counts = (str(int(values["images"])), str(int(values["patients"])))
        measured = (_cell(values, name) for name in ("accuracy", "auc", "sensitivity", "specificity"))
        rate = f"{values[_RATE]:.3f} ({values[f'{_RATE}_low']:.3f} to {values[f'{_RATE}_high']:.3f})"
        rows.append((f"{magnification}X", *counts, *measured, rate, f"{PATIENT_RATE[magnification]:.3f}"))
    return PageTable(
        caption=f"By magnification. The published bar is of {PATIENT_RATE_SOURCE}.",
        headings=(
            "magnification",
            "images",
            "patients",
            "accuracy",
            "AUC",
            "sensitivity",
            "specificity",
            "patient recognition rate (95 %)",
            "published bar",
        ),
        rows=tuple(rows),
    )


def fold_table(subject: Subject) -> PageTable:
    """Metrics of each fold."""
    names = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", _RATE)
    rows = [
        (fold, str(int(values["images"])), str(int(values["patients"])), *(_cell(values, name) for name in names))
        for fold, values in subject.found.by_fold.items()
    ]
    overlap = "The folds overlap; what stands above is their mean." if subject.plain.overlap else "No image is twice."
    return PageTable(
        caption=f"By fold. {overlap}",
        headings=("fold", "images", "patients", *(_name(name) for name in names)),
        rows=tuple(rows),
    )


def calibration_table(subject: Subject) -> PageTable:
    """Calibration before and after the temperature."""
    states = subject.calibration()
    rows = [
        (name, *(f"{values[key]:.3f}" for _, values in states))
        for key, name in (
            ("ece_equal_width", "expected calibration error, ten bins of the same width"),
            ("ece_equal_mass", "expected calibration error, ten bins of as many images"),
            ("brier", "Brier score"),
            ("cross_entropy", "cross-entropy"),
        )
    ]
    return PageTable(
        caption=f"Calibration, every image weighing the same. Shipped temperature: {subject.metrics.temperature:.3f}.",
        headings=("measure", *(state for state, _ in states)),
        rows=tuple(rows),
    )


def engine_table(graphs: tuple[Agreement, ...]) -> PageTable:
    """How far the exported graphs stray from the network."""
    rows = [
        (
            graph.graph,
            str(graph.images),
            f"{graph.label_agreement:.2%}",
            f"{graph.largest_difference:.4f}",
            f"{graph.mean_difference:.4f}",
        )
        for graph in graphs
    ]
    return PageTable(
        caption="The exported graphs against the network in float32.",
        headings=("graph", "images", "same labels", "largest difference of probability", "mean difference"),
        rows=tuple(rows),
    )


def _paper_run(subject: Subject, paper_run: RunFolder | None) -> tuple[RunConfig, RunMetrics] | None:
    if paper_run is None:
        paper = subject.config.recipe["name"] == _PAPER_RECIPE
        return (subject.config, subject.metrics) if paper else None
    config = paper_run.read_config()
    if config.recipe.get("name") != _PAPER_RECIPE or not config.shares_patients:
        raise RunError(f"{paper_run.path} is a run of recipe {config.recipe.get('name')!r}: name one of recipe 'paper'")
    return config, paper_run.read_metrics()


def _effort(config: RunConfig) -> str:
    """Say how long a run trained, and on what: a run of a few steps must not pass for the published experiment."""
    recipe = config.recipe
    steps = steps_of(recipe) * int(str(recipe.get("soup", 1)))
    return f"{recipe['name']}: {steps:,} steps of {recipe['batch']} a fold, {config.images:,} images"


def _triple(metrics: RunMetrics, subject: Subject | None = None) -> tuple[str, str, str]:
    overall = metrics.overall if subject is None else subject.found.overall
    intervals = metrics.intervals if subject is None else subject.found.intervals
    images = f", {int(overall['images'])} images"
    accuracy, rate, auc = (
        f"{overall[name]:.3f} ({_interval(intervals.get(name))})" if name in overall else "one class only"
        for name in ("accuracy", _RATE, "auc")
    )
    return accuracy + images, rate, auc


def _cell(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3f}" if name in values else "one class only"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _name(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))
