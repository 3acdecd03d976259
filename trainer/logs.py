"""What a run writes while it trains: a row a step, a row an epoch, and the same for TensorBoard."""

import csv
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from core.bundle import NOTICE
from trainer.dataset.images import DataSet
from trainer.fit import EpochListener, EpochReport, Listener, StepReport, predict
from trainer.network import Network
from trainer.optimise import accuracy_of, loss_of
from trainer.recipe import SHARED_PATIENTS, Recipe
from trainer.run import write_csv

STEPS = ("fold", "step", "loss", "accuracy", "images_per_s")
CURVES = ("fit", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_s")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What of a run is saved already: rows beyond are of steps that a resumed run takes again.

    Attributes:
        fits: the fits that are finished.
        fit: the fit that is under way, with its saved steps.
    """

    fits: frozenset[str] = frozenset()
    fit: str | None = None
    steps: int = 0

    def has(self, fit: str, step: int) -> bool:
        """Tell whether a step of a fit is saved."""
        return fit in self.fits or (fit == self.fit and step <= self.steps)


class _RowWriter(Protocol):
    def writerow(self, row: Iterable[object], /) -> object: ...


class RunLog(ExitStack):
    """log.csv, curves.csv and tensorboard/ of a run. Each row is on its way to the disk before the next step begins."""

    def __init__(self, folder: Path, recipe: Recipe, done: Done) -> None:
        super().__init__()
        self._folder = folder
        self._recipe = recipe
        self._done = done
        self._brand = (SHARED_PATIENTS,) if recipe.shares_patients else ()

    def __enter__(self) -> Self:
        column = ("split",) if self._brand else ()
        self._steps = self._open("log.csv", (*STEPS, *column), 1)
        self._curves = self._open("curves.csv", (*CURVES, *column), self._recipe.steps_per_epoch)
        return self

    def _open(self, name: str, header: tuple[str, ...], steps_a_row: int) -> _RowWriter:
        """Open a log for rows to come, without the rows of steps that are taken again."""
        path = self._folder / name
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in list(csv.reader(stream))[1:] if len(row) == len(header)]
        kept = [tuple(row) for row in rows if self._done.has(row[0], int(row[1]) * steps_a_row)]
        write_csv(path, header, kept)
        # Line by line: a killed run loses no row, and the log has none in part.
        return csv.writer(self.enter_context(path.open("a", newline="", encoding="utf-8", buffering=1)))

    def listeners(
        self, fit: str, listener: Listener, data: DataSet, judged: NDArray[np.int64] | None
    ) -> tuple[Listener, EpochListener]:
        """Return what logs the steps and the epochs of a fit; each step is passed on to another listener.

        The rows of the judged fold are only looked at, for the curves: no step, no stop and no choice of weights
        depends on what they show.
        """
        board = self._board(fit)
        return self._step_listener(fit, board, listener), self._epoch_listener(fit, board, data, judged)

    def _board(self, fit: str) -> SummaryWriter:
        """Return the TensorBoard of a fit; what it shows of steps that are taken again is dropped."""
        purge = self._done.steps + 1 if fit == self._done.fit else 1
        name = fit if fit == "all" else f"fold-{fit}"
        board = SummaryWriter(str(self._folder / "tensorboard" / name), purge_step=purge)
        board.add_text("notice", ". ".join((NOTICE.rstrip("."), *self._brand)), purge)
        self.callback(board.close)
        return board

    def _step_listener(self, fit: str, board: SummaryWriter, listener: Listener) -> Listener:
        def listen(report: StepReport) -> None:
            numbers = (f"{report.loss:.5f}", f"{report.accuracy:.4f}", f"{report.images_per_s:.1f}")
            self._steps.writerow((fit, report.step, *numbers, *self._brand))
            board.add_scalar("step/loss", report.loss, report.step)
            board.add_scalar("step/accuracy", report.accuracy, report.step)
            board.add_scalar("step/images_per_s", report.images_per_s, report.step)
            listener(report)

        return listen

    def _epoch_listener(
        self, fit: str, board: SummaryWriter, data: DataSet, judged: NDArray[np.int64] | None
    ) -> EpochListener:
        def listen(report: EpochReport) -> None:
            step = report.epoch * self._recipe.steps_per_epoch
            shown = {"train_loss": report.loss, "train_accuracy": report.accuracy}
            if judged is not None:
                shown |= _judge_curve(report.network, data, judged, self._recipe)
            cells = (f"{shown[name]:.5f}" if name in shown else "" for name in CURVES[2:6])
            self._curves.writerow((fit, report.epoch, *cells, f"{report.images_per_s:.1f}", *self._brand))
            for name, value in shown.items():
                board.add_scalar(f"epoch/{name}", value, step)

        return listen


def _judge_curve(network: Network, data: DataSet, judged: NDArray[np.int64], recipe: Recipe) -> dict[str, float]:
    logits_N = torch.logit(torch.from_numpy(predict(network, data.pixels[judged])), eps=1e-7)
    targets_N = torch.from_numpy(data.labels[judged]).float()
    loss, accuracy = loss_of(logits_N, targets_N, recipe), accuracy_of(logits_N, targets_N)
    return {"test_loss": loss.item(), "test_accuracy": accuracy.item()}
