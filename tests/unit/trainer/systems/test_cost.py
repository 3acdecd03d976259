"""What a network costs."""

import pytest
from torch import Tensor, nn

from trainer.systems.base import System, Trunk, pooled
from trainer.systems.catalogue import SYSTEMS
from trainer.systems.cost import SPEED_BATCH, gmac_of, images_per_second, parameters_of, weightless
from trainer.systems.weights import WeightSource

pytestmark = pytest.mark.trainer


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        return images


def _tiny(*first: nn.Module) -> System:
    return System(Trunk({"one": nn.Sequential(*first, nn.Conv2d(3, 8, 1), pooled())}, 8), nn.Linear(8, 1))


def test_multiply_adds_are_those_counted_by_hand() -> None:
    """A convolution of 1x1 from 3 to 8 channels on 96x144 positions, and 8 products in the head."""
    network = _tiny()
    assert gmac_of(network) == pytest.approx((96 * 144 * 3 * 8 + 8) / 1e9)
    assert parameters_of(network) == 3 * 8 + 8 + 8 + 1


def test_resnet50_costs_what_is_known() -> None:
    """1.13 GMAC is 4.09 at 224x224 scaled by area; rounding up odd sizes in the last stage adds 2 %."""
    assert gmac_of(weightless(SYSTEMS["resnet50"])) == pytest.approx(1.13, rel=0.025)


def test_a_network_without_memory_costs_what_a_real_one_does() -> None:
    """So the time that is left is known before the first system is built."""
    entry = SYSTEMS["lenet5"]
    real, counted = entry.build(WeightSource()), weightless(entry)
    assert gmac_of(counted) == gmac_of(real) > 0
    assert parameters_of(counted) == parameters_of(real) > 0


def test_speed_is_measured_in_whole_batches() -> None:
    """At least three batches of 32 fields; images/s is positive."""
    counting = _Counting()
    assert images_per_second(_tiny(counting)) > 0
    assert len(counting.batches) >= 3
    assert set(counting.batches) == {(SPEED_BATCH, 3, 96, 144)}
