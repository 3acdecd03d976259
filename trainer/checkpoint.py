"""A network's weights on disk: one safetensors file that says what network it holds."""

import os
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trainer.errors import WeightsError
from trainer.network import Classifier, Stride, load_state, read_tensors


def save_checkpoint(network: Classifier, path: Path) -> None:
    """Write the weights in one step: a crash leaves the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    state = {
        key: value.contiguous(memory_format=torch.contiguous_format) for key, value in network.state_dict().items()
    }
    try:
        save_file(state, temporary, metadata={"architecture": "resnet50-fc1024", "stride": network.stride})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(f"{path} cannot be written ({error}): is the disk full?") from error


def load_checkpoint(path: Path) -> Classifier:
    """Read a network back, with the stride that it was trained with.

    Raises:
        WeightsError: unreadable, or not written by save_checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stride = (file.metadata() or {}).get("stride")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint: {error}") from error
    if stride not in ("v1", "v1.5"):
        raise WeightsError(f"{path} does not say which kind of ResNet-50 it holds: train it again")
    network = Classifier(cast(Stride, stride))
    load_state(network, read_tensors(path), path)
    return network.eval()
