"""Two real processes that train one network."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from core.settings import PROJECT
from tests.assets.training import (
    TinyNetwork,
    tiny_images,
    train,
    train_command,
    training_environment,
    write_images,
)
from trainer.network import read_tensors
from trainer.recipe import RECIPES, AugmentationRecipe, Recipe
from trainer.resume import saved_step
from trainer.run import RunFolder

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]

STILL = AugmentationRecipe(zoom=(1.0, 1.0), turn_degrees=0, shift=0, stain=0, stain_offset=0, brightness=0, contrast=0)
RECIPE = Recipe(
    name="tiny",
    selection="None",
    epochs=2,
    steps_per_epoch=4,
    batch=8,
    warmup_steps=0,
    precision="fp32",
    optimizer="sgd",
    head_learning_rate=0.1,
    learning_rate=0.1,
    release=((3, "layer4"),),
    augmentation=STILL,
)

_EACH_PROCESS = """
import hashlib, json, sys
from pathlib import Path
from tests.integration.trainer.test_parallel import RECIPE, digest, plain_images, plain_network
from tests.assets.training import TinyNetwork, tiny_images
from trainer.fit import fit
from trainer.parallel import joined_ranks
from safetensors.torch import save_file

with joined_ranks("cpu") as ranks:
    network = fit(plain_network(), plain_images(), RECIPE, 0, ranks=ranks)
    usual = fit(TinyNetwork(), tiny_images(), RECIPE, 0, ranks=ranks)
    out = Path(sys.argv[1]) / f"rank-{ranks.rank}.json"
    out.write_text(json.dumps({"count": ranks.count, "plain": digest(network), "usual": digest(usual)}))
    if ranks.first:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, Path(sys.argv[1]) / "w.safetensors")
"""


def plain_network() -> TinyNetwork:
    """No dropout and no BatchNorm, whose chance and statistics depend on how a batch is dealt."""
    network = TinyNetwork()
    network.body.layer4[1] = torch.nn.Identity()
    network.head[0] = torch.nn.Identity()
    return network


def plain_images():
    """One colour an image: flips and turns change nothing, so that only the gradients count."""
    images = tiny_images()
    images.fields[:] = images.fields.mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    return images


def digest(network: torch.nn.Module) -> str:
    """Return the sha256 of all weights."""
    content = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(content).hexdigest()


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _environment() -> dict[str, str]:
    return training_environment() | {"PYTHONPATH": str(PROJECT)}


def _torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *arguments],
        cwd=PROJECT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """Each takes half of the batch; averaged gradients make the weights of one process, the same in both to the bit.

    So do statistics of BatchNorm. A stage is released on the way: the parameters that are exchanged change.
    """
    from trainer.fit import fit

    script = tmp_path / "each.py"
    script.write_text(_EACH_PROCESS)
    done = _torchrun(str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["count"] == 2
    alone = fit(plain_network(), plain_images(), RECIPE, 0).state_dict()
    together = read_tensors(tmp_path / "w.safetensors")
    start = plain_network().state_dict()
    for key, value in alone.items():
        assert torch.allclose(together[key], value, atol=1e-5), key
        assert not torch.allclose(together[key], start[key], atol=1e-4), key


def test_the_command_runs_under_torchrun(tmp_path: Path) -> None:
    """One of two processes writes the run folder; a step of each fit is logged once."""
    images = tmp_path / "images"
    images.mkdir()
    out = tmp_path / "run"
    options = ("--recipe", "smoke", "--from-scratch", "--folds", 2, "--steps", 2, "--batch", 4, "--out", out)
    done = _torchrun(*train_command(write_images(images), *options)[1:])
    assert done.returncode == 0, done.stderr[-3000:]
    assert RunFolder(out).read_config().processes == 2
    assert RunFolder(out).read_config().from_scratch
    assert [line.split(",")[:2] for line in (out / "log.csv").read_text().splitlines()[1:]] == [
        [fit, step] for fit in ("0", "1", "all") for step in ("1", "2")
    ]
    assert done.stdout.count("patient_recognition_rate") == 1


def test_processes_stop_and_resume_together(tmp_path: Path) -> None:
    """SIGTERM to torchrun reaches the processes at different times; they stop after one and the same step."""
    images = tmp_path / "images"
    images.mkdir()
    log = tmp_path / "run" / "log.csv"
    options = ("--recipe", "smoke", "--from-scratch", "--folds", 2, "--steps", 40, "--batch", 4)
    command = train_command(write_images(images), *options, "--out", tmp_path / "run")[1:]
    program = subprocess.Popen(
        [*TORCHRUN, *command], cwd=PROJECT, env=_environment(), stderr=subprocess.PIPE, text=True
    )
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert program.poll() is None, "the training ended before the signal"
        time.sleep(0.05)
    program.terminate()
    _, stderr = program.communicate(timeout=120)
    assert "stopped as asked at step" in stderr
    fit, steps = saved_step(tmp_path / "run" / "state.safetensors", RECIPES["smoke"].with_steps(40))
    assert (fit, steps) == ("0", log.read_text().count("\n") - 1)
    alone = train(*command[3:], "--resume")
    assert "processes was 2, is 1" in alone.stderr


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    """Five images for two processes: the message says so, and no process waits for the other for ever."""
    images = tmp_path / "images"
    images.mkdir()
    options = ("--recipe", "smoke", "--from-scratch", "--folds", 2, "--batch", 5, "--out", tmp_path / "run")
    done = _torchrun(*train_command(write_images(images), *options)[1:])
    assert done.returncode != 0
    assert "2 processes cannot share a batch of 5" in done.stderr
    assert not (tmp_path / "run").exists()
