"""The logs of a run: whole rows, none twice."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.assets.training import TinyNetwork, write_images
from trainer.dataset.images import DataSet, load_dataset
from trainer.fit import EpochReport, StepReport, predict
from trainer.logs import CURVES, STEPS, Done, RunLog
from trainer.recipe import RECIPES

pytestmark = pytest.mark.trainer

RECIPE = RECIPES["smoke"]  # two steps an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load_dataset(write_images(tmp_path_factory.mktemp("images")))


def _step(step: int) -> StepReport:
    return StepReport(step=step, steps=4, loss=0.5, accuracy=0.25, images_per_s=3.0, eta_s=1.0)


def _epoch(epoch: int) -> EpochReport:
    return EpochReport(epoch=epoch, loss=0.5, accuracy=0.25, images_per_s=3.0, network=TinyNetwork().eval())


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_a_row_is_on_the_disk_when_its_step_is_done(data: DataSet, tmp_path: Path) -> None:
    """A killed process has no chance to flush; steps are passed on to the progress bar."""
    seen: list[int] = []
    with RunLog(tmp_path, RECIPE, Done()) as log:
        on_step, on_epoch = log.listeners("0", lambda report: seen.append(report.step), data, np.array([0, 5]))
        on_step(_step(1))
        assert _rows(tmp_path / "log.csv") == [[*STEPS], ["0", "1", "0.50000", "0.2500", "3.0"]]
        on_epoch(_epoch(1))
        assert [row[:4] for row in _rows(tmp_path / "curves.csv")] == [[*CURVES[:4]], ["0", "1", "0.50000", "0.25000"]]
    assert seen == [1]


def test_the_judged_curve_is_that_of_the_judged_rows(data: DataSet, tmp_path: Path) -> None:
    """Accuracy and cross entropy of just these images; the fit on all images has none to be tested on."""
    rows = np.array([0, 2, 5])
    with RunLog(tmp_path, RECIPE, Done()) as log:
        log.listeners("0", lambda report: None, data, rows)[1](_epoch(1))
        log.listeners("all", lambda report: None, data, None)[1](_epoch(1))
    p = predict(TinyNetwork(), data.pixels[rows]).astype(np.float64)
    y = data.labels[rows] * (1 - RECIPE.label_smoothing) + RECIPE.label_smoothing / 2
    judged, whole = _rows(tmp_path / "curves.csv")[1:]
    assert float(judged[4]) == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), abs=1e-4)
    assert float(judged[5]) == pytest.approx(np.mean((p > 0.5) == data.labels[rows]), abs=1e-4)
    assert whole[4:6] == ["", ""]


def test_rows_of_steps_that_are_taken_again_are_dropped(tmp_path: Path) -> None:
    """Fold 0 is finished, fold 1 is saved at step 2: its third row and a torn one go."""
    steps = [["0", str(n), "1", "1", "1"] for n in (1, 2, 3, 4)] + [["1", str(n), "1", "1", "1"] for n in (1, 2, 3)]
    epochs = [["0", "1"], ["0", "2"], ["1", "1"]]
    with (tmp_path / "log.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([STEPS, *steps, ["1", "4"]])
    with (tmp_path / "curves.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([CURVES, *([*row, *["1"] * 5] for row in epochs), ["1", "2", *["1"] * 5]])
    with RunLog(tmp_path, RECIPE, Done(fits=frozenset({"0"}), fit="1", steps=2)):
        pass
    assert _rows(tmp_path / "log.csv")[1:] == steps[:-1]
    assert [row[:2] for row in _rows(tmp_path / "curves.csv")[1:]] == epochs
