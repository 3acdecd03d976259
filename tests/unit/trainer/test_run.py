"""Run folders, recipes and the gate before publishing."""

from pathlib import Path

import numpy as np
import pytest

from trainer.errors import RunError, TrainerError, VerificationError
from trainer.optimise import rate_factor
from trainer.recipe import RECIPES, named_recipe
from trainer.run import RunConfig, RunFolder
from trainer.verify import compare, require_agreement

pytestmark = pytest.mark.trainer


CONFIG = RunConfig(
    data="images",
    fingerprint="f",
    images=2,
    patients=2,
    weights="w",
    weights_sha256="0",
    stride="v1",
    recipe=RECIPES["smoke"].describe(),
    folds=2,
    seed=0,
    judged_patients=[["a"], ["b"]],
    bf16=False,
    torch="2",
    git_commit="c",
)


def test_a_finished_run_is_never_overwritten(tmp_path: Path) -> None:
    """A folder with a finished run is refused, to begin and to resume; naming a new one writes nothing."""
    run = RunFolder.create(tmp_path / "run")
    assert not run.path.exists()
    with run.begun(CONFIG):
        run.finish(CONFIG)
    with pytest.raises(RunError, match=r"already holds a run.*--out"):
        RunFolder.create(run.path)
    with pytest.raises(RunError, match="is finished"):
        RunFolder.resume(run.path)
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_an_interrupted_run_is_resumed_only_when_asked(tmp_path: Path) -> None:
    """Beginning anew there would mix two runs; the message says how to go on. Without a run there is none to resume."""
    with pytest.raises(RunError, match="leave --resume out"):
        RunFolder.resume(tmp_path / "run")
    run = RunFolder.create(tmp_path / "run")
    with run.begun(CONFIG):
        pass
    with pytest.raises(RunError, match=r"interrupted.*--resume"):
        RunFolder.create(run.path)
    assert RunFolder.resume(run.path) == run


def test_a_resumed_run_must_be_the_same(tmp_path: Path) -> None:
    """Each difference that changes the outcome is named with both values; where the images lie does not matter."""
    run = RunFolder(tmp_path)
    with run.begun(CONFIG):
        pass
    with run.begun(CONFIG.model_copy(update={"data": "elsewhere", "git_commit": "d"})):
        pass
    other = CONFIG.model_copy(update={"seed": 1, "recipe": {**CONFIG.recipe, "batch": 16}})
    with pytest.raises(RunError, match=r"recipe\.batch was 8, is 16; seed was 0, is 1"), run.begun(other):
        pass
    assert CONFIG.digest() != other.digest()


def test_two_processes_never_train_in_one_folder(tmp_path: Path) -> None:
    """The second one is refused while the first goes on, and may come afterwards."""
    run = RunFolder(tmp_path)
    with run.begun(CONFIG), pytest.raises(RunError, match="another process"), run.begun(CONFIG):
        pass
    with run.begun(CONFIG):
        pass


def test_weights_of_an_unknown_run_are_not_taken_for_finished_folds(tmp_path: Path) -> None:
    """Who removes config.json alone would otherwise get the old folds judged under the new recipe."""
    (tmp_path / "fold-0.safetensors").write_bytes(b"old")
    with pytest.raises(RunError, match="unknown run"):
        RunFolder.create(tmp_path)


def test_a_folder_is_not_made_where_a_file_is(tmp_path: Path) -> None:
    """The file stays and is named."""
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "run")


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    """Without config.json the run did not end; with a damaged one the file is named."""
    run = RunFolder(tmp_path)
    with pytest.raises(RunError, match="did the training end"):
        run.read_config()
    (tmp_path / "metrics.json").write_text('{"protocol": 3}')
    with pytest.raises(RunError, match=r"metrics\.json is malformed"):
        run.read_metrics()


def test_an_unknown_recipe_names_the_known_ones() -> None:
    """A typing error ends with the list of recipes."""
    with pytest.raises(TrainerError, match="paper, patient, smoke"):
        named_recipe("pateint")


def test_the_rate_rises_then_falls_to_zero() -> None:
    """Linear warm-up to the peak, cosine down to nothing, never above the peak."""
    recipe = RECIPES["patient"]
    rates = [rate_factor(step, recipe) for step in range(recipe.steps + 1)]
    assert rates[recipe.warmup_steps] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert max(rates) <= 1.0
    assert rates[0] == pytest.approx(1 / recipe.warmup_steps)
    assert np.all(np.diff(rates[recipe.warmup_steps :]) <= 0)


def test_agreement_counts_labels_and_distances() -> None:
    """One of four images crosses the threshold, the farthest moves by 0.2."""
    expected, actual = np.array([0.1, 0.45, 0.6, 0.9], np.float32), np.array([0.1, 0.55, 0.8, 0.9], np.float32)
    agreement = compare("a graph", expected, actual, 0.5)
    assert agreement.label_agreement == pytest.approx(0.75)
    assert agreement.largest_difference == pytest.approx(0.2, abs=1e-6)


def test_a_graph_that_strays_is_not_published() -> None:
    """Too few equal labels or too large a step both stop it, and the message holds the numbers."""
    few_labels = compare("model.onnx", np.array([0.49]), np.array([0.51]), 0.5)
    with pytest.raises(VerificationError, match=r"model\.onnx.*0\.00%"):
        require_agreement(few_labels, min_agreement=0.9)
    far = compare("model.onnx", np.array([0.6]), np.array([0.9]), 0.5)
    with pytest.raises(VerificationError, match=r"0\.300"):
        require_agreement(far, min_agreement=0.9, max_difference=0.1)
