"""Training throughput of this trainer against torchvision's plain reference loop.

    python -m benchmarks.training [--images 160] [--batch 32] [--rounds 3] [--threads N]

The reference is what a tutorial has: a Dataset that opens files with Pillow, torchvision transforms (Resize, flips,
ColorJitter), a DataLoader with a worker a core, float32, AdamW. Both train the same network with the same stages, on
the same images, in alternating rounds; the ratio is taken in each round. Augmentation differs: ours does more.
On a CPU the processors' seconds an image are told as well: they say the same, and other programs disturb them less.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.breakhis import write_breakhis_pngs
from core.imaging import HEIGHT, WIDTH
from trainer.dataset.images import TrainingImages, load_dataset
from trainer.dataset.names import parse_name
from trainer.device import choose_device, computes_in_bf16
from trainer.fit import StepReport, fit
from trainer.network import Classifier
from trainer.recipe import RECIPES, Recipe


class PlainFolder(Dataset[tuple[Tensor, float]]):
    """Files that are opened, decoded and transformed one by one, each time."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._transform = transforms.Compose(
            [
                transforms.Resize((HEIGHT, WIDTH)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.ColorJitter(0.15, 0.2, 0.1, 0.02),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        with Image.open(self._paths[index]) as image:
            return self._transform(image.convert("RGB")).float(), float(parse_name(self._paths[index].name).label)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160, help="700x460 PNGs that a round trains on once")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch, and workers of the loader")
    parser.add_argument("--recipe", default="patient", help="whose stages are trained")
    arguments = parser.parse_args()
    recipe = replace(RECIPES[arguments.recipe].with_steps(arguments.images // arguments.batch), batch=arguments.batch)
    device = choose_device()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        paths = write_breakhis_pngs(scratch / "images", arguments.images)
        data = load_dataset(scratch / "images", scratch / "cache")
        images = data.training_images(np.arange(len(data)))
        loader = DataLoader(
            PlainFolder(paths), arguments.batch, shuffle=True, num_workers=arguments.threads, persistent_workers=True
        )
        _compare(loader, images, recipe, device, arguments.rounds)


def _compare(
    loader: DataLoader[tuple[Tensor, float]], images: TrainingImages, recipe: Recipe, device: torch.device, rounds: int
) -> None:
    plain, ours = PlainLoop(recipe, device), _network()
    plain.images_per_s(loader)  # the loader's processes start once, as in a long training
    speed_ratios, cpu_ratios = [], []
    for number in range(rounds):
        theirs, their_cpu_s = _with_cpu_s(lambda: plain.images_per_s(loader))
        mine, my_cpu_s = _with_cpu_s(lambda: _our_images_per_s(ours, images, recipe, device))
        speed_ratios.append(mine / theirs)
        cpu_ratios.append(their_cpu_s / my_cpu_s)
        cpu_ms = f"{their_cpu_s / len(images.labels) * 1e3:.0f} and {my_cpu_s / len(images.labels) * 1e3:.0f}"
        print(f"round {number + 1}: plain {theirs:.1f}, ours {mine:.1f} images/s; CPU {cpu_ms} ms an image", flush=True)
    precision = "bfloat16" if computes_in_bf16(recipe, device) else "float32"
    print(f"{device.type}, {torch.get_num_threads()} threads, ours in {precision}, recipe {recipe.name}")
    for name, ratios in (("speed", speed_ratios), ("CPU time", cpu_ratios)):
        print(f"{name}: {statistics.median(ratios):.2f} times (median of {min(ratios):.2f} to {max(ratios):.2f})")


def _with_cpu_s(measure: Callable[[], float]) -> tuple[float, float]:
    """Return what is measured, and the processors' seconds that this process and the loader's spent on it."""
    before = _cpu_s()
    return measure(), _cpu_s() - before


def _cpu_s() -> float:
    me = psutil.Process()
    return sum(process.cpu_times().user + process.cpu_times().system for process in (me, *me.children(recursive=True)))


class PlainLoop:
    """The reference: a network, its optimizer, and a loop over a loader."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._device = device
        self._network = _network().to(device)
        self._network.freeze_all_but(recipe.trained_stages)
        learning = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(learning, lr=1e-4)

    def images_per_s(self, loader: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Train for one pass over the loader."""
        self._network.train()
        seen, start = 0, time.perf_counter()
        for images_NCHW, targets_N in loader:
            logits_N = self._network(images_NCHW.to(self._device))
            loss = F.binary_cross_entropy_with_logits(logits_N, targets_N.to(self._device, torch.float32))
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            loss.item()  # as every loop that shows its loss
            seen += len(images_NCHW)
        return seen / (time.perf_counter() - start)


def _our_images_per_s(network: Classifier, images: TrainingImages, recipe: Recipe, device: torch.device) -> float:
    reports: list[StepReport] = []
    fit(network, images, recipe, 0, reports.append, device=device)
    return reports[-1].images_per_s


def _network() -> Classifier:
    """Speed does not ask what the weights are."""
    torch.manual_seed(0)
    return Classifier("v1")


if __name__ == "__main__":
    main()
