"""What a network costs: parameters, multiply-adds, images per second."""

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from core.imaging import HEIGHT, WIDTH
from trainer.network import Network
from trainer.systems.catalogue import SystemEntry
from trainer.systems.weights import WeightSource

SPEED_BATCH = 32
_LEAST_RUNS, _MOST_RUNS = 3, 15
_ENOUGH_S = 1.0


def parameters_of(network: Network) -> int:
    """Count the parameters of body and head."""
    return sum(parameter.numel() for parameter in network.parameters())


def gmac_of(network: Network) -> float:
    """Count the multiply-adds of one image of 144x96 in thousand millions: convolutions and matrices only."""
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, HEIGHT, WIDTH, device=device))
    return float(counter.get_total_flops()) / 2e9


def weightless(entry: SystemEntry) -> Network:
    """Build a system from a random start without memory for its weights, to count what it costs."""
    with torch.device("meta"):
        return entry.build(WeightSource())


def images_per_second(network: Network) -> float:
    """Measure inference in float32, batches of 32 from memory, where the network lies: the median of several runs.

    Three runs at least, and more for fast networks. The first is slower than the others; the median leaves it out.
    """
    device = next(network.parameters()).device
    network.eval()
    images_NCHW = torch.full((SPEED_BATCH, 3, HEIGHT, WIDTH), 128.0, device=device)
    images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
    seconds: list[float] = []
    with torch.inference_mode():
        while len(seconds) < _LEAST_RUNS or (sum(seconds) < _ENOUGH_S and len(seconds) < _MOST_RUNS):
            started = time.perf_counter()
            network(images_NCHW).cpu()  # waits for the device
            seconds.append(time.perf_counter() - started)
    return SPEED_BATCH / statistics.median(seconds)
