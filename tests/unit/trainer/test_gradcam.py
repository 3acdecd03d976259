"""Grad-CAM: the map lies where the logit comes from."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.gradcam import evidence_maps, overlay
from trainer.network import Classifier, Network

pytestmark = pytest.mark.trainer

HEIGHT, WIDTH = 96, 144


class _Brightness(Network):
    """Malignant is what is bright: one channel of averages over 16 x 16 pixels, and a head that sums them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.layer4 = nn.AvgPool2d(16)
        self.head = nn.Linear(3, 1)
        with torch.no_grad():
            self.head.weight.fill_(1.0)
            self.head.bias.fill_(-1.0)

    def forward(self, images_nchw: Tensor) -> Tensor:
        pooled = self.body.layer4(images_nchw / 255).mean(dim=(2, 3))
        return self.head(pooled).squeeze(1)


def _blob(top: int, left: int, size: int = 32) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[top : top + size, left : left + size] = 255
    return image


@pytest.mark.parametrize(("top", "left"), [(0, 0), (64, 0), (0, 112), (64, 112), (32, 48)])
def test_the_map_peaks_where_the_logit_comes_from(top: int, left: int) -> None:
    """The brightest place drives the logit, so the map is 1 there and nothing far away."""
    (evidence,) = evidence_maps(_Brightness(), _blob(top, left)[np.newaxis], np.array([1]))
    assert evidence.shape == (HEIGHT, WIDTH)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[top : top + 32, left : left + 32] = True
    assert evidence[inside].mean() > 0.7
    assert evidence.max() == pytest.approx(1)
    assert evidence[~inside].mean() < 0.1


def test_the_other_class_is_explained_by_the_other_sign() -> None:
    """Nothing in a bright blob speaks for benign: the map of that decision is empty, and finite."""
    (evidence,) = evidence_maps(_Brightness(), _blob(0, 0)[np.newaxis], np.array([0]))
    assert np.all(evidence == 0)


def test_each_image_has_its_own_map() -> None:
    """Images of one batch do not mix."""
    images = np.stack([_blob(0, 0), _blob(64, 112)])
    first, second = evidence_maps(_Brightness(), images, np.array([1, 1]))
    alone = evidence_maps(_Brightness(), images[1:], np.array([1]))[0]
    assert first[:32, :32].mean() > 0.7 > second[:32, :32].mean()
    assert np.array_equal(second, alone)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (32, 96)])
def test_the_shipped_architecture_is_explained_in_the_right_place(top: int, left: int) -> None:
    """With a head that asks for what a patch of noise adds to layer 4, the map lies on the patch."""
    torch.manual_seed(0)
    network = Classifier("v1").eval()
    plain = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    patched = plain.copy()
    patched[top : top + 48, left : left + 48] = np.random.default_rng(0).integers(0, 256, (48, 48, 3))
    with torch.no_grad():
        features = [
            network.body(network.normalise(torch.from_numpy(image[np.newaxis]).permute(0, 3, 1, 2).float()))
            for image in (plain, patched)
        ]
        direction = (features[1] - features[0]).squeeze(0)
        network.head = nn.Sequential(nn.Linear(len(direction), 1, bias=False))
        network.head[0].weight.copy_(direction / direction.norm())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    (evidence,) = evidence_maps(network, patched[np.newaxis], np.array([1]))
    peak = np.unravel_index(evidence.argmax(), evidence.shape)
    assert top <= peak[0] < top + 48
    assert left <= peak[1] < left + 48
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.body.layer4._forward_hooks


def test_a_network_without_the_stage_is_named() -> None:
    """Other systems have other stages."""
    network = _Brightness()
    network.body = nn.Module()
    with pytest.raises(TrainerError, match="layer4"):
        evidence_maps(network, _blob(0, 0)[np.newaxis], np.array([1]))


def test_an_overlay_changes_the_image_where_evidence_is() -> None:
    """Yellow on the peak, untouched tissue elsewhere."""
    image = np.full((4, 4, 3), 100, np.uint8)
    evidence = np.zeros((4, 4), np.float32)
    evidence[1, 2] = 1
    laid = overlay(image, evidence)
    assert laid[1, 2, 0] > 150 > laid[1, 2, 2]
    assert np.array_equal(np.delete(laid.reshape(16, 3), 6, axis=0), np.delete(image.reshape(16, 3), 6, axis=0))
