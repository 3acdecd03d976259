"""What a resumed fit must have in common with an uninterrupted one: everything."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.settings import PROJECT
from tests.assets.training import TINY_RECIPE, TinyNetwork, same_tensors, tiny_images
from trainer.checkpoint import read_metadata
from trainer.errors import RunError, StoppedError, WeightsError
from trainer.fit import EpochReport, StepReport, fit
from trainer.network import read_tensors
from trainer.parallel import ALONE
from trainer.recipe import EarlyStop, Recipe
from trainer.resume import Keeper, StopRequest, saved_step

pytestmark = pytest.mark.trainer

RECIPE = TINY_RECIPE
VARIANTS = {
    "adamw": RECIPE,
    "sgd": replace(RECIPE, optimizer="sgd"),
    "rmsprop": replace(RECIPE, optimizer="rmsprop", loss="mse", schedule="constant", average_decay=0.0),
    "soup": replace(RECIPE, soup=2),
    "early stop": replace(RECIPE, early_stop=EarlyStop(patience_epochs=1)),
    "release": replace(RECIPE, release=((6, "layer4"), (3, "layer3"))),
}


def _keeper(path: Path, stop: StopRequest | None = None, **changes: object) -> Keeper:
    settings = {"path": path, "fit": "0", "plan": "p", "stop": stop or StopRequest(), "ranks": ALONE}
    return Keeper(**{**settings, **changes})


@pytest.mark.parametrize("recipe", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("stopped_at", [2, 5, 8])
def test_a_stopped_fit_ends_with_the_same_weights(recipe: Recipe, stopped_at: int, tmp_path: Path) -> None:
    """Weights, steps and epochs after the stop are those of the fit that nobody stopped, to the bit."""
    steps: list[StepReport] = []
    epochs: list[tuple[int, float, float]] = []
    expected = fit(TinyNetwork(), tiny_images(), recipe, 3, steps.append, on_epoch=lambda e: epochs.append(_row(e)))
    stop, before, after = StopRequest(), [], []

    def listen(report: StepReport) -> None:
        before.append(report)
        stop.received = report.step == stopped_at - 1  # seen by the next step

    seen: list[tuple[int, float, float]] = []
    with pytest.raises(StoppedError, match=f"step {stopped_at} of fit 0.*--resume"):
        fit(
            TinyNetwork(),
            tiny_images(),
            recipe,
            3,
            listen,
            on_epoch=lambda e: seen.append(_row(e)),
            keeper=_keeper(tmp_path / "state", stop),
        )
    torch.manual_seed(99)  # what happened in between must not matter
    keeper = _keeper(tmp_path / "state")
    actual = fit(
        TinyNetwork(), tiny_images(), recipe, 3, after.append, on_epoch=lambda e: seen.append(_row(e)), keeper=keeper
    )
    assert same_tensors(actual.state_dict(), expected.state_dict())
    assert [(r.step, r.loss) for r in before + after] == [(r.step, r.loss) for r in steps]
    assert seen == epochs


def _row(report: EpochReport) -> tuple[int, float, float]:
    return report.epoch, report.loss, report.accuracy


def test_the_state_is_saved_every_so_many_steps(tmp_path: Path) -> None:
    """Steps 5 and 10 of 12 are saved, and the fit's end removes the state when its weights are safe."""
    path, saved = tmp_path / "state", []
    keeper = _keeper(path, every_steps=5)
    fit(TinyNetwork(), tiny_images(), RECIPE, 0, lambda _: saved.append(saved_step(path, RECIPE)), keeper=keeper)
    assert sorted(set(saved), key=lambda found: found[1]) == [(None, 0), ("0", 5), ("0", 10)]
    keeper.forget()
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_another_plan_is_refused(tmp_path: Path) -> None:
    """Its weights would go on under a recipe that never made them."""
    fit(TinyNetwork(), tiny_images(), RECIPE, 0, keeper=_keeper(tmp_path / "state", every_steps=5))
    with pytest.raises(RunError, match="belongs to another run"):
        fit(TinyNetwork(), tiny_images(), RECIPE, 0, keeper=_keeper(tmp_path / "state", plan="q"))


def test_the_state_of_a_finished_fit_does_not_leak_into_the_next(tmp_path: Path) -> None:
    """A run that was killed between two fits leaves the state of the first."""
    fit(TinyNetwork(), tiny_images(), RECIPE, 0, keeper=_keeper(tmp_path / "state", every_steps=5))
    actual = fit(TinyNetwork(), tiny_images(), RECIPE, 1, keeper=_keeper(tmp_path / "state", fit="1"))
    assert same_tensors(actual.state_dict(), fit(TinyNetwork(), tiny_images(), RECIPE, 1).state_dict())


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    """Nothing goes on from half a file; the message says what becomes of the run without it."""
    (tmp_path / "state").write_bytes(b"torn")
    with pytest.raises(WeightsError, match=r"state cannot be read.*Remove it"):
        saved_step(tmp_path / "state", RECIPE)


_FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from trainer.checkpoint import write_tensors
from trainer.errors import WeightsError

path = Path(sys.argv[1])
write_tensors(path, {"a": torch.ones(30)}, {"progress": "{}"})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_tensors(path, {"a": torch.zeros(3000)}, {})
except WeightsError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_state_before_it(tmp_path: Path) -> None:
    """The message names the file; the older state can still be read, and nothing half-written lies beside it."""
    path = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert f"{path} cannot be written" in done.stdout
    assert "disk full" in done.stdout
    assert torch.equal(read_tensors(path)["a"], torch.ones(30))
    assert read_metadata(path) == {"progress": "{}"}
    assert list(tmp_path.iterdir()) == [path]
