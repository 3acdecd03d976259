"""What a training asks of the machine: a device, its precision, room on the disk, a terminal."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.device import choose_device, computes_in_bf16
from trainer.errors import RunError, TrainerError
from trainer.fit import StepReport
from trainer.progress import training_progress
from trainer.recipe import RECIPES, EarlyStop
from trainer.space import naming_full_disk, require_space

pytestmark = pytest.mark.trainer


@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    """There is no silent fall back."""
    with pytest.raises(TrainerError, match=rf"{name}.*--device"):
        choose_device(name)


def test_without_a_name_a_gpu_is_taken_where_there_is_one() -> None:
    """The usual case needs no option."""
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


def test_precision_is_the_recipes() -> None:
    """Only "auto" asks the device."""
    recipe = RECIPES["smoke"]
    assert computes_in_bf16(replace(recipe, precision="bf16"), torch.device("cpu"))
    assert not computes_in_bf16(replace(recipe, precision="fp32"), torch.device("cpu"))


def test_a_run_that_the_disk_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    """What is needed and what is free are named; the folder need not be there yet."""
    network, folder = nn.Linear(1000, 1000), tmp_path / "not" / "yet"
    require_space(folder, network, RECIPES["smoke"], checkpoints=6)
    with pytest.raises(RunError, match=r"needs .* GB for 1000000000 checkpoints.*free some space"):
        require_space(folder, network, RECIPES["smoke"], checkpoints=10**9)
    with pytest.raises(RunError, match="--out"):
        require_space(folder, network, replace(RECIPES["smoke"], soup=2, early_stop=EarlyStop()), checkpoints=10**9)
    assert not folder.parent.exists()


def test_only_a_full_disk_is_called_full(tmp_path: Path) -> None:
    """A file that may not be written is another matter, and is named all the same."""
    with pytest.raises(RunError, match=r"full.*--resume") as full, naming_full_disk(tmp_path):
        Path("/dev/full").write_text("x")
    assert str(tmp_path) in str(full.value)
    with pytest.raises(RunError, match=r"x\.csv cannot be written") as missing, naming_full_disk(tmp_path):
        (tmp_path / "missing" / "x.csv").write_text("x")
    assert "disk is full" not in str(missing.value)


def test_the_bar_counts_what_a_resumed_fit_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    """A fit of four steps that goes on at its third, and a second one: eight of eight."""
    with training_progress(8) as listen:
        for step in (3, 4, 1, 2, 3, 4):
            listen(StepReport(step=step, steps=4, loss=0.5, accuracy=0.75, images_per_s=12.0, eta_s=1.0))
    shown = capsys.readouterr().out
    assert "8/8" in shown
    assert "loss 0.500" in shown
    assert "accuracy 0.75" in shown
    assert "12 images/s" in shown
