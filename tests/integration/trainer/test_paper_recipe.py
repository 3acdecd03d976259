"""The published experiment, which shares patients: every output says so."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from core.bundle import NOTICE
from tests.assets.training import same_tensors, train, write_images
from trainer.dataset.images import load_dataset
from trainer.dataset.splits import Fold
from trainer.errors import DatasetError
from trainer.network import read_tensors
from trainer.protocol import make_folds, require_named_sharing
from trainer.recipe import ALL_STAGES, RECIPES, SHARED_PATIENTS

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients of each class, each at 40X and 100X."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Four steps of the published recipe from scratch, and what the command said."""
    out = tmp_path_factory.mktemp("runs") / "paper"
    cache = tmp_path_factory.mktemp("cache")
    options = ("--recipe", "paper", "--from-scratch", "--steps", 4, "--batch", 4, "--cache", cache)
    done = train(images, *options, "--out", out)
    assert done.returncode == 0, done.stderr
    assert list(cache.iterdir()), "decoded images are kept where --cache says"
    return out, done.stdout + done.stderr


def test_every_output_says_that_patients_are_shared(run: tuple[Path, str]) -> None:
    """Console, protocol, metrics, configuration, tables and weights: none can be read without it."""
    out, said = run
    metrics, config = (json.loads((out / name).read_text()) for name in ("metrics.json", "config.json"))
    assert metrics["shares_patients"]
    assert config["shares_patients"]
    assert SHARED_PATIENTS in metrics["protocol"]
    assert NOTICE in said
    assert [SHARED_PATIENTS in line for line in said.splitlines() if line.startswith("accuracy ")] == [True]
    for name in ("oof.csv", "log.csv", "curves.csv"):
        with (out / name).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows, name
        assert {row["split"] for row in rows} == {SHARED_PATIENTS}, name
    for name in ("checkpoint.safetensors", "fold-0.safetensors"):
        with safe_open(out / name, framework="pt") as file:
            assert file.metadata()["note"] == SHARED_PATIENTS


def test_only_40x_is_judged(run: tuple[Path, str]) -> None:
    """One fold; the kept network is the judged one."""
    out, _ = run
    with (out / "oof.csv").open(newline="") as stream:
        assert {(row["magnification"], row["fold"]) for row in csv.DictReader(stream)} == {("40", "0")}
    kept, judged = (read_tensors(out / f"{name}.safetensors") for name in ("checkpoint", "fold-0"))
    assert same_tensors(kept, judged)
    assert not (out / "fold-1.safetensors").exists()


def test_from_scratch_trains_every_stage_and_says_so(run: tuple[Path, str]) -> None:
    """Random stages must not be frozen, and nobody shall take the result for transfer learning."""
    config = json.loads((run[0] / "config.json").read_text())
    assert config["from_scratch"]
    assert "from scratch" in config["weights"]
    assert tuple(config["recipe"]["trained_stages"]) == ALL_STAGES


def test_curves_show_train_and_test(run: tuple[Path, str]) -> None:
    """A row an epoch with loss and accuracy of both, as in the paper's figures."""
    with (run[0] / "curves.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["fit"], row["epoch"]) for row in rows] == [("0", str(epoch)) for epoch in (1, 2, 3, 4)]
    for row in rows:
        assert 0 <= float(row["train_loss"]) <= 1  # a squared error of probabilities
        assert 0 <= float(row["test_loss"]) <= 1
        assert 0 <= float(row["test_accuracy"]) <= 1


def test_sharing_patients_must_be_asked_for_by_name(images: Path) -> None:
    """Folds that share a patient are refused for a recipe that promises the contrary, and named."""
    data = load_dataset(images)
    fold = Fold(train=np.arange(4), judged=np.arange(3, 8))
    patient = RECIPES["patient"]
    shared = Fold(train=np.array([0, 2]), judged=np.array([1, 3]))  # 40X and 100X of one patient
    with pytest.raises(DatasetError, match=rf"fold 0 {SHARED_PATIENTS}.*'patient' does not ask for that"):
        require_named_sharing(data, patient, (shared,))
    require_named_sharing(data, replace(patient, split="magnification_40_shares_patients"), (shared, fold))


def test_the_published_split_has_no_folds_to_choose(images: Path) -> None:
    """An option that would be ignored is refused."""
    with pytest.raises(DatasetError, match="leave --folds out"):
        make_folds(load_dataset(images), RECIPES["paper"], 5, 0)
