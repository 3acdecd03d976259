"""`histobatch compare`, as users type it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.comparing import compare
from core.bundle import NOTICE
from core.errors import HistobatchError
from tests.assets.programs import run_histobatch
from tests.conftest import SAMPLES

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]


def _compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_histobatch("compare", SAMPLES, *arguments, COLUMNS="80")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three light systems by the smoke recipe."""
    folder = tmp_path_factory.mktemp("compared")
    done = _compare("--out", str(folder), "--recipe", "smoke", "--systems", "lenet5, mobilenetv2,hybrid")
    assert done.returncode == 0, done.stderr
    for text in (NOTICE, "lenet5: random start", "LeNet-5", "MobileNetV2", "Hybrid CNN", "patients apart", "GMAC"):
        assert text in done.stdout
    return folder


def test_the_smoke_recipe_judges_one_fold(out: Path) -> None:
    """Every system has its row, and the protocol says how little was judged."""
    comparison = json.loads((out / "compare.json").read_text())
    assert [row["system"] for row in comparison["systems"]] == ["mobilenetv2", "lenet5", "hybrid"]
    assert (comparison["protocol"]["judged_folds"], comparison["protocol"]["folds"]) == (1, 5)
    assert {row["outcome"] for row in comparison["systems"]} == {"measured"}


def test_the_same_command_again_trains_nothing(out: Path) -> None:
    """A finished system is named as measured before, and its row stays."""
    before = (out / "compare.json").read_bytes()
    done = _compare("--out", str(out), "--recipe", "smoke", "--systems", "lenet5")
    assert done.returncode == 0, done.stderr
    assert "measured before" in done.stdout
    assert (out / "compare.json").read_bytes() == before


def test_bad_input_ends_with_one_line(refusal: Callable[..., str], tmp_path: Path) -> None:
    """The cause and the fix, and no folder left behind."""
    message = refusal("compare", SAMPLES, "--out", tmp_path / "new", "--systems", "lenet6")
    assert "no system 'lenet6': choose among resnet50" in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weights": ["vgg19"]}, "write NAME=FILE"),
        ({"weights": ["vgg19=a", "vgg19=b"]}, "names vgg19 twice"),
        ({"weights": ["hybrid=a.safetensors"]}, "no ImageNet weights are known for 'hybrid'"),
        ({"recipe": "quick"}, "no recipe 'quick'"),
        ({"device": "tpu"}, "no device 'tpu'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    """Before any image is read."""
    with pytest.raises(HistobatchError, match=sentence):
        compare(tmp_path / "nowhere", tmp_path / "out", **options)
