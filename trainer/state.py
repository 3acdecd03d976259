"""Everything that changes while a network is fitted: what a resumed fit needs to go on as if nothing had happened."""

import copy
import json
import math
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from trainer.average import WeightAverage, move_towards
from trainer.network import Network
from trainer.optimise import make_optimizer
from trainer.recipe import Recipe

_Network = TypeVar("_Network", bound=Network)


@dataclass(kw_only=True)
class Progress:
    """How far a fit is.

    Attributes:
        member: fits of the soup that are done.
        step: steps done in this member.
        epoch_loss, epoch_accuracy: sums over the steps of the epoch so far.
        best_loss: lowest loss of an epoch on the patients held back for the early stop.
        worse_epochs: epochs since then.
    """

    member: int = 0
    step: int = 0
    epoch_loss: float = 0.0
    epoch_accuracy: float = 0.0
    best_loss: float = math.inf
    worse_epochs: int = 0


class FitState(Generic[_Network]):
    """A network in training with its optimiser and averages; the chance of a step needs no state, see Batches.

    Attributes:
        network: what is trained.
        average: its exponential average, which is kept.
        optimizer: of the current member of the soup.
        progress: how far the fit is.
    """

    def __init__(self, network: _Network, recipe: Recipe) -> None:
        self.network = network
        self.progress = Progress()
        self._recipe = recipe
        self._start = copy.deepcopy(network.state_dict()) if recipe.soup > 1 else {}
        self._soup = copy.deepcopy(network) if recipe.soup > 1 else None
        self._best = copy.deepcopy(network) if recipe.early_stop else None
        self._begin()

    def _begin(self) -> None:
        self.optimizer = make_optimizer(self.network, self._recipe)
        self.average = WeightAverage(self.network, self._recipe.average_decay)

    def keep_best(self, loss: float) -> None:
        """Remember the average as it is now if its loss is the lowest so far."""
        if loss >= self.progress.best_loss or self._best is None:
            self.progress.worse_epochs += 1
            return
        self.progress.best_loss, self.progress.worse_epochs = loss, 0
        self._best.load_state_dict(self.average.network().state_dict())

    def end_member(self) -> None:
        """Take this member into the soup, and set out from the same start for the next one."""
        done = self.progress.member + 1
        if self._soup is not None:
            move_towards(self._soup.state_dict(), self._member().state_dict(), 1 / done)
        self.progress = Progress(member=done)
        if done < self._recipe.soup:
            self.network.load_state_dict(self._start)
            self._begin()

    def result(self) -> _Network:
        """Return the network that the whole fit made, ready to judge."""
        return self._member() if self._soup is None else self._soup.eval()

    def _member(self) -> _Network:
        return self.average.network() if self._best is None else self._best.eval()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, the optimiser's too."""
        named = {f"{part}.{key}": value for part, net in self._networks().items() for key, value in net.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{index}.{key}": value for key, value in values.items() if value is not None}
        return named

    def numbers(self) -> str:
        """Return the progress as JSON; floats survive to the last bit."""
        return json.dumps(asdict(self.progress))

    def restore(self, tensors: dict[str, Tensor], numbers: str) -> None:
        """Take over what tensors() and numbers() returned. The memory layout stays the one of the parameters."""
        self.progress = Progress(**json.loads(numbers))
        for part, named in self._networks().items():
            for key, value in named.items():
                value.copy_(tensors[f"{part}.{key}"])
        state = self.optimizer.state_dict()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name in (name for name in tensors if name.startswith("optimizer.")):
            _, index, key = name.split(".")
            state["state"].setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], tensors[name])
        self.optimizer.load_state_dict(state)

    def _networks(self) -> dict[str, dict[str, Tensor]]:
        networks = {"network": self.network, "average": self.average.network()}
        if self._soup is not None:
            networks["soup"] = self._soup
        if self._best is not None:
            networks["best"] = self._best
        return {part: network.state_dict() for part, network in networks.items()}


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a value with a parameter's memory layout, where it has its shape; counts of steps have not."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
