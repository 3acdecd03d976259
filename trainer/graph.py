"""The one exported graph: uint8 pixels in, float32 probability out. ONNX is the truth that engines compile."""

from pathlib import Path
from typing import Literal, cast

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck

from core.imaging import HEIGHT, WIDTH
from trainer.errors import VerificationError
from trainer.network import Classifier

INPUT, OUTPUT = "images", "probability"
OPSET = 18

GraphPrecision = Literal["fp32", "fp16"]


class ServingGraph(nn.Module):
    """The network as engines see it: uint8 (N, 96, 144, 3) RGB to float32 (N,).

    The order matters: TensorRT takes uint8 only as a network input that is cast at once, so the cast comes before
    the transpose. Normalisation stays in float32, because float16 steps are coarse at 255; the sigmoid too, because
    float16 cannot tell probabilities above 0.9995 apart.
    """

    def __init__(self, network: Classifier, precision: GraphPrecision, temperature: float = 1.0) -> None:
        super().__init__()
        fused = fuse_batch_norm(network)
        _divide_logits(cast(nn.Linear, fused.head[-1]), temperature)
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.normalise = fused.normalise
        self.body = fused.body.to(self.dtype)
        self.head = fused.head.to(self.dtype)

    def forward(self, images_nhwc: Tensor) -> Tensor:
        """Return the probability of malignancy."""
        images_nchw = images_nhwc.to(torch.float32).permute(0, 3, 1, 2)
        features = self._features(self.normalise(images_nchw).to(self.dtype))
        return torch.sigmoid(cast(Tensor, self.head(features)).to(torch.float32)).squeeze(1)

    def _features(self, images: Tensor) -> Tensor:
        """Return pooled features (N, 2048).

        torchvision's own forward pools and flattens with operators whose export computes shapes at run time.
        """
        body = self.body
        images = body.maxpool(body.relu(body.conv1(images)))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            images = stage(images)
        return images.mean(dim=(2, 3))


def fuse_batch_norm(network: Classifier) -> Classifier:
    """Return a copy in which each BatchNorm is folded into its convolution, in float32 before any rounding."""
    copy = Classifier(network.stride)
    copy.load_state_dict(network.state_dict())
    copy.eval()
    body = copy.body
    body.conv1, body.bn1 = fuse_conv_bn_eval(body.conv1, body.bn1), nn.Identity()
    for block in (module for module in body.modules() if isinstance(module, Bottleneck)):
        for number in ("1", "2", "3"):
            convolution, norm = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
            setattr(block, f"conv{number}", fuse_conv_bn_eval(convolution, norm))
            setattr(block, f"bn{number}", nn.Identity())
        if block.downsample is not None:
            block.downsample = nn.Sequential(fuse_conv_bn_eval(block.downsample[0], block.downsample[1]))
    return copy


def _divide_logits(last: nn.Linear, temperature: float) -> None:
    """Divide what the last layer returns: the graph stays as large as it was, and rounding happens once."""
    with torch.no_grad():
        last.weight.div_(temperature)
        last.bias.div_(temperature)


def export_onnx(network: Classifier, path: Path, precision: GraphPrecision, temperature: float = 1.0) -> None:
    """Write the serving graph as ONNX with a dynamic number of images.

    Args:
        network: to write.
        path: of the ONNX file.
        precision: of weights and activations.
        temperature: that the logits are divided by, so that probabilities are calibrated.

    Raises:
        VerificationError: the graph written is not what engines expect.
    """
    graph = ServingGraph(network, precision, temperature).eval()
    example = torch.zeros((2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    program = torch.onnx.export(
        graph,
        (example,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes={"images_nhwc": {0: torch.export.Dim("n")}},
        verbose=False,
    )
    if program is None:
        raise VerificationError("torch.onnx.export returned no program")
    program.save(path, external_data=False)
    model = onnx.load(path)
    _strip_source_lines(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _strip_source_lines(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of its own stack traces: it holds paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
