"""The fits of one run: each finished one is a file of weights, and is never done again."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.dataset.images import DataSet
from trainer.dataset.splits import Fold
from trainer.device import choose_device
from trainer.fit import Listener, fit, ignore, predict
from trainer.judge import predictions_of
from trainer.logs import Done, RunLog
from trainer.parallel import Ranks
from trainer.plan import TrainingPlan
from trainer.predictions import Predictions
from trainer.recipe import SHARED_PATIENTS
from trainer.resume import Keeper, StopRequest, saved_step
from trainer.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class OneFit:
    """One fit of a run.

    Attributes:
        name: number of the fold, or "all".
        number: of its seed.
        train: rows to train on.
        judged: rows that it judges; None for the fit on all images.
        path: the weights that it ends with.
    """

    name: str
    number: int
    train: NDArray[np.int64]
    judged: NDArray[np.int64] | None
    path: Path


def planned_fits(data: DataSet, plan: TrainingPlan, folds: tuple[Fold, ...], run: RunFolder) -> list[OneFit]:
    """List the fits of a run in their order: the folds, then all images.

    Where patients are shared there is no fit on all images: the published experiment has none, and the network that
    is kept shall be the one that was judged.
    """
    fits = [
        OneFit(name=str(n), number=n, train=fold.train, judged=fold.judged, path=run.fold_checkpoint(n))
        for n, fold in enumerate(folds)
    ]
    if plan.recipe.shares_patients:
        return fits
    every = np.arange(len(data))
    return [*fits, OneFit(name="all", number=len(folds), train=every, judged=None, path=run.checkpoint)]


@dataclass(frozen=True, kw_only=True)
class FitRunner:
    """Does the fits of a run that are not done yet, and judges the folds.

    Attributes:
        digest: of all that decides the run; see RunConfig.
    """

    data: DataSet
    plan: TrainingPlan
    run: RunFolder
    digest: str
    stop: StopRequest
    ranks: Ranks

    def fit_all(self, fits: list[OneFit], listener: Listener) -> None:
        """Do what is not done, and log it."""
        missing = [each for each in fits if not each.path.exists()]
        if not self.ranks.first:  # the first process writes for all
            for each in missing:
                self._fit(each, None, ignore)
            return
        name, steps = saved_step(self.run.state, self.plan.recipe)
        done = Done(fits=frozenset(each.name for each in fits if each.path.exists()), fit=name, steps=steps)
        with RunLog(self.run.path, self.plan.recipe, done) as log:
            for each in missing:
                self._fit(each, log, listener)

    def _fit(self, one: OneFit, log: RunLog | None, listener: Listener) -> None:
        keeper = Keeper(
            path=self.run.state,
            fit=one.name,
            plan=self.digest,
            stop=self.stop,
            ranks=self.ranks,
            every_steps=self.plan.save_steps,
        )
        on_step, on_epoch = log.listeners(one.name, listener, self.data, one.judged) if log else (listener, ignore)
        network = fit(
            self.plan.network(one.number),
            self.data.training_images(one.train),
            self.plan.recipe,
            self.plan.seed_of(one.number),
            on_step,
            on_epoch=on_epoch,
            keeper=keeper,
            ranks=self.ranks,
            device=choose_device(self.plan.device, self.ranks.local_rank),
        )
        if self.ranks.first:
            save_checkpoint(network, one.path, SHARED_PATIENTS if self.plan.recipe.shares_patients else "")
        self.ranks.wait()
        keeper.forget()

    def judge_folds(self, fits: list[OneFit]) -> Predictions:
        """Return what each fold's network says of its judged images, as read back from the disk."""
        parts = []
        for one in fits:
            if one.judged is None:
                continue
            network = load_checkpoint(one.path).to(choose_device(self.plan.device, self.ranks.local_rank))
            probabilities = predict(network, self.data.pixels[one.judged])
            parts.append((one.judged, np.full(len(one.judged), one.number, np.int64), probabilities))
        rows, numbers, probabilities = (np.concatenate(column) for column in zip(*parts, strict=True))
        of_all = predictions_of(self.data, np.zeros(len(self.data), np.float32))
        return replace(of_all.take(rows), folds=numbers, probabilities=probabilities)
