"""Where systems start from: a named file, torchvision, or at random, and always said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import MobileNet_V2_Weights, alexnet, googlenet, mobilenet_v2

from core.bundle import file_sha256
from trainer.errors import TrainerError, WeightsError
from trainer.systems.catalogue import SYSTEMS, chosen_systems
from trainer.systems.googlenet import TensorFlowScale
from trainer.systems.weights import RANDOM, WeightSource

pytestmark = pytest.mark.trainer


def _save(network: nn.Module, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as torchvision names them, with the classifier of 1000 classes."""
    torch.manual_seed(0)
    return _save(mobilenet_v2(weights=None), tmp_path_factory.mktemp("weights") / "mobilenet.safetensors")


def test_a_file_gives_the_body_its_weights(mobilenet_file: Path) -> None:
    """Body and file agree from the first convolution to the last, and the start names the file."""
    source = WeightSource({"mobilenetv2": mobilenet_file})
    body = SYSTEMS["mobilenetv2"].build(source).body
    torch.manual_seed(0)
    given = mobilenet_v2(weights=None).features
    assert torch.equal(body.stage1[0][0].weight, given[0][0].weight)
    assert torch.equal(body.stage5[0][4][0].weight, given[18][0].weight)
    assert body.pretrained
    assert SYSTEMS["mobilenetv2"].start(source) == "ImageNet, mobilenet.safetensors"
    assert SYSTEMS["mobilenetv2"].digest(source) == file_sha256(mobilenet_file)


def test_without_a_file_the_start_says_random() -> None:
    """Nothing is fetched and nothing is passed over in silence."""
    for entry in SYSTEMS.values():
        assert entry.start(WeightSource()) == RANDOM


def test_a_file_may_serve_one_network_of_the_combination(mobilenet_file: Path) -> None:
    """The start then names each member's own."""
    source = WeightSource({"mobilenetv2": mobilenet_file})
    entry = SYSTEMS["combination"]
    assert entry.start(source) == (
        "densenet201: random start; vgg19: random start; mobilenetv2: ImageNet, mobilenet.safetensors"
    )
    trunks = entry.build(source).body.trunks
    assert [trunks[name].pretrained for name in ("densenet201", "vgg19", "mobilenetv2")] == [False, False, True]


def test_the_weights_of_another_network_are_refused(mobilenet_file: Path) -> None:
    """The message names file, network and a tensor."""
    with pytest.raises(WeightsError, match=r"mobilenet\.safetensors: not the weights of alexnet.*e\.g\. "):
        SYSTEMS["alexnet"].build(WeightSource({"alexnet": mobilenet_file}))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    """A pickle, for instance, which could run code, is never opened as one."""
    path = tmp_path / "alexnet.pth"
    torch.save(alexnet(weights=None).features[0].state_dict(), path)
    with pytest.raises(WeightsError, match=r"alexnet\.pth cannot be read as safetensors"):
        SYSTEMS["alexnet"].build(WeightSource({"alexnet": path}))


def test_weights_for_a_system_without_any_are_refused(tmp_path: Path) -> None:
    """The message lists the networks that have some."""
    with pytest.raises(WeightsError, match=r"'lenet5'.*alexnet.*resnet50"):
        WeightSource({"lenet5": tmp_path / "lenet.safetensors"})


def test_a_hub_out_of_reach_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, --hub ends with a sentence that names --weights and the random start."""

    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    source = WeightSource(hub=True)
    assert SYSTEMS["mobilenetv2"].start(source) == f"ImageNet, torchvision {MobileNet_V2_Weights.IMAGENET1K_V2}"
    with pytest.raises(WeightsError, match=r"no route to host.*--weights mobilenetv2=FILE.*random start"):
        SYSTEMS["mobilenetv2"].build(source)


def test_googlenets_side_exits_are_left_in_the_file_and_its_input_is_rescaled(tmp_path: Path) -> None:
    """torchvision's weights expect -1..1; its own network and ours then say the same."""
    torch.manual_seed(0)
    whole = googlenet(weights=None, init_weights=True, transform_input=True).eval()
    source = WeightSource({"googlenet": _save(whole, tmp_path / "googlenet.safetensors")})
    system = SYSTEMS["googlenet"].build(source).eval()
    whole.fc = nn.Identity()
    images = torch.rand(2, 3, 96, 144) * 255
    with torch.inference_mode():
        normalised = system.normalise(images)
        assert torch.allclose(system.body(normalised), whole(normalised), atol=1e-4)
        assert torch.allclose(TensorFlowScale()(normalised), images / 127.5 - 1, atol=1e-3)


def test_an_unknown_system_is_answered_with_the_names() -> None:
    """A typing error costs no search."""
    with pytest.raises(TrainerError, match=r"no system 'resnet51'.*resnet50.*vgg19.*reshist152"):
        chosen_systems(("lenet5", "resnet51"))


def test_systems_come_in_the_tables_order() -> None:
    """However they were named; none named means all."""
    assert [entry.name for entry in chosen_systems(("lenet5", "resnet50"))] == ["resnet50", "lenet5"]
    assert chosen_systems(()) == tuple(SYSTEMS.values())
