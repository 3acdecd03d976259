"""A network and images so small that a fit takes a blink, and the commands that train for real."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50

from core.settings import PROJECT
from trainer.dataset.images import TrainingImages
from trainer.network import Network
from trainer.recipe import Recipe

PALE, DARK = (225, 190, 215), (110, 50, 120)
TINY_RECIPE = Recipe(
    name="tiny",
    selection="None",
    epochs=3,
    steps_per_epoch=4,
    batch=4,
    warmup_steps=2,
    precision="fp32",
    head_learning_rate=0.05,
)


class TinyNetwork(Network):
    """Two stages and a head; its dropout and BatchNorm are what makes a resumed fit go astray."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self._learning: tuple[str, ...] = ()
        self.body = nn.Sequential()
        self.body.add_module("layer3", nn.Conv2d(3, 4, 3, stride=8))
        self.body.add_module("layer4", nn.Sequential(nn.Conv2d(4, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU()))
        self.head = nn.Sequential(nn.Dropout(0.4), nn.Linear(4, 1))

    def forward(self, images_nchw: Tensor) -> Tensor:
        return self.head(self.body(images_nchw / 255).mean(dim=(2, 3))).squeeze(1)

    def freeze_all_but(self, stages: tuple[str, ...]) -> None:
        self._learning = stages
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in stages)

    def train(self, mode: bool = True) -> "TinyNetwork":
        super().train(mode)
        for name, stage in self.body.named_children():
            stage.train(mode and name in self._learning)
        return self


def tiny_images(patients: int = 3) -> TrainingImages:
    """Two noisy fields of each of some pale benign and as many dark malignant patients."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2 * patients)
    colours = np.array([PALE, DARK])[labels][:, None, None]
    return TrainingImages(
        fields=(colours + rng.normal(0, 12, (len(labels), 192, 288, 3))).clip(0, 255).astype(np.uint8),
        labels=labels.astype(np.int64),
        patients=np.array([f"14-{number}" for number in np.repeat(np.arange(2 * patients), 2)]),
    )


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Tell whether all tensors agree to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def write_images(folder: Path, kinds: tuple[str, ...] = ("B_A", "M_DC"), patients: int = 2) -> Path:
    """Write BreakHis images that a colour tells apart: some patients of each class, each at 40X and 100X."""
    rng = np.random.default_rng(0)
    for kind in kinds:
        label = int(kind.startswith("M"))
        for patient in range(patients):
            for magnification in (40, 100):
                noise = rng.normal((PALE, DARK)[label], 12, (192, 288, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(folder / f"SOB_{kind}-14-{label}{patient}-{magnification}-001.png")
    return folder


def write_weights(path: Path) -> Path:
    """Write random ResNet-50 weights in the place of ImageNet's."""
    torch.manual_seed(0)
    save_file(resnet50(weights=None).state_dict(), path)
    return path


def train_command(*arguments: object) -> list[str]:
    """Return the command line of `histobatch train`."""
    return [sys.executable, "-m", "cli.main", "train", *map(str, arguments)]


def training_environment() -> dict[str, str]:
    """Return the environment of a training in a test: one thread, so that it is the same on every machine."""
    return {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `histobatch train` to its end."""
    return subprocess.run(
        train_command(*arguments),
        cwd=PROJECT,
        env=training_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
