"""The training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.augment import augment
from trainer.average import WeightAverage
from trainer.dataset import TrainingImages
from trainer.errors import DivergedError
from trainer.network import Classifier
from trainer.recipe import Recipe
from trainer.sampling import sampling_weights


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did; `accuracy` is that of the augmented batch before the step."""

    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float
    eta_s: float


Listener = Callable[[StepReport], None]


def fit(
    network: Classifier,
    images: TrainingImages,
    recipe: Recipe,
    seed: int,
    listener: Listener = lambda report: None,
) -> Classifier:
    """Train a network for a fixed number of steps and return the average of its weights.

    Nothing is chosen by looking at other images: no early stop, no best epoch. So a fold that is judged
    afterwards played no part.

    Args:
        network: with the weights to start from; it is changed.
        images: to train on, all of them.
        recipe: decides everything but the seed.
        seed: of batches, augmentation and dropout. The same seed gives the same weights on one machine.
        listener: called after each step.

    Raises:
        DivergedError: the loss is no finite number.
    """
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    images_NCHW = torch.from_numpy(images.fields).permute(0, 3, 1, 2)
    targets_N = torch.from_numpy(images.labels).float()
    weights_N = torch.from_numpy(sampling_weights(images.labels, images.patients, recipe.patient_power))
    network.freeze_all_but(recipe.trained_stages)
    network.to(memory_format=torch.channels_last).train()
    average = WeightAverage(network, recipe.average_decay)
    optimizer = _optimizer(network, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, recipe))
    bf16 = computes_in_bf16(recipe)
    started = time.monotonic()
    for step in range(1, recipe.steps + 1):
        rows = torch.multinomial(weights_N, recipe.batch, replacement=True, generator=chance)
        batch_NCHW = augment(images_NCHW[rows].float(), recipe.augmentation, chance)
        target_N = targets_N[rows]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits_N = network(batch_NCHW.contiguous(memory_format=torch.channels_last)).float()
        loss = _loss(logits_N, target_N, recipe.label_smoothing)
        if not math.isfinite(loss.item()):
            raise DivergedError(f"the loss is {loss.item()} at step {step}: lower the learning rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        average.update(network)
        speed = step * recipe.batch / (time.monotonic() - started)
        listener(
            StepReport(
                step=step,
                steps=recipe.steps,
                loss=loss.item(),
                accuracy=((logits_N > 0) == (target_N > 0.5)).float().mean().item(),
                images_per_s=speed,
                eta_s=(recipe.steps - step) * recipe.batch / speed,
            )
        )
    return average.network()


def predict(network: Classifier, pixels: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """Return probabilities of malignancy, float32 (N,), for RGB uint8 (N, 96, 144, 3), in full precision."""
    network.eval()
    probabilities = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            images_NCHW = torch.from_numpy(pixels[start : start + batch]).permute(0, 3, 1, 2).float()
            probabilities.append(torch.sigmoid(network(images_NCHW)).numpy())
    return np.concatenate(probabilities)


def rate_factor(step: int, recipe: Recipe) -> float:
    """Return the share of the peak learning rate at a step: linear rise, cosine fall to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def computes_in_bf16(recipe: Recipe) -> bool:
    """Tell whether bfloat16 is used; without the processor's own instructions it would be slower."""
    if recipe.precision == "auto":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return recipe.precision == "bf16"


def _optimizer(network: Classifier, recipe: Recipe) -> torch.optim.AdamW:
    groups = []
    for part, rate in ((network.body, recipe.learning_rate), (network.head, recipe.head_learning_rate)):
        learning = [p for p in part.parameters() if p.requires_grad]
        for decay, members in (
            (recipe.weight_decay, [p for p in learning if p.ndim > 1]),
            (0.0, [p for p in learning if p.ndim <= 1]),
        ):
            groups.append({"params": members, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups)


def _loss(logits_N: Tensor, target_N: Tensor, smoothing: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits_N, target_N * (1 - smoothing) + smoothing / 2)
