"""The network, its weights and its checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet50

from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.errors import WeightsError
from trainer.network import Classifier, Stride, build_network

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ResNet-50 weights in float16, as published ones come."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    state = resnet50(weights=None).state_dict()
    save_file({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize(("stride", "first", "second"), [("v1", (2, 2), (1, 1)), ("v1.5", (1, 1), (2, 2))])
def test_the_stride_sits_where_the_weights_expect_it(
    stride: Stride, first: tuple[int, int], second: tuple[int, int]
) -> None:
    """ResNet v1 halves in the first convolution of a stage, torchvision's v1.5 in the second."""
    body = Classifier(stride).body
    for stage in (body.layer2, body.layer3, body.layer4):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == (first, second)
    assert body.layer1[0].conv1.stride == body.layer1[0].conv2.stride == (1, 1)


def test_a_file_is_taken_for_v1_and_becomes_float32(weights: Path) -> None:
    """Weights of the paper's kind need no option, and training computes in full precision."""
    network = build_network(weights)
    assert network.stride == "v1"
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_head_is_the_papers() -> None:
    """FC 1024, ReLU, dropout 0.4, one unit: one logit an image."""
    network = Classifier("v1").eval()
    kinds = [type(layer).__name__ for layer in network.head]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]
    assert (network.head[0].out_features, network.head[2].p, network.head[3].out_features) == (1024, 0.4, 1)
    assert network(torch.zeros(3, 3, 96, 144)).shape == (3,)


def test_frozen_stages_neither_learn_nor_drift() -> None:
    """Neither weights nor BatchNorm statistics of a frozen stage change by training."""
    network = Classifier("v1")
    network.freeze_all_but(("layer4",))
    network.train()
    before = {key: value.clone() for key, value in network.body.state_dict().items()}
    network(torch.rand(4, 3, 96, 144) * 255).sum().backward()
    changed = {key for key, value in network.body.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("layer4.") for key in changed)
    assert network.body.layer3[0].conv1.weight.grad is None
    assert network.body.layer4[0].conv1.weight.grad is not None


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    """The message names the file and a tensor that does not fit; nothing is loaded in part."""
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors.*not a ResNet-50"):
        build_network(path)


@pytest.mark.parametrize("content", [None, b"", b"pickled nonsense"])
def test_unreadable_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """A missing or foreign file ends with its name."""
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        build_network(path)


@pytest.mark.parametrize("stride", ["v1", "v1.5"])
def test_a_checkpoint_gives_the_same_network_back(tmp_path: Path, stride: Stride) -> None:
    """Weights and stride survive; without the stride the same weights would mean another network."""
    torch.manual_seed(1)
    network = Classifier(stride).to(memory_format=torch.channels_last).eval()
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(network, path)
    restored = load_checkpoint(path)
    images = torch.rand(2, 3, 96, 144) * 255
    assert restored.stride == stride
    assert torch.allclose(restored(images), network(images), atol=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A failed save names the file and leaves nothing half-written."""
    path = tmp_path / "missing-folder" / "checkpoint.safetensors"
    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors"):
        save_checkpoint(Classifier("v1"), path)
    assert not path.parent.exists()


def test_weights_without_a_stride_are_no_checkpoint(weights: Path) -> None:
    """A file of ImageNet weights is not mistaken for a trained network."""
    with pytest.raises(WeightsError, match="train it again"):
        load_checkpoint(weights)
