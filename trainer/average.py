"""The exponential average of a network's weights, which generalises better than the last step's."""

import copy

import torch

from trainer.network import Classifier


class WeightAverage:
    """Follows a network through its training.

    torch.optim.swa_utils has the same, but skips or blindly copies the statistics of BatchNorm; here they are
    averaged with the weights that they belong to.
    """

    def __init__(self, network: Classifier, decay: float) -> None:
        self._average = copy.deepcopy(network)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, network: Classifier) -> None:
        """Take in the weights after one step.

        The decay starts low, so that the average does not remember the untrained head.
        """
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 10))
        source = network.state_dict()
        for name, value in self._average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(source[name], 1 - decay)
            else:
                value.copy_(source[name])

    def network(self) -> Classifier:
        """Return the averaged network, ready to judge."""
        return self._average.eval()
