"""The device that trains, and its precision."""

import torch

from trainer.errors import TrainerError
from trainer.recipe import Recipe


def choose_device(name: str | None = None, local_rank: int = 0) -> torch.device:
    """Return the named device; without a name a GPU where there is one, else the CPU.

    Args:
        name: "cpu", "cuda" or "cuda:1".
        local_rank: number of this process on its machine; each takes a GPU of its own.

    Raises:
        TrainerError: no such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
    except RuntimeError as error:
        raise TrainerError(f"no device {name!r}: --device takes cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise TrainerError(f"no training on {name!r}: --device takes cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainerError(f"no device {name!r}, torch sees {torch.cuda.device_count()} GPUs: choose --device cpu")
    return device


def computes_in_bf16(recipe: Recipe, device: torch.device | None = None) -> bool:
    """Tell whether bfloat16 is used; without the device's own instructions it would be slower."""
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if device is not None and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
