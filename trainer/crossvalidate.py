"""One run: judge the recipe on its folds, then fit the model that ships on all images."""

import subprocess
from contextlib import nullcontext
from pathlib import Path

import torch

from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.dataset.images import DataSet
from trainer.dataset.splits import Fold
from trainer.device import choose_device, computes_in_bf16
from trainer.fit import Listener
from trainer.fits import FitRunner, planned_fits
from trainer.judge import judge_predictions
from trainer.parallel import ALONE, Ranks
from trainer.plan import TrainingPlan
from trainer.predictions import Predictions, write_predictions
from trainer.protocol import describe_protocol, make_folds
from trainer.recipe import SHARED_PATIENTS
from trainer.resume import StopRequest
from trainer.run import RunConfig, RunFolder, RunMetrics, brand_csv
from trainer.space import naming_full_disk, require_space


def run_training(
    data: DataSet,
    source: Path,
    plan: TrainingPlan,
    run: RunFolder,
    listener: Listener,
    *,
    stop: StopRequest | None = None,
    ranks: Ranks = ALONE,
) -> RunMetrics:
    """Cross-validate, fit on all images and write the run folder; go on where an interrupted run stopped.

    Args:
        data: the images.
        source: the folder that they came from, for config.json.
        plan: what to train.
        run: a new run folder, or that of an interrupted run.
        listener: called after each step of each fit.
        stop: asks to save and stop.
        ranks: the processes that train together.

    Raises:
        DatasetError: too few patients for the folds.
        WeightsError: the ImageNet weights do not fit, or a checkpoint cannot be written.
        DivergedError: a fit failed.
        StoppedError: it was asked to stop.
        RunError: the interrupted run was another one, another process is at it, or the disk is full.
    """
    plan = plan.settled()
    ranks.require_even_shares(plan.recipe.batch)
    chosen = make_folds(data, plan.recipe, plan.folds, plan.seed)
    network = plan.network(0)  # unusable weights are named before anything is trained
    config = _config(data, source, plan, chosen.folds, ranks)
    fits = planned_fits(data, plan, chosen.folds, run)
    ranks.wait()  # each process has looked at the folder before the first one writes to it
    with naming_full_disk(run.path):
        require_space(run.path, network, plan.recipe, sum(not each.path.exists() for each in fits))
        with run.begun(config) if ranks.first else nullcontext():
            ranks.wait()
            runner = FitRunner(
                data=data, plan=plan, run=run, digest=config.digest(), stop=stop or StopRequest(), ranks=ranks
            )
            runner.fit_all(fits, listener)
            if ranks.first:
                predictions = runner.judge_folds(fits)
                _finish(run, config, predictions, describe_protocol(data, plan.recipe, chosen, plan.seed))
            ranks.wait()
    return run.read_metrics()


def steps_left(data: DataSet, plan: TrainingPlan, run: RunFolder) -> int:
    """Return the number of steps that a run still has to do.

    Raises:
        DatasetError: too few patients for the folds.
    """
    plan = plan.settled()
    fits = planned_fits(data, plan, make_folds(data, plan.recipe, plan.folds, plan.seed).folds, run)
    return plan.recipe.total_steps * sum(not each.path.exists() for each in fits)


def _finish(run: RunFolder, config: RunConfig, predictions: Predictions, protocol: str) -> None:
    """Write what the run found; config.json last, because a folder with it is a whole run."""
    if config.shares_patients:
        save_checkpoint(load_checkpoint(run.fold_checkpoint(0)), run.checkpoint, SHARED_PATIENTS)
    run.write_metrics(judge_predictions(predictions, protocol, shares_patients=config.shares_patients))
    write_predictions(run.path / "oof.csv", predictions)
    if config.shares_patients:
        brand_csv(run.path / "oof.csv", "split", SHARED_PATIENTS)
    run.finish(config)


def _config(data: DataSet, source: Path, plan: TrainingPlan, folds: tuple[Fold, ...], ranks: Ranks) -> RunConfig:
    device = choose_device(plan.device, ranks.local_rank)
    weights, weights_sha256 = plan.describe_weights()
    return RunConfig(
        data=str(source.resolve()),
        fingerprint=data.fingerprint,
        images=len(data),
        patients=data.patient_count,
        weights=weights,
        weights_sha256=weights_sha256,
        from_scratch=plan.from_scratch,
        stride=plan.network_stride,
        recipe=plan.recipe.describe(),
        folds=len(folds),
        seed=plan.seed,
        judged_patients=[sorted(set(data.patients[fold.judged].tolist())) for fold in folds],
        bf16=computes_in_bf16(plan.recipe, device),
        torch=str(torch.__version__),
        git_commit=git_commit(),
        shares_patients=plan.recipe.shares_patients,
        device=device.type,
        processes=ranks.count,
    )


def git_commit() -> str:
    """Return the commit of the code that trains, "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
