"""A finished run without a training: random networks, their true predictions, and images that a colour tells apart."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.checkpoint import save_checkpoint
from trainer.dataset.images import DataSet, load_dataset
from trainer.fit import predict
from trainer.judge import judge_predictions, predictions_of
from trainer.network import Classifier
from trainer.predictions import write_predictions
from trainer.recipe import RECIPES
from trainer.run import RunConfig, RunFolder, write_csv, write_json

PALE, DARK = (225, 190, 215), (110, 50, 120)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CURVES = ("fit", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_s")


def write_images(folder: Path, first_patient: int, patients: int = 3) -> DataSet:
    """Write two images of each patient, half of the patients of each class; one field is brighter than the next."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(first_patient)
    for label, (kind, colour) in enumerate((("B_A", PALE), ("M_DC", DARK))):
        for patient in range(first_patient, first_patient + patients):
            for number, magnification in enumerate((100, 400)):
                noise = rng.normal(np.array(colour) + 25 * (patient % 3), 12, (192, 288, 3)).clip(0, 255)
                name = f"SOB_{kind}-14-{label}{patient:02}-{magnification}-{number:03}.png"
                Image.fromarray(noise.astype(np.uint8)).save(folder / name)
    return load_dataset(folder)


def write_run(folder: Path, data: DataSet, source: Path, *, shares_patients: bool = False) -> RunFolder:
    """Write what `histobatch train` leaves behind, for two folds of random networks."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    names = sorted(set(data.patients.tolist()))
    folds = np.array([names.index(patient) % 2 for patient in data.patients], np.int64)
    probabilities = np.zeros(len(data), np.float32)
    for fold in (0, 1):
        network = random_network(fold)
        judged = folds == fold
        probabilities[judged] = predict(network, data.pixels[judged])
        save_checkpoint(network, run.fold_checkpoint(fold))
    run.checkpoint.hardlink_to(run.fold_checkpoint(0))
    predictions = predictions_of(data, probabilities, folds)
    write_predictions(folder / "oof.csv", predictions)
    write_csv(folder / "log.csv", ("fold", "step", "loss", "accuracy", "images_per_s"), [(0, 1, 0.7, 0.5, 10)])
    rows = [(fit, epoch, 0.7 / epoch, 0.6, 0.8 / epoch, 0.55, 40) for fit in (0, 1) for epoch in (1, 2, 3)]
    write_csv(folder / "curves.csv", CURVES, [*rows, *(("all", epoch, 0.7, 0.6, "", "", 40) for epoch in (1, 2, 3))])
    run.write_metrics(judge_predictions(predictions, "Two random networks.", shares_patients=shares_patients))
    write_json(folder / "config.json", _config(data, source, folds, shares_patients).model_dump(mode="json"))
    return run


def random_network(seed: int) -> Classifier:
    """Build a network whose probabilities differ from image to image."""
    torch.manual_seed(seed)
    network = Classifier("v1")
    network.freeze_all_but(("bn1", "layer1", "layer2", "layer3", "layer4"))
    with torch.no_grad():
        for _ in range(2):  # BatchNorm sees some data, as that of every trained network has
            network.train()(torch.rand(4, 3, 96, 144) * 255)
        network.head[3].weight.mul_(30)
    return network.eval()


def _config(data: DataSet, source: Path, folds: np.ndarray, shares_patients: bool) -> RunConfig:
    recipe = RECIPES["paper" if shares_patients else "smoke"]
    return RunConfig(
        data=str(source),
        fingerprint=data.fingerprint,
        images=len(data),
        patients=data.patient_count,
        weights="resnet50.safetensors (somewhere)",
        weights_sha256="a" * 64,
        stride="v1",
        recipe=recipe.describe(),
        folds=2,
        seed=7,
        judged_patients=[sorted(set(data.patients[folds == fold].tolist())) for fold in (0, 1)],
        bf16=False,
        torch="2.15.0",
        git_commit=COMMIT,
        shares_patients=shares_patients,
    )
