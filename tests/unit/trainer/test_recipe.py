"""Recipes: what they say is what the loop does."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from torch.optim import SGD, AdamW, RMSprop

from tests.assets.training import TINY_RECIPE, TinyNetwork, same_tensors, tiny_images
from trainer.dataset.images import TrainingImages
from trainer.errors import DatasetError, DivergedError
from trainer.fit import EpochReport, StepReport, fit
from trainer.holdback import hold_back
from trainer.optimise import loss_of, make_optimizer, rate_factor, set_rates
from trainer.recipe import ALL_STAGES, RECIPES, EarlyStop
from trainer.sampling import sampling_weights

pytestmark = pytest.mark.trainer

RECIPE = TINY_RECIPE


def test_the_papers_recipe_is_as_published() -> None:
    """Mean squared error, RMSprop, 200 epochs of 200 steps of 32 images, all trained, 40X kept for the test."""
    paper = RECIPES["paper"]
    assert (paper.loss, paper.optimizer, paper.epochs, paper.steps_per_epoch, paper.batch) == (
        "mse",
        "rmsprop",
        200,
        200,
        32,
    )
    assert (paper.steps, paper.trained_stages) == (40_000, ALL_STAGES)
    assert paper.split == "magnification_40_shares_patients"
    assert [recipe.name for recipe in RECIPES.values() if recipe.shares_patients] == ["paper"]


def test_a_recipe_never_changes() -> None:
    """What a run says of its recipe holds for all of its fits."""
    with pytest.raises(FrozenInstanceError):
        RECIPES["patient"].batch = 1  # type: ignore[misc]


@pytest.mark.parametrize(("steps", "epochs"), [(8, 4), (60, 20), (7, 1), (1, 1)])
def test_other_steps_make_whole_epochs(steps: int, epochs: int) -> None:
    """The product is always what was asked for."""
    changed = replace(RECIPE, epochs=20).with_steps(steps)
    assert (changed.epochs, changed.steps) == (epochs, steps)


def test_the_losses_are_the_published_formulas() -> None:
    """Mean squared error stands on the sigmoid, cross entropy on smoothed targets."""
    logits, targets = torch.tensor([0.3, -1.2]), torch.tensor([1.0, 0.0])
    p = 1 / (1 + np.exp(-logits.numpy()))
    mse = loss_of(logits, targets, replace(RECIPE, loss="mse", label_smoothing=0.0))
    assert mse.item() == pytest.approx(((1 - p[0]) ** 2 + p[1] ** 2) / 2)
    bce = loss_of(logits, targets, replace(RECIPE, label_smoothing=0.2))
    y = np.array([0.9, 0.1])
    assert bce.item() == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("sgd", SGD), ("rmsprop", RMSprop)])
def test_the_optimizer_is_the_named_one(name: str, kind: type[torch.optim.Optimizer]) -> None:
    """Head and body have their own rates, and only matrices decay."""
    recipe = replace(RECIPE, optimizer=name, learning_rate=0.1, head_learning_rate=0.2, weight_decay=0.3)
    optimizer = make_optimizer(TinyNetwork(), recipe)
    assert type(optimizer) is kind
    set_rates(optimizer, recipe.warmup_steps + 1, recipe)
    seen = [(g["lr"], g["weight_decay"], {p.ndim > 1 for p in g["params"]}) for g in optimizer.param_groups]
    assert seen == [(0.1, 0.3, {True}), (0.1, 0.0, {False}), (0.2, 0.3, {True}), (0.2, 0.0, {False})]


def test_a_constant_schedule_stays_at_its_peak() -> None:
    """The paper names no decay of the rate."""
    assert {rate_factor(step, RECIPES["paper"]) for step in (0, 100, 39_999)} == {1.0}


def test_a_stage_is_frozen_until_it_is_released() -> None:
    """Weights and BatchNorm of the late stage stay put for three steps and move in the fourth."""
    network = TinyNetwork()
    before = {key: value.clone() for key, value in network.body.layer4.state_dict().items()}
    still: list[bool] = []
    recipe = replace(RECIPE, release=((3, "layer4"),))
    assert (recipe.stages_at(3), recipe.stages_at(4)) == (("layer3",), ("layer3", "layer4"))
    fit(
        network,
        tiny_images(),
        recipe,
        0,
        lambda _: still.append(same_tensors(network.body.layer4.state_dict(), before)),
    )
    assert still == [True] * 3 + [False] * 9


def test_a_soup_is_the_mean_of_its_fits() -> None:
    """Both fits start from the same weights, differ in their batches, and their averages are averaged."""
    ends: list[dict[str, torch.Tensor]] = []

    def listen(report: EpochReport) -> None:
        if report.epoch in (3, 6):
            ends.append({key: value.clone() for key, value in report.network.state_dict().items()})

    soup = fit(TinyNetwork(), tiny_images(), replace(RECIPE, soup=2), 0, on_epoch=listen).state_dict()
    alone = fit(TinyNetwork(), tiny_images(), RECIPE, 0).state_dict()
    assert same_tensors(ends[0], alone)
    assert not same_tensors(ends[0], ends[1])
    for key, value in soup.items():
        if value.is_floating_point():
            assert torch.allclose(value, (ends[0][key] + ends[1][key]) / 2, atol=1e-6)


def test_an_early_stop_keeps_the_best_epoch_and_ends() -> None:
    """A rate that ruins the network ends the fit long before its last step, with the weights from before."""
    recipe = replace(RECIPE, epochs=50, early_stop=EarlyStop(patience_epochs=2), average_decay=0.0, clip_norm=None)
    recipe = replace(recipe, optimizer="sgd", head_learning_rate=30.0, learning_rate=1e-6, warmup_steps=100)
    epochs: list[dict[str, torch.Tensor]] = []
    steps: list[StepReport] = []
    kept = fit(
        TinyNetwork(),
        tiny_images(),
        recipe,
        0,
        steps.append,
        on_epoch=lambda e: epochs.append({key: value.clone() for key, value in e.network.state_dict().items()}),
    )
    assert len(steps) < recipe.steps
    assert len(epochs) * recipe.steps_per_epoch == len(steps)
    assert same_tensors(kept.state_dict(), epochs[-3])


def test_patients_are_held_back_whole_and_of_both_classes() -> None:
    """No patient stands on both sides, and the loss of one class alone would say little."""
    trained, held = hold_back(tiny_images(4), EarlyStop(patient_share=0.25), seed=0)
    assert not set(trained.patients) & set(held.patients)
    assert sorted(held.labels) == [0, 0, 1, 1]
    assert len(trained.labels) + len(held.labels) == 16
    assert len(trained.fields) == len(trained.labels)


def test_a_class_of_one_patient_has_none_to_hold_back() -> None:
    """The message says what to do instead."""
    with pytest.raises(DatasetError, match=r"benign.*without one"):
        hold_back(tiny_images(1), EarlyStop(), seed=0)


def test_classes_are_drawn_evenly_only_if_asked() -> None:
    """The paper's generator draws images as they come: three malignant ones to each benign."""
    labels, patients = np.array([0, 1, 1, 1]), np.array(["a", "b", "b", "c"])
    even = sampling_weights(labels, patients, 1.0)
    as_they_come = sampling_weights(labels, patients, 1.0, balance_classes=False)
    assert even.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert as_they_come.tolist() == pytest.approx([1 / 4] * 4)


def test_a_loss_that_is_no_number_is_never_learnt_from() -> None:
    """The weights are as they were, and the message says what to change."""
    images = tiny_images()
    network = TinyNetwork()
    with torch.no_grad():
        network.head[1].bias.fill_(float("inf"))
    before = {key: value.clone() for key, value in network.state_dict().items() if "head" in key}
    with pytest.raises(DivergedError, match=r"step 1.*learning rate"):
        fit(network, TrainingImages(fields=images.fields, labels=images.labels, patients=images.patients), RECIPE, 0)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
