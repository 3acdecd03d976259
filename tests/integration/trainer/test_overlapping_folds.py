"""The official folds judge some images several times and some never."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.assets.training import write_images
from trainer.checkpoint import save_checkpoint
from trainer.dataset.images import load_dataset
from trainer.dataset.protocols import FoldPlan
from trainer.dataset.splits import Fold
from trainer.fit import predict
from trainer.fits import FitRunner, planned_fits
from trainer.judge import judge_predictions
from trainer.network import Classifier
from trainer.parallel import ALONE
from trainer.plan import TrainingPlan
from trainer.protocol import describe_protocol
from trainer.recipe import RECIPES
from trainer.resume import StopRequest
from trainer.run import RunFolder

pytestmark = pytest.mark.trainer


def test_each_fold_keeps_what_it_said(tmp_path: Path) -> None:
    """One probability a fold and image, by that fold's network; the metrics are the mean over the folds."""
    images = tmp_path / "images"
    images.mkdir()
    data = load_dataset(write_images(images))  # rows 0 to 3 are benign, two a patient
    folds = (
        Fold(train=np.array([2, 3, 6, 7]), judged=np.array([0, 1, 4, 5])),
        Fold(train=np.array([2, 3, 4, 5]), judged=np.array([0, 1, 6, 7])),
    )
    plan = TrainingPlan(recipe=RECIPES["smoke"], from_scratch=True, device="cpu")
    run = RunFolder(tmp_path)
    networks = []
    for number in range(2):
        torch.manual_seed(number)
        networks.append(Classifier("v1").eval())
        save_checkpoint(networks[-1], run.fold_checkpoint(number))
    runner = FitRunner(data=data, plan=plan, run=run, digest="", stop=StopRequest(), ranks=ALONE)

    predictions = runner.judge_folds(planned_fits(data, plan, folds, run))

    assert predictions.overlap
    assert predictions.folds.tolist() == [0] * 4 + [1] * 4
    rows = np.concatenate([fold.judged for fold in folds])
    assert predictions.files.tolist() == [data.paths[row].name for row in rows]
    said = np.concatenate([predict(net, data.pixels[fold.judged]) for net, fold in zip(networks, folds, strict=True)])
    assert np.allclose(predictions.probabilities, said, atol=1e-6)
    metrics = judge_predictions(predictions, "p", shares_patients=False)
    by_fold = [metrics.by_fold[str(number)]["accuracy"] for number in range(2)]
    assert metrics.overall["accuracy"] == pytest.approx(np.mean(by_fold))
    text = describe_protocol(data, plan.recipe, FoldPlan(folds=folds, description="They overlap", partition=False), 0)
    assert "They overlap" in text
    assert "judged once" not in text
