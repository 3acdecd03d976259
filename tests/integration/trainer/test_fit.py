"""The training loop on real images, with the real network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SAMPLES
from trainer.dataset.images import TrainingImages, load_dataset
from trainer.errors import DivergedError
from trainer.fit import StepReport, fit, predict
from trainer.network import Classifier
from trainer.parallel import ALONE
from trainer.recipe import RECIPES
from trainer.resume import Keeper, StopRequest, saved_step

pytestmark = pytest.mark.trainer

# The stand-in for ImageNet weights is a random body: what is held here is the loop, not the skill.
RECIPE = replace(RECIPES["smoke"], precision="fp32")


@pytest.fixture(scope="module")
def images() -> TrainingImages:
    data = load_dataset(SAMPLES)
    return data.training_images(np.arange(len(data)))


def _network() -> Classifier:
    torch.manual_seed(0)
    return Classifier("v1")


def test_the_loss_goes_down(images: TrainingImages) -> None:
    """Ten steps on eight images are learnt: the last losses are clearly below the first."""
    reports: list[StepReport] = []
    still = replace(
        RECIPE.augmentation, zoom=(1.0, 1.0), turn_degrees=0, shift=0, stain=0, stain_offset=0, brightness=0, contrast=0
    )
    recipe = replace(RECIPE.with_steps(10), batch=8, warmup_steps=2, head_learning_rate=3e-3, augmentation=still)
    fit(_network(), images, recipe, 0, reports.append)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert [report.step for report in reports] == list(range(1, 11))
    assert reports[-1].eta_s == pytest.approx(0)
    assert reports[-1].images_per_s > 0


def test_a_seed_gives_the_same_weights(images: TrainingImages) -> None:
    """Two fits with one seed agree to the bit on one machine; another seed differs."""
    first, again, other = (
        fit(_network(), images, replace(RECIPE.with_steps(2), batch=4), seed).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_what_is_kept_is_the_average_of_the_weights(images: TrainingImages) -> None:
    """The returned network is not the last step's, and is set to judge, not to train."""
    network = _network()
    kept = fit(network, images, replace(RECIPE.with_steps(3), batch=4), 0)
    assert not torch.equal(kept.head[0].weight, network.head[0].weight)
    assert not kept.training


def test_training_stops_when_the_loss_is_no_number(images: TrainingImages) -> None:
    """Worthless weights are never returned; the message says what to change."""
    network = _network()
    with torch.no_grad():
        network.head[3].bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"step 1.*learning rate"):
        fit(network, images, replace(RECIPE.with_steps(2), batch=4), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_resumes_and_predicts_like_the_cpu(images: TrainingImages, tmp_path: Path) -> None:
    """The whole set, the augmentation and the state live on the GPU; a stopped fit goes on there."""
    recipe = replace(RECIPE.with_steps(4), batch=4)
    device, path = torch.device("cuda"), tmp_path / "state"
    keeper = Keeper(path=path, fit="0", plan="p", stop=StopRequest(), ranks=ALONE, every_steps=3)
    fit(_network(), images, recipe, 0, keeper=keeper, device=device)
    assert saved_step(path, recipe) == ("0", 3)
    reports: list[StepReport] = []
    resumed = fit(_network(), images, recipe, 0, reports.append, keeper=keeper, device=device)
    assert [report.step for report in reports] == [4]
    assert next(resumed.parameters()).device.type == "cuda"
    pixels = images.fields[:, ::2, ::2]
    on_gpu = predict(resumed, pixels)
    assert np.allclose(on_gpu, predict(resumed.cpu(), pixels), atol=1e-3)
