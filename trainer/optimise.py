"""What turns a loss into better weights: the loss itself, the optimiser, the rates."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from trainer.network import Network
from trainer.recipe import Recipe


def make_optimizer(network: Network, recipe: Recipe) -> Optimizer:
    """Make the recipe's optimiser over the head and every stage that is trained at any time.

    Stages that are released later have no gradient until then, so the optimiser leaves them alone.
    """
    network.freeze_all_but(recipe.trained_stages)
    groups = []
    for part, rate in ((network.body, recipe.learning_rate), (network.head, recipe.head_learning_rate)):
        learning = [p for p in part.parameters() if p.requires_grad]
        for decay, members in (
            (recipe.weight_decay, [p for p in learning if p.ndim > 1]),
            (0.0, [p for p in learning if p.ndim <= 1]),
        ):
            groups.append({"params": members, "peak": rate, "lr": rate, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "rmsprop":
        return RMSprop(groups, lr=recipe.learning_rate, alpha=0.9, eps=1e-7)
    return AdamW(groups)


def set_rates(optimizer: Optimizer, step: int, recipe: Recipe) -> None:
    """Give each group its rate for a step, counted from 1."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate_factor(step - 1, recipe)


def rate_factor(done: int, recipe: Recipe) -> float:
    """Return the share of the peak rate after so many steps: linear rise, then cosine fall to zero or constant."""
    if done < recipe.warmup_steps:
        return (done + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    progress = (done - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def loss_of(logits_N: Tensor, targets_N: Tensor, recipe: Recipe) -> Tensor:
    """Return the mean loss of a batch; targets are 0 benign, 1 malignant."""
    smoothed_N = targets_N * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
    if recipe.loss == "mse":
        return F.mse_loss(torch.sigmoid(logits_N), smoothed_N)
    return F.binary_cross_entropy_with_logits(logits_N, smoothed_N)


def accuracy_of(logits_N: Tensor, targets_N: Tensor) -> Tensor:
    """Return the share of a batch on the right side of one half."""
    return ((logits_N > 0) == (targets_N > 0.5)).float().mean()
