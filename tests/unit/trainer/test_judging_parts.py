"""Views, mistakes, acquaintance with patients, and the command that makes a run again."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from core.bundle import Bundle
from trainer.dataset.images import DataSet
from trainer.errors import RunError
from trainer.mistakes import worst_errors
from trainer.patients import TrainingPatients, acquaintance, patients_of_bundle, patients_of_run
from trainer.predictions import Predictions
from trainer.recipe import RECIPES
from trainer.reporting.command import reproduction_commands
from trainer.run import RunConfig
from trainer.views import classify_views

pytestmark = pytest.mark.trainer


def test_views_are_four_and_their_mean_is_of_logits() -> None:
    """A classifier that sees only one corner is asked for all four; the plain answer stays apart."""
    image = np.zeros((1, 4, 6, 3), np.uint8)
    for row, column, value in ((0, 0, 1), (0, 5, 2), (3, 0, 3), (3, 5, 4)):
        image[0, row, column] = value
    logits = {1: -2.0, 2: 0.0, 3: 1.0, 4: 5.0}
    seen = []

    def classify(pixels: np.ndarray) -> np.ndarray:
        assert pixels.flags.c_contiguous
        seen.append(int(pixels[0, 0, 0, 0]))
        return np.array([1 / (1 + np.exp(-logits[seen[-1]]))], np.float32)

    plain, views = classify_views(classify, image)
    assert sorted(seen) == [1, 2, 3, 4]
    assert plain[0] == pytest.approx(1 / (1 + np.exp(2.0)))
    assert views[0] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-5)


def test_the_surest_errors_come_first_and_once() -> None:
    """Right images are no errors; an image that two folds got wrong is listed once, with its worse probability."""
    predictions = Predictions(
        files=np.array([f"SOB_B_F-14-{n}-200-001.png" for n in (1, 2, 3, 1)]),
        labels=np.array([0, 0, 0, 0]),
        patients=np.array(["14-1", "14-2", "14-3", "14-1"]),
        magnifications=np.full(4, 200),
        folds=np.array([0, 0, 0, 1]),
        probabilities=np.array([0.7, 0.9, 0.2, 0.8], np.float32),
    )
    found = worst_errors(predictions, 0.5, 5)
    assert [(error.patient, round(error.probability, 3)) for error in found] == [("14-2", 0.9), ("14-1", 0.8)]
    for part in ("SOB_B_F-14-2-200-001.png", "fibroadenoma", "14-2", "200X", "called malignant", "0.900"):
        assert part in found[0].caption
    assert worst_errors(predictions, 0.5, 1) == found[:1]


def test_the_threshold_decides_what_is_far() -> None:
    """With a threshold of 0.9 a malignant image of 0.2 is a surer error than a benign one of 0.95."""
    predictions = Predictions(
        files=np.array(["SOB_B_F-14-1-200-001.png", "SOB_M_DC-14-2-200-001.png"]),
        labels=np.array([0, 1]),
        patients=np.array(["14-1", "14-2"]),
        magnifications=np.full(2, 200),
        folds=np.zeros(2, np.int64),
        probabilities=np.array([0.95, 0.2], np.float32),
    )
    assert [error.patient for error in worst_errors(predictions, 0.9, 2)] == ["14-2", "14-1"]


def _judged(*patients: str) -> DataSet:
    return cast(DataSet, SimpleNamespace(patients=np.array(patients), patient_count=len(set(patients))))


@pytest.mark.parametrize(
    ("names", "count", "brand"),
    [
        ({"a", "b"}, 2, ""),
        ({"a", "x"}, 2, "shares patients between train and test"),
        ({"a", "b"}, 3, "perhaps shares patients between train and test"),
    ],
)
def test_strangers_are_told_from_the_known(names: set[str], count: int, brand: str) -> None:
    """One shared patient is enough; where names were not kept, nobody can be shown to be a stranger."""
    known = acquaintance(_judged("x", "x", "y"), TrainingPatients(names=frozenset(names), count=count))
    assert known.brand == brand
    assert known.shared == bool(brand)
    assert known.judged == 2


def test_a_bundle_that_does_not_name_its_patients_is_refused(tmp_path: Path) -> None:
    """Then nobody could tell whether the judged ones are strangers."""
    bundle = cast(Bundle, SimpleNamespace(folder=tmp_path))
    with pytest.raises(RunError, match=r"training\.json does not name the patients"):
        patients_of_bundle(bundle)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "training.json").write_text('{"patients": 3, "judged_patients": [["a"], ["b", "a"]]}')
    assert patients_of_bundle(bundle) == TrainingPatients(names=frozenset("ab"), count=3)


def _config(**changes: object) -> RunConfig:
    values: dict[str, object] = {
        "data": "breakhis",
        "fingerprint": "f",
        "images": 3,
        "patients": 3,
        "weights": "resnet50.safetensors (from somewhere)",
        "weights_sha256": "a" * 64,
        "stride": "v1",
        "recipe": RECIPES["patient"].describe(),
        "folds": 5,
        "seed": 3,
        "judged_patients": [["a"], ["b", "c"]],
        "bf16": False,
        "torch": "2.15",
        "git_commit": "abc",
    }
    return RunConfig.model_validate(values | changes)


def test_a_runs_patients_are_those_that_its_folds_judged() -> None:
    """Each patient is judged by some fold, so the folds name them all."""
    assert patients_of_run(_config()) == TrainingPatients(names=frozenset("abc"), count=3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "--recipe patient --weights resnet50.safetensors --folds 5 --seed 3"),
        ({"weights": "torchvision's", "weights_sha256": ""}, "--recipe patient --folds 5 --seed 3"),
        ({"from_scratch": True, "weights_sha256": ""}, "--recipe patient --from-scratch --folds 5 --seed 3"),
        (
            {"recipe": RECIPES["paper"].describe(), "shares_patients": True},
            "--recipe paper --weights resnet50.safetensors --seed 3",
        ),
        (
            {"recipe": RECIPES["smoke"].with_steps(6).describe() | {"batch": 4}},
            "--recipe smoke --weights resnet50.safetensors --folds 5 --seed 3 --steps 6 --batch 4",
        ),
    ],
)
def test_the_command_makes_the_run_again(changes: dict[str, object], expected: str) -> None:
    """Only what differs from the recipe is said; images by placeholder; the paper's one split takes no --folds."""
    commands = reproduction_commands(_config(**changes))
    assert commands[0] == "git checkout abc"
    assert commands[1] == f"histobatch train PATH/TO/BREAKHIS --out RUN {expected}"
    assert not any("somebody" in command for command in commands)


def test_a_run_outside_a_checkout_names_no_commit() -> None:
    """An unknown commit cannot be checked out."""
    assert reproduction_commands(_config(git_commit="unknown"))[0].startswith("histobatch train")
