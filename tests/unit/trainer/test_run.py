"""Run folders, recipes and the gate before publishing."""

from pathlib import Path

import numpy as np
import pytest

from trainer.errors import RunError, TrainerError, VerificationError
from trainer.fit import rate_factor
from trainer.recipe import RECIPES, named_recipe
from trainer.run import RunFolder
from trainer.verify import compare, require_agreement

pytestmark = pytest.mark.trainer


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """A folder with a finished run is refused, an empty one is made."""
    run = RunFolder.create(tmp_path / "run")
    (run.path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="already holds a run"):
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
    with pytest.raises(TrainerError, match="patient, smoke"):
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
