"""Averages of a network's weights, which generalise better than the last step's."""

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from trainer.network import Network

_Network = TypeVar("_Network", bound=Network)


class WeightAverage(Generic[_Network]):
    """The exponential average of a network's weights along its training.

    torch.optim.swa_utils has the same, but skips or blindly copies the statistics of BatchNorm; here they are
    averaged with the weights that they belong to.
    """

    def __init__(self, network: _Network, decay: float) -> None:
        self._average = copy.deepcopy(network)
        self._decay = decay

    def update(self, network: _Network, step: int) -> None:
        """Take in the weights after a step, counted from 1.

        The decay starts low, so that the average does not remember the untrained head.
        """
        move_towards(self._average.state_dict(), network.state_dict(), 1 - min(self._decay, step / (step + 10)))

    def network(self) -> _Network:
        """Return the averaged network, ready to judge."""
        return self._average.eval()


@torch.no_grad()
def move_towards(weights: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float) -> None:
    """Change weights in place to (1 - share) of themselves and `share` of others; counts are copied.

    With share 1/n for the n-th of some networks this keeps their plain mean.
    """
    for name, value in weights.items():
        if value.is_floating_point():
            value.lerp_(other[name], share)
        else:
            value.copy_(other[name])
