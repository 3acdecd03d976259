"""The training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.batches import Batches
from trainer.dataset.images import TrainingImages
from trainer.device import choose_device, computes_in_bf16
from trainer.errors import DivergedError
from trainer.holdback import held_back_loss, hold_back
from trainer.network import Network
from trainer.optimise import accuracy_of, loss_of, set_rates
from trainer.parallel import ALONE, Ranks
from trainer.recipe import Recipe
from trainer.resume import Keeper
from trainer.state import FitState, Progress


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did; `accuracy` is that of the augmented batch before the step.

    Attributes:
        step, steps: counted over all fits of the soup.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float
    eta_s: float


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """The end of an epoch.

    Attributes:
        epoch: from 1, counted over all fits of the soup.
        loss, accuracy: means over the augmented batches of the epoch.
        network: the average as it is now, only to be looked at: nothing that follows depends on it.
    """

    epoch: int
    loss: float
    accuracy: float
    images_per_s: float
    network: Network


Listener = Callable[[StepReport], None]
EpochListener = Callable[[EpochReport], None]
_Network = TypeVar("_Network", bound=Network)


def ignore(report: StepReport | EpochReport) -> None:
    """Listen to nothing."""


def fit(
    network: _Network,
    images: TrainingImages,
    recipe: Recipe,
    seed: int,
    listener: Listener = ignore,
    *,
    on_epoch: EpochListener = ignore,
    keeper: Keeper | None = None,
    ranks: Ranks = ALONE,
    device: torch.device | None = None,
) -> _Network:
    """Train a network and return the average of its weights.

    Nothing is chosen by looking at other images than the given ones. So a fold that is judged afterwards played no
    part.

    Args:
        network: with the weights to start from; it is changed.
        images: to train on, all of them but those that the recipe's early stop holds back.
        recipe: decides everything but the seed.
        seed: of batches, augmentation and dropout. The same seed gives the same weights on one machine's CPU.
        listener: called after each step.
        on_epoch: called after each epoch.
        keeper: saves the state now and then, and gives it back to a resumed fit.
        ranks: the processes that train together.
        device: None takes a GPU where there is one.

    Raises:
        DivergedError: the loss is no finite number.
        StoppedError: a signal asked to stop.
        TrainerError: the processes cannot share a batch evenly.
    """
    ranks.require_even_shares(recipe.batch)
    device = device or choose_device(local_rank=ranks.local_rank)
    torch.backends.cudnn.benchmark = True  # every batch has one shape
    held = None
    if recipe.early_stop is not None:
        images, held = hold_back(images, recipe.early_stop, seed)
    state = FitState(network.to(device).to(memory_format=torch.channels_last), recipe)
    session = _Session(
        recipe=recipe,
        batches=Batches(images, recipe, seed, device, ranks),
        held=held,
        listener=listener,
        on_epoch=on_epoch,
        keeper=keeper,
        ranks=ranks,
        device=device,
        bf16=computes_in_bf16(recipe, device),
    )
    if keeper is not None:
        keeper.restore(state)
    while state.progress.member < recipe.soup:
        _train(state, session)
        state.end_member()
    return state.result()


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What a fit needs and does not change."""

    recipe: Recipe
    batches: Batches
    held: TrainingImages | None
    listener: Listener
    on_epoch: EpochListener
    keeper: Keeper | None
    ranks: Ranks
    device: torch.device
    bf16: bool


def _train(state: FitState[_Network], session: _Session) -> None:
    """Train one member of the soup, from where its state is to its last step."""
    recipe, progress, keeper = session.recipe, state.progress, session.keeper
    stages: tuple[str, ...] | None = None
    forward: nn.Module = state.network
    started, first = time.monotonic(), progress.step
    while progress.step < recipe.steps:
        progress.step += 1
        if recipe.stages_at(progress.step) != stages:
            stages, forward = recipe.stages_at(progress.step), state.network  # old hooks go before new ones come
            forward = _learning(state.network, stages, session.ranks)
        loss, accuracy, stop = _learn(state, forward, session)
        speed = (progress.step - first) * recipe.batch / (time.monotonic() - started)
        session.listener(_step_report(progress, recipe, loss, accuracy, speed))
        progress.epoch_loss += loss
        progress.epoch_accuracy += accuracy
        if progress.step % recipe.steps_per_epoch == 0 and _end_epoch(state, session, speed):
            return
        if keeper is not None:
            keeper.after_step(state, stop)


def _learn(state: FitState[_Network], forward: nn.Module, session: _Session) -> tuple[float, float, bool]:
    """Take one step; return its loss, its accuracy, and whether a process was asked to stop."""
    recipe, ranks, progress, network = session.recipe, session.ranks, state.progress, state.network
    images_NCHW, targets_N = session.batches.draw(progress.member, progress.step)
    with torch.autocast(session.device.type, torch.bfloat16, enabled=session.bf16):
        logits_N = forward(images_NCHW).float()
    loss = loss_of(logits_N, targets_N, recipe)
    asked = torch.tensor(float(session.keeper is not None and session.keeper.stop.received), device=session.device)
    seen_loss, accuracy, stop = ranks.mean(loss, accuracy_of(logits_N, targets_N), asked)
    if not math.isfinite(seen_loss):
        raise DivergedError(f"the loss is {seen_loss} at step {progress.step}: lower the learning rate")
    set_rates(state.optimizer, progress.step, recipe)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    state.optimizer.step()
    ranks.average_statistics(network)
    state.average.update(network, progress.step)
    return seen_loss, accuracy, stop > 0


def _learning(network: Network, stages: tuple[str, ...], ranks: Ranks) -> nn.Module:
    """Let these stages learn, and return what to call forward on."""
    network.freeze_all_but(stages)
    network.train()
    return ranks.wrap(network)


def _end_epoch(state: FitState[_Network], session: _Session, speed: float) -> bool:
    """Report an epoch, and tell whether the early stop ends the fit."""
    recipe, progress = session.recipe, state.progress
    network = state.average.network()
    session.on_epoch(
        EpochReport(
            epoch=(progress.member * recipe.steps + progress.step) // recipe.steps_per_epoch,
            loss=progress.epoch_loss / recipe.steps_per_epoch,
            accuracy=progress.epoch_accuracy / recipe.steps_per_epoch,
            images_per_s=speed,
            network=network,
        )
    )
    progress.epoch_loss = progress.epoch_accuracy = 0.0
    if session.held is None or recipe.early_stop is None:
        return False
    state.keep_best(*session.ranks.mean(held_back_loss(network, session.held, recipe, session.device)))
    return progress.worse_epochs >= recipe.early_stop.patience_epochs


def _step_report(progress: Progress, recipe: Recipe, loss: float, accuracy: float, speed: float) -> StepReport:
    step = progress.member * recipe.steps + progress.step
    return StepReport(
        step=step,
        steps=recipe.total_steps,
        loss=loss,
        accuracy=accuracy,
        images_per_s=speed,
        eta_s=(recipe.total_steps - step) * recipe.batch / speed,
    )


def predict(network: Network, pixels: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """Return probabilities of malignancy, float32 (N,), for RGB uint8 (N, 96, 144, 3), in full precision."""
    network.eval()
    device = next(network.parameters()).device
    probabilities = []
    # A GPU's convolutions would round to TF32 otherwise.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(pixels), batch):
            images_NHWC = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).to(device)
            probabilities.append(torch.sigmoid(network(images_NHWC.permute(0, 3, 1, 2).float())).cpu().numpy())
    return np.concatenate(probabilities)
