"""A network's weights on disk: one safetensors file that says what network it holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.bundle import NOTICE
from trainer.errors import WeightsError
from trainer.network import Classifier, Stride, load_state, read_tensors


def save_checkpoint(network: Classifier, path: Path, note: str = "") -> None:
    """Write the weights in one step; a note, such as that patients are shared, goes into the metadata.

    Raises:
        WeightsError: the file cannot be written.
    """
    metadata = {"architecture": "resnet50-fc1024", "stride": network.stride, "notice": NOTICE}
    write_tensors(path, network.state_dict(), metadata | ({"note": note} if note else {}))


def load_checkpoint(path: Path) -> Classifier:
    """Read a network back, with the stride that it was trained with.

    Raises:
        WeightsError: unreadable, or not written by save_checkpoint.
    """
    stride = read_metadata(path).get("stride")
    if stride not in ("v1", "v1.5"):
        raise WeightsError(f"{path} does not say which kind of ResNet-50 it holds: train it again")
    network = Classifier(cast(Stride, stride))
    load_state(network, read_tensors(path), path)
    return network.eval()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file in one step: a crash leaves the old file or the new one, never half of one.

    Raises:
        WeightsError: the file cannot be written; an older one is as it was.
    """
    temporary = path.with_name(f".{path.name}.part")
    contiguous = {key: value.contiguous(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    try:
        save_file(contiguous, temporary, metadata=metadata)
        with temporary.open("rb+") as stream:
            os.fchmod(stream.fileno(), 0o644)  # safetensors makes files that nobody else may read
            os.fsync(stream.fileno())  # else the name may reach the disk before the content
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(f"{path} cannot be written ({error}): is the disk full?") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a safetensors file says about itself.

    Raises:
        WeightsError: missing or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint: {error}") from error
