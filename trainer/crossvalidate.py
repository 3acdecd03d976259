"""One run: judge the recipe on patients apart, then fit the model that ships on all of them."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundle import file_sha256
from trainer.checkpoint import save_checkpoint
from trainer.dataset import NAME, DataSet
from trainer.decision import choose_rule, judged_with_abstention
from trainer.evaluate import measure, patient_bootstrap
from trainer.fit import Listener, StepReport, computes_in_bf16, fit, predict
from trainer.network import Classifier, Stride, build_network, describe_weights, usual_stride
from trainer.recipe import Recipe
from trainer.run import RunConfig, RunFolder, RunMetrics, write_csv
from trainer.splits import Fold, patient_folds

_LOG_HEADER = ("fold", "step", "loss", "accuracy", "images_per_s")
_OOF_HEADER = ("file", "label", "patient", "magnification", "fold", "probability")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What to train.

    Attributes:
        weights: safetensors file of ImageNet weights; None takes torchvision's.
        stride: of the weights; None takes the usual one, see build_network.
        folds: number of patient-disjoint folds.
        seed: of the folds, the heads, the batches and the augmentation.
    """

    recipe: Recipe
    weights: Path | None = None
    stride: Stride | None = None
    folds: int = 5
    seed: int = 0


def run_training(data: DataSet, source: Path, plan: TrainingPlan, run: RunFolder, listener: Listener) -> RunMetrics:
    """Cross-validate, fit on all images and write the run folder.

    Args:
        data: the images.
        source: the folder that they came from, for config.json.
        plan: what to train.
        run: an empty run folder.
        listener: called after each step of each fit.

    Raises:
        DatasetError: too few patients for the folds.
        WeightsError: the ImageNet weights do not fit.
        DivergedError: a fit failed.
    """
    folds = patient_folds(data.labels, data.patients, plan.folds, plan.seed)
    build_network(plan.weights, plan.stride)  # unusable weights are named before anything is trained
    config = _config(data, source, plan, folds)
    log: list[tuple[object, ...]] = []
    probabilities = np.zeros(len(data), np.float32)
    for number, fold in enumerate(folds):
        network = _fit_rows(data, fold.train, plan, number, _logged(log, str(number), listener))
        probabilities[fold.judged] = predict(network, data.pixels[fold.judged])
        save_checkpoint(network, run.fold_checkpoint(number))
    final = _fit_rows(data, np.arange(len(data)), plan, plan.folds, _logged(log, "all", listener))
    save_checkpoint(final, run.checkpoint)
    metrics = judge(data, probabilities, protocol(data, plan))
    write_csv(run.path / "log.csv", _LOG_HEADER, log)
    write_csv(run.path / "oof.csv", _OOF_HEADER, _oof_rows(data, folds, probabilities))
    run.write_metrics(metrics)
    run.write_config(config)  # last: a folder with config.json is a whole run
    return metrics


def judge(data: DataSet, probabilities: NDArray[np.float32], protocol_text: str) -> RunMetrics:
    """Compute metrics.json from out-of-fold probabilities (N,)."""
    rule = choose_rule(data.labels, probabilities, data.patients)

    def at(rows: NDArray[np.int64]) -> dict[str, float]:
        return measure(data.labels[rows], probabilities[rows], data.patients[rows], rule.threshold)

    def of(name: str) -> Callable[[NDArray[np.int64]], float]:
        return lambda rows: at(rows)[name]

    magnifications = np.array([name.magnification for name in data.names])
    every = np.arange(len(data))
    return RunMetrics(
        protocol=protocol_text,
        decision=rule,
        overall=at(every) | judged_with_abstention(data.labels, probabilities, rule),
        intervals={
            name: patient_bootstrap(data.labels, data.patients, of(name), repeats=500)
            for name in ("auc", "accuracy", "balanced_accuracy", "patient_recognition_rate")
        },
        by_magnification={str(m): at(np.flatnonzero(magnifications == m)) for m in np.unique(magnifications)},
    )


def protocol(data: DataSet, plan: TrainingPlan) -> str:
    """Say in one paragraph how the numbers were found."""
    magnifications = [name.magnification for name in data.names]
    counts = ", ".join(f"{magnifications.count(m)} at {m}X" for m in sorted(set(magnifications)))
    return (
        f"Estimate by {plan.folds}-fold cross-validation with patients apart, seed {plan.seed}: each of the "
        f"{len(data)} images ({data.patient_count} patients of {NAME}; {counts}) was judged once, by a network that "
        f"saw no image of its patient. Recipe '{plan.recipe.name}' ({plan.recipe.steps} steps) was the same in all "
        f"folds, with no early stop and no selection of steps or weights on the judged fold. {plan.recipe.selection}. "
        "Threshold and abstain band were set on these same out-of-fold probabilities, which slightly flatters the "
        "metrics that depend on them. "
        "The shipped network was then fitted on all patients with the same recipe and was itself not judged."
    )


def _fit_rows(
    data: DataSet, rows: NDArray[np.int64], plan: TrainingPlan, number: int, listener: Listener
) -> Classifier:
    seed = 1000 * plan.seed + number
    torch.manual_seed(seed)  # the head is drawn at random
    network = build_network(plan.weights, plan.stride)
    return fit(network, data.training_images(rows), plan.recipe, seed, listener)


def _logged(log: list[tuple[object, ...]], fold: str, listener: Listener) -> Listener:
    def listen(report: StepReport) -> None:
        numbers = (f"{report.loss:.5f}", f"{report.accuracy:.4f}", f"{report.images_per_s:.1f}")
        log.append((fold, report.step, *numbers))
        listener(report)

    return listen


def _oof_rows(data: DataSet, folds: tuple[Fold, ...], probabilities: NDArray[np.float32]) -> list[tuple[object, ...]]:
    return [
        (
            data.paths[row].name,
            data.labels[row],
            data.patients[row],
            data.names[row].magnification,
            number,
            f"{probabilities[row]:.6f}",
        )
        for number, fold in enumerate(folds)
        for row in fold.judged
    ]


def _config(data: DataSet, source: Path, plan: TrainingPlan, folds: tuple[Fold, ...]) -> RunConfig:
    return RunConfig(
        data=str(source.resolve()),
        fingerprint=data.fingerprint,
        images=len(data),
        patients=data.patient_count,
        weights=describe_weights(plan.weights),
        weights_sha256="" if plan.weights is None else file_sha256(plan.weights),
        stride=plan.stride or usual_stride(plan.weights),
        recipe=plan.recipe.describe(),
        folds=plan.folds,
        seed=plan.seed,
        judged_patients=[sorted(set(data.patients[fold.judged].tolist())) for fold in folds],
        bf16=computes_in_bf16(plan.recipe),
        torch=str(torch.__version__),
        git_commit=git_commit(),
    )


def git_commit() -> str:
    """Return the commit of the code that trains, "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
