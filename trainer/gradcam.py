"""Where in a field a network looks: Grad-CAM (Selvaraju et al., ICCV 2017) on the last stage of the body."""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.network import Network

STAGE = "layer4"
# A map below this share of its own maximum is left as tissue, so that the picture stays readable.
_FAINT = 0.25
_STRENGTH = 0.55


def evidence_maps(network: Network, pixels: NDArray[np.uint8], decided: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what spoke for the decided class, float32 (N, height, width) of 0..1, each with its maximum at 1.

    A map of the last stage has 3 x 5 places, so it tells regions, not nuclei. Where nothing spoke for the class, the
    map is 0 everywhere.

    Args:
        network: with a body that has `layer4`; it is set to judge, and its weights stay as they are.
        pixels: RGB uint8 (N, height, width, 3).
        decided: int64 (N,), the class to explain: malignant 1 explains the logit, benign 0 its opposite.

    Raises:
        TrainerError: the network's body has no such stage.
    """
    stage = getattr(network.body, STAGE, None)
    if not isinstance(stage, nn.Module):
        raise TrainerError(f"Grad-CAM needs a body with a stage {STAGE}: explain a ResNet, as `train` makes them")
    network.eval()
    device = next(network.parameters()).device
    images_NCHW = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float()
    signs_N = torch.from_numpy(2 * decided - 1).to(device)
    held: list[Tensor] = []

    def hold(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Let gradients start here, so that nothing before the stage is kept for them."""
        held.append(output.detach().requires_grad_(True))
        return held[0]

    hook = stage.register_forward_hook(hold)
    try:
        with torch.enable_grad():
            logits_N = network(images_NCHW)
            (gradients_NCHW,) = torch.autograd.grad((logits_N * signs_N).sum(), held[0])
    finally:
        hook.remove()
    return _maps(held[0].detach(), gradients_NCHW, pixels.shape[1:3])


def _maps(activations_NCHW: Tensor, gradients_NCHW: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    weights_NC11 = gradients_NCHW.mean(dim=(2, 3), keepdim=True)
    coarse_N1HW = F.relu((weights_NC11 * activations_NCHW).sum(dim=1, keepdim=True)).float()
    fine_NHW = F.interpolate(coarse_N1HW, size=size, mode="bilinear", align_corners=False).squeeze(1)
    peaks_N11 = fine_NHW.amax(dim=(1, 2), keepdim=True)
    return cast("NDArray[np.float32]", (fine_NHW / peaks_N11.clamp(min=1e-12)).cpu().numpy())


def overlay(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a map (height, width) over an image (height, width, 3), both uint8 RGB: the more evidence, the yellower.

    Stained tissue is pink and violet, so that neither of the usual maps' reds and blues would stand out from it.
    """
    share = np.clip((evidence - _FAINT) / (1 - _FAINT), 0, 1)[..., np.newaxis] * _STRENGTH
    yellow = np.array([255, 230, 0], np.float32)
    laid: NDArray[np.uint8] = np.round(image * (1 - share) + yellow * share).astype(np.uint8)
    return laid
