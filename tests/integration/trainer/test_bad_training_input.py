"""Bad input to `histobatch train`: one line that names the cause and the fix, and nothing written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.assets.training import train, write_images

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients of each class."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def refused(refusal: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """What `histobatch train` says before it ends."""

    def train_smoke(*arguments: object) -> str:
        out = tmp_path / "run"
        message = refusal("train", *arguments, "--out", out, "--recipe", "smoke")
        assert not out.exists(), "nothing half-written"
        return message

    return train_smoke


def test_a_wrong_folder(tmp_path: Path) -> None:
    """As users see it: status 1 and one line, which names the folder and what it should hold."""
    done = train(tmp_path / "nowhere", "--out", tmp_path / "run", "--recipe", "smoke")
    assert done.returncode == 1, done.stdout
    assert "nowhere" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_images(tmp_path: Path, refused: Callable[..., str]) -> None:
    """An empty folder is no data set."""
    (tmp_path / "empty").mkdir()
    assert "no BreakHis image" in refused(tmp_path / "empty")


def test_one_class_only(tmp_path: Path, refused: Callable[..., str]) -> None:
    """Nothing can be learnt from malignant images alone."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_images(folder, kinds=("M_DC",))
    message = refused(folder)
    assert "only malignant" in message
    assert "both classes" in message


def test_too_few_patients_for_the_folds(images: Path, refused: Callable[..., str]) -> None:
    """Five folds need five patients of each class."""
    message = refused(images, "--from-scratch", "--folds", 5)
    assert "5 folds need 5 patients of each class" in message


def test_unreadable_weights(images: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """A pickle, a torn download or a text file: the file is named."""
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"pickled nonsense")
    message = refused(images, "--folds", 2, "--weights", weights)
    assert f"{weights} cannot be read as safetensors" in message


def test_weights_of_another_architecture(images: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Nothing is loaded in part."""
    weights = tmp_path / "vgg.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, weights)
    message = refused(images, "--folds", 2, "--weights", weights)
    assert f"{weights}: not a ResNet-50" in message


def test_weights_and_no_weights(images: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Two options that exclude each other are not resolved in silence."""
    message = refused(images, "--weights", tmp_path / "w.safetensors", "--from-scratch")
    assert "exclude each other" in message


def test_a_device_that_is_not_there(images: Path, refused: Callable[..., str]) -> None:
    """No silent fall back to the CPU."""
    message = refused(images, "--folds", 2, "--from-scratch", "--device", "cuda")
    assert "choose --device cpu" in message


def test_nothing_to_resume(images: Path, refused: Callable[..., str]) -> None:
    """--resume on a folder without a run is a mistake, not a new run."""
    assert "leave --resume out" in refused(images, "--resume")
