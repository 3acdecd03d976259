"""Several systems trained and judged under one protocol, one table."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from trainer.compare_plot import plot_comparison
from trainer.compare_protocol import ComparisonPlan, Terms, continued, settle
from trainer.compare_table import MEASURED, Comparison, Row, write_tables
from trainer.dataset.images import DataSet
from trainer.decision import USUAL_THRESHOLD
from trainer.errors import DivergedError, RunError
from trainer.evaluate import measure_folds, patient_intervals
from trainer.fit import StepReport, fit, predict
from trainer.judge import predictions_of
from trainer.network import Network
from trainer.predictions import Predictions, write_predictions
from trainer.systems.catalogue import SystemEntry
from trainer.systems.cost import gmac_of, images_per_second, parameters_of

PICTURE = "compare.png"
_INTERVAL_REPEATS = 500
# Patients of each class below which drawing them again says nothing: with one, every draw is the same.
_INTERVAL_PATIENTS = 3


class Watcher(Protocol):
    """Is told how a comparison goes on."""

    def step(self, entry: SystemEntry, report: StepReport) -> None:
        """A step of one of the system's fits is done."""

    def finished(self, entry: SystemEntry, row: Row, *, before: bool) -> None:
        """A system has its row; `before` tells that an earlier run had measured it."""


def run_comparison(data: DataSet, plan: ComparisonPlan, folder: Path, watcher: Watcher) -> Comparison:
    """Train, judge and measure every system of the plan that has no row yet, and write the tables.

    compare.json grows by a row as soon as a system is finished, so an interrupted comparison goes on with the next.

    Args:
        data: the images.
        plan: what to compare.
        folder: is made; an earlier comparison in it is continued.
        watcher: is told of each step and row.

    Raises:
        DatasetError: too few patients for the folds.
        WeightsError: a file of weights does not fit; nothing was trained then.
        RunError: the folder holds a comparison under another protocol, or cannot be written.
    """
    terms = settle(data, plan)
    comparison = continued(plan, terms, folder)
    _require_usable_weights(comparison, plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in plan.systems:
            row = comparison.row(entry.name)
            before = row is not None
            if row is None:
                row = _measure_system(_Session(data, plan, terms, folder, watcher), entry)
                comparison = comparison.with_row(row)
                comparison.write(folder)
            watcher.finished(entry, row, before=before)
        write_tables(comparison, folder)
        plot_comparison(comparison, folder / PICTURE)
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error}): is it a folder of yours, is the disk full?") from error
    return comparison


def _require_usable_weights(comparison: Comparison, plan: ComparisonPlan) -> None:
    """Load all weights once, so that a bad file is named before hours of training, not after."""
    for entry in plan.systems:
        if comparison.row(entry.name) is None and any(map(plan.source.starts_from_imagenet, entry.imagenet)):
            entry.build(plan.source)


@dataclass(frozen=True)
class _Session:
    """What all systems of one run share."""

    data: DataSet
    plan: ComparisonPlan
    terms: Terms
    folder: Path
    watcher: Watcher


@dataclass(frozen=True, kw_only=True)
class _Metrics:
    """What a row says of its predictions; None where a class is missing among the judged images."""

    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auc: float | None = None
    auc_interval: tuple[float, float] | None = None
    patient_recognition_rate: float | None = None


def _measure_system(session: _Session, entry: SystemEntry) -> Row:
    source, started = session.plan.source, time.monotonic()
    outcome, metrics = MEASURED, _Metrics()
    try:
        predictions, network = _judge_folds(session, entry)
    except DivergedError as error:
        outcome, network = f"diverged: {error}", _fresh_network(session.plan, entry, 0)
    else:
        metrics = _measure(predictions)
        write_predictions(session.folder / f"oof-{entry.name}.csv", predictions)
    seconds = time.monotonic() - started
    return Row(
        system=entry.name,
        title=entry.title,
        start=entry.start(source),
        start_digest=entry.digest(source),
        published_accuracy_percent=entry.published.accuracy,
        published_brief=entry.published.brief,
        published_protocol=entry.published.protocol,
        published_source=entry.published.source,
        published_looked_up=entry.published.looked_up,
        outcome=outcome,
        parameters=parameters_of(network),
        gmac=gmac_of(network),
        images_per_s=images_per_second(network),
        seconds=seconds,
        **asdict(metrics),
    )


def _judge_folds(session: _Session, entry: SystemEntry) -> tuple[Predictions, Network]:
    """Return what each fold's network says of its judged images, and the last network."""
    data, plan = session.data, session.plan
    parts = []
    for number, fold in enumerate(session.terms.judged):
        network = fit(
            _fresh_network(plan, entry, number),
            data.training_images(fold.train),
            plan.recipe,
            _fit_seed(plan, number),
            lambda report: session.watcher.step(entry, report),
            device=plan.device,
        )
        probabilities = predict(network, data.pixels[fold.judged])
        parts.append((fold.judged, np.full(len(fold.judged), number, np.int64), probabilities))
    rows, numbers, probabilities = (np.concatenate(column) for column in zip(*parts, strict=True))
    of_all = predictions_of(data, np.zeros(len(data), np.float32))
    return replace(of_all.take(rows), folds=numbers, probabilities=probabilities), network


def _measure(predictions: Predictions) -> _Metrics:
    found = measure_folds(predictions, USUAL_THRESHOLD)
    patients = [len(np.unique(predictions.patients[predictions.labels == label])) for label in (0, 1)]
    intervals = {}
    if min(patients) >= _INTERVAL_PATIENTS:
        intervals = patient_intervals(predictions, USUAL_THRESHOLD, ("auc",), _INTERVAL_REPEATS)
    return _Metrics(
        accuracy=found["accuracy"],
        balanced_accuracy=found.get("balanced_accuracy"),
        auc=found.get("auc"),
        auc_interval=intervals.get("auc"),
        patient_recognition_rate=found["patient_recognition_rate"],
    )


def _fresh_network(plan: ComparisonPlan, entry: SystemEntry, number: int) -> Network:
    torch.manual_seed(_fit_seed(plan, number))
    return entry.build(plan.source).to(plan.device)


def _fit_seed(plan: ComparisonPlan, number: int) -> int:
    return 1000 * plan.seed + number
