"""The commands, from a folder of images to a bundle that the worker's engine runs."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet50

from cli.training import export, require_trainer
from core.bundle import NOTICE, load_bundle
from core.errors import ConfigurationError
from tests.assets.programs import run_histobatch
from trainer.errors import RunError
from worker.engines.openvino import OpenVinoEngine

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]

PALE, DARK = (225, 190, 215), (110, 50, 120)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that a colour tells apart, so that seconds of training are enough: 3 patients of each class."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label, (kind, colour) in enumerate((("B_A", PALE), ("M_DC", DARK))):
        for patient in range(3):
            for number in range(2):
                noise = rng.normal(colour, 12, (192, 288, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(folder / f"SOB_{kind}-14-{label}{patient}-100-{number:03}.png")
    (folder / "SOB_B_A-14-77777-100-001.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose BatchNorm has seen data, as that of every published file has.

    Without it activations grow from block to block, and no quantisation could follow them.
    """
    torch.manual_seed(0)
    body = resnet50(weights=None)
    for module in body.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average over the batches below
    with torch.no_grad():
        for colour in (PALE, DARK):
            normalised = (torch.tensor(colour) - 128.0) / 58
            body.train()(normalised.view(1, 3, 1, 1) + 0.2 * torch.randn(8, 3, 96, 144))
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file(body.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(images: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, by the command that users type."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--recipe", "smoke", "--folds", "2", "--steps", "8", "--out", str(out), "--weights", str(weights)]
    done = run_histobatch("train", str(images), *options)
    assert done.returncode == 0, done.stderr
    assert "SOB_B_A-14-77777-100-001.png" in done.stderr
    return out


@pytest.fixture(scope="module")
def bundle_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported bundle."""
    models = tmp_path_factory.mktemp("models")
    done = run_histobatch("export", str(run), "--name", "test-model", "--version", "0.1.0", "--out", str(models))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in models.iterdir()] == ["test-model-0.1.0"]
    return models / "test-model-0.1.0"


def test_a_run_folder_holds_what_explains_it(run: Path) -> None:
    """Configuration, metrics with protocol, every out-of-fold probability, the weights and the log."""
    config, metrics = (json.loads((run / name).read_text()) for name in ("config.json", "metrics.json"))
    assert (config["images"], config["patients"], config["stride"], config["folds"]) == (12, 6, "v1", 2)
    assert "patients apart" in metrics["protocol"]
    with (run / "oof.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    folds_of: dict[str, set[str]] = {}
    for row in rows:
        folds_of.setdefault(row["patient"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_of.values())
    with (run / "log.csv").open() as stream:
        assert [row["fold"] for row in csv.DictReader(stream)] == ["0"] * 8 + ["1"] * 8 + ["all"] * 8
    assert (run / "checkpoint.safetensors").stat().st_size > 90_000_000


def test_the_int8_graph_runs_in_the_workers_engine(bundle_folder: Path) -> None:
    """The bundle verifies, and the engine that serves gives one probability an image."""
    engine = OpenVinoEngine(load_bundle(bundle_folder), "int8")
    pale, dark = (np.full((3, 96, 144, 3), colour, np.uint8) for colour in (PALE, DARK))
    probabilities = engine.classify(np.concatenate([pale, dark]))
    engine.close()
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (6,)
    assert probabilities[3:].min() > probabilities[:3].max()


def test_the_bundle_says_how_good_it_is_and_for_what(bundle_folder: Path) -> None:
    """Metrics carry their protocol, the card carries the notice and the attribution, no file a path of this machine."""
    manifest = load_bundle(bundle_folder).manifest
    assert "cross-validation with patients apart" in manifest.metrics[0].protocol
    assert not manifest.metrics[0].shares_patients
    card = (bundle_folder / "MODEL_CARD.md").read_text()
    assert NOTICE in card
    assert "Spanhol" in card
    assert "CC BY 4.0" in card
    for path in bundle_folder.rglob("*"):
        assert path.is_dir() or b"/pytest-of-" not in path.read_bytes()


def test_a_released_bundle_never_changes(run: Path, bundle_folder: Path) -> None:
    """The same name and version again is refused, and what is there stays."""
    before = (bundle_folder / "manifest.json").read_bytes()
    with pytest.raises(RunError, match="choose another --version"):
        export(run, version="0.1.0", name="test-model", out=bundle_folder.parent)
    assert (bundle_folder / "manifest.json").read_bytes() == before


def test_other_images_than_the_runs_are_refused(run: Path, images: Path, tmp_path: Path) -> None:
    """Calibrating and verifying on other images would prove nothing."""
    for name in ("SOB_B_A-14-00-100-000.png", "SOB_M_DC-14-10-100-000.png"):
        shutil.copy(images / name, tmp_path)
    with pytest.raises(RunError, match="fingerprint differs"):
        export(run, version="0.1.0", data=tmp_path, out=tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_run_that_shares_patients_is_not_released(run: Path, tmp_path: Path) -> None:
    """Its numbers say nothing about other patients, so there would be no honest card to write."""
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"shares_patients": True}))
    with pytest.raises(RunError, match=r"shares patients.*--recipe patient"):
        export(tmp_path, version="0.1.0", out=tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A light installation shows the commands; running one says what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match=r"needs torch.*histobatch\[trainer\]"):
        require_trainer()


def test_a_wrong_folder_ends_with_one_line(tmp_path: Path) -> None:
    """The cause and the fix, no traceback, no run folder left behind that looks finished."""
    done = run_histobatch("train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"))
    assert done.returncode != 0
    assert "is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "config.json").exists()
