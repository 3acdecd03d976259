"""Figures, and the curves that one of them shows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.curves import Curve, mean_by_epoch, read_curves
from trainer.errors import RunError
from trainer.output import replacing
from trainer.plots import (
    plot_confusion,
    plot_curves,
    plot_patients,
    plot_pictures,
    plot_reliability,
    plot_roc,
)
from trainer.predictions import Predictions

pytestmark = pytest.mark.trainer

HEADER = "fit,epoch,train_loss,train_accuracy,test_loss,test_accuracy,images_per_s\n"


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    return Predictions(
        files=np.array([f"SOB_M_DC-14-{n}-100-001.png" for n in range(40)]),
        labels=labels,
        patients=np.repeat([f"14-{n}" for n in range(8)], 5),
        magnifications=np.full(40, 100),
        folds=np.repeat([0, 1], 20),
        probabilities=(0.3 + 0.4 * labels + rng.normal(0, 0.1, 40)).astype(np.float32).clip(0, 1),
    )


def _draw_all(predictions: Predictions, folder: Path, brand: str) -> dict[str, bytes]:
    folder.mkdir()
    curve = Curve(
        fit="0",
        epochs=np.array([1, 2]),
        train_loss=np.array([0.7, 0.5]),
        train_accuracy=np.array([0.5, 0.8]),
        test_loss=np.array([0.7, 0.6]),
        test_accuracy=np.array([0.5, 0.6]),
    )
    plot_curves((curve,), folder / "curves.png", brand)
    plot_roc(predictions, (0.9, 0.8, 1.0), folder / "roc.png", brand)
    plot_reliability(predictions.labels, {"a": predictions.probabilities}, folder / "reliability.png", brand)
    plot_confusion(predictions, 0.5, folder / "confusion.png", brand)
    plot_patients(predictions, 0.5, folder / "patients.png", brand)
    plot_pictures([("a field", [np.zeros((192, 288, 3), np.uint8)] * 2)], "sheet", folder / "sheet.png", brand)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_numbers_give_the_same_picture(predictions: Predictions, tmp_path: Path) -> None:
    """To the byte, with no version of the software in the file and nothing half-written left behind."""
    first, again = (_draw_all(predictions, tmp_path / name, "") for name in ("first", "again"))
    assert first == again
    assert len(first) == 6
    for name in first:
        with Image.open(tmp_path / "first" / name) as picture:
            assert picture.info.keys() <= {"dpi"}


def test_a_brand_shows_in_every_picture(predictions: Predictions, tmp_path: Path) -> None:
    """A picture that is passed on without its page still says that patients are shared."""
    plain = _draw_all(predictions, tmp_path / "plain", "")
    branded = _draw_all(predictions, tmp_path / "branded", "shares patients between train and test")
    assert all(plain[name] != branded[name] for name in plain)
    for name in branded:
        with Image.open(tmp_path / "branded" / name) as picture:
            top = np.asarray(picture.convert("RGB"))[: picture.height // 4].reshape(-1, 3).astype(int)
        assert np.any((top[:, 0] > 120) & (top[:, 1] < 40) & (top[:, 2] < 40))  # dark red words


def test_photographs_stay_small_and_true(tmp_path: Path) -> None:
    """A sheet has 256 colours, which stained tissue does not miss."""
    rng = np.random.default_rng(0)
    tissue = rng.normal((200, 130, 190), 25, (192, 288, 3)).clip(0, 255).astype(np.uint8)
    plot_pictures([(f"field {n}", [tissue]) for n in range(4)], "sheet", tmp_path / "sheet.png", "")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.mode == "P"
        middle = np.asarray(picture.convert("RGB"))[120:140, 60:200].reshape(-1, 3).mean(axis=0)
    assert middle == pytest.approx([200, 130, 190], abs=12)


def test_curves_are_read_by_fit(tmp_path: Path) -> None:
    """A fit on all images has no test values; a column more, such as the brand, does no harm."""
    (tmp_path / "curves.csv").write_text(
        HEADER.replace("\n", ",split\n") + "0,1,0.7,0.5,0.8,0.4,10,x\n0,2,0.5,0.6,0.7,0.5,10,x\nall,1,0.6,0.7,,,10,x\n"
    )
    first, last = read_curves(tmp_path / "curves.csv")
    assert (first.fit, last.fit) == ("0", "all")
    assert first.test_loss.tolist() == [0.8, 0.7]
    assert np.isnan(last.test_accuracy).all()


def test_no_curves_are_no_error_and_damaged_ones_are(tmp_path: Path) -> None:
    """Runs of older versions kept none."""
    assert read_curves(tmp_path / "curves.csv") == ()
    (tmp_path / "curves.csv").write_text(HEADER + "0,1,much,0.5,0.8,0.4,10\n")
    with pytest.raises(RunError, match=r"curves\.csv is malformed.*remove it"):
        read_curves(tmp_path / "curves.csv")


def test_the_mean_of_an_epoch_is_over_the_fits_that_reached_it(tmp_path: Path) -> None:
    """One fold stopped early: the mean goes on with the others."""
    (tmp_path / "curves.csv").write_text(
        HEADER + "0,1,0.8,0.5,0.8,0.4,10\n0,2,0.6,0.5,0.8,0.4,10\n1,1,0.4,0.5,0.8,0.4,10\n"
    )
    epochs, mean = mean_by_epoch(read_curves(tmp_path / "curves.csv"), "train_loss")
    assert epochs.tolist() == [1, 2]
    assert mean == pytest.approx([0.6, 0.6])


def test_a_picture_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    """A full disk, say: what was there stays whole, and no half of a file lies beside it."""
    (tmp_path / "page").write_text("older")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "page") as temporary:
        _write_half(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (tmp_path / "page").read_text() == "older"
    with replacing(tmp_path / "page") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "page").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def _write_half(path: Path) -> None:
    path.write_text("half of")
    raise OSError("the disk is full")
