"""`histobatch evaluate`: a run judged again, other patients judged, and a released bundle judged."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.judging import evaluate
from core.bundle import NOTICE, load_bundle, newest_bundle_folder
from core.errors import ConfigurationError
from core.settings import PROJECT
from tests.assets.programs import run_histobatch
from tests.conftest import SAMPLES
from tests.integration.trainer.finished import random_network, write_images, write_run
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.dataset.images import DataSet, load_dataset
from trainer.errors import RunError, VerificationError
from trainer.evaluate import measure
from trainer.fit import predict
from trainer.run import RunFolder
from worker.engines.openvino import OpenVinoEngine

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet]:
    folder = tmp_path_factory.mktemp("images")
    return folder, write_images(folder, 0)


@pytest.fixture(scope="module")
def run(images: tuple[Path, DataSet], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("runs") / "run", images[1], images[0])


@pytest.fixture
def copy_of_run(run: RunFolder, tmp_path: Path) -> RunFolder:
    """The same run to be damaged; weights are links until they are replaced."""
    shutil.copytree(run.path, tmp_path / "run", copy_function=os.link)
    return RunFolder(tmp_path / "run")


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_is_judged_again_by_the_command(run: RunFolder, tmp_path: Path) -> None:
    """Tables with the notice on the terminal, three files, and the word that oof.csv came out again."""
    done = run_histobatch("evaluate", run.path, "--out", tmp_path / "out", COLUMNS="160")
    assert done.returncode == 0, done.stderr
    for part in (NOTICE, "All images", "By magnification", "By fold", "Calibration", "0.912", "oof.csv reproduced: 12"):
        assert part in done.stdout
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["reproduction"]["holds"]
    assert not found["shares_patients"]
    assert found["notice"] == NOTICE
    metrics = run.read_metrics()
    assert found["overall"] == pytest.approx(metrics.overall, abs=1e-4)
    assert set(found["intervals"]) == set(metrics.intervals)
    assert (tmp_path / "out" / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_views_stand_beside_the_plain_figure(run: RunFolder, tmp_path: Path) -> None:
    """Test-time augmentation has figures of its own, from the mean logit of four views, and replaces nothing."""
    evaluate(run.path, out=tmp_path / "plain")
    evaluate(run.path, out=tmp_path / "views", tta=True)
    plain, views = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("plain", "views"))
    assert plain["overall"] == views["overall"]
    assert "test_time_augmentation" not in plain
    assert set(views["test_time_augmentation"]["overall"]) == set(views["overall"])
    rows = _rows(tmp_path / "views")
    assert [row["probability"] for row in rows] == [row["probability"] for row in _rows(tmp_path / "plain")]
    assert any(row["probability"] != row["probability_of_views"] for row in rows)


def test_other_checkpoints_are_found_out(copy_of_run: RunFolder, tmp_path: Path) -> None:
    """Where a fold's network is not the one that judged, the command says so, writes what it found and fails."""
    path = copy_of_run.fold_checkpoint(1)
    path.unlink()
    save_checkpoint(random_network(5), path)
    with pytest.raises(VerificationError, match=r"NOT reproduced.*differs by"):
        evaluate(copy_of_run.path, out=tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "evaluation.json").read_text())["reproduction"]["holds"]


def test_a_missing_checkpoint_is_named(copy_of_run: RunFolder, tmp_path: Path) -> None:
    """Without a fold's network its images cannot be judged again, and nothing is written."""
    copy_of_run.fold_checkpoint(1).unlink()
    with pytest.raises(RunError, match=r"fold-1\.safetensors is missing"):
        evaluate(copy_of_run.path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_patients_of_the_training_are_refused(run: RunFolder, images: tuple[Path, DataSet], tmp_path: Path) -> None:
    """One known patient among the judged makes the test no test; allowed by name, every table is branded."""
    mixed = tmp_path / "mixed"
    write_images(mixed, 20)
    for name in ("SOB_B_A-14-000-100-000.png", "SOB_B_A-14-000-400-001.png"):
        shutil.copy(images[0] / name, mixed)
    with pytest.raises(RunError, match=r"1 of the 7 judged patients.*--allow-shared-patients"):
        evaluate(run.path, data=mixed, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    evaluate(run.path, data=mixed, out=tmp_path / "out", allow_shared_patients=True)
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["shares_patients"]
    assert found["brand"] == "shares patients between train and test"


def test_other_patients_are_judged_by_what_ships(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint's own probabilities, after the run's temperature, under the rule that was locked before."""
    other = write_images(tmp_path / "other", 40)
    evaluate(run.path, data=tmp_path / "other", out=tmp_path / "out")
    metrics = run.read_metrics()
    logits = np.log((p := predict(load_checkpoint(run.checkpoint), other.pixels).astype(float)) / (1 - p))
    expected = 1 / (1 + np.exp(-logits / metrics.temperature))
    assert [float(row["probability"]) for row in _rows(tmp_path / "out")] == pytest.approx(expected.tolist(), abs=1e-4)
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    right = measure(other.labels, expected.astype(np.float32), other.patients, metrics.decision.threshold)
    assert found["overall"]["accuracy"] == pytest.approx(right["accuracy"])
    assert found["decision"] == metrics.decision.model_dump()
    assert not found["shares_patients"]
    assert "none of the 6 judged patients" in " ".join(capsys.readouterr().out.split())


def test_a_released_bundle_is_judged_by_its_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The probabilities of the serving engine on anybody's images; the sample patients are known, so it is branded."""
    folder = newest_bundle_folder(PROJECT / "models")
    evaluate(bundle=folder, data=SAMPLES, out=tmp_path / "out")
    engine = OpenVinoEngine(load_bundle(folder), "int8")
    samples = load_dataset(SAMPLES)
    expected = engine.classify(samples.pixels)
    engine.close()
    rows = _rows(tmp_path / "out")
    assert [row["file"] for row in rows] == [path.name for path in samples.paths]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.tolist(), abs=1e-3)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["shares_patients"]
    assert "SHARES PATIENTS BETWEEN TRAIN AND TEST" in capsys.readouterr().out


def test_images_that_are_gone_are_named(copy_of_run: RunFolder) -> None:
    """The folder that the run was trained from, and the option that says where it is now."""
    config = copy_of_run.read_config().model_copy(update={"data": "/gone/breakhis"})
    (copy_of_run.path / "config.json").unlink()  # a link to the shared one
    (copy_of_run.path / "config.json").write_text(config.model_dump_json())
    with pytest.raises(RunError, match=r"no more at /gone/breakhis: name their folder with --data"):
        evaluate(copy_of_run.path)


def test_a_place_that_cannot_be_written_is_named(run: RunFolder, tmp_path: Path) -> None:
    """A file where the folder should be: the cause and the fix, and the file is untouched."""
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(RunError, match=r"taken cannot be written.*--out"):
        evaluate(run.path, out=tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({}, "name a run folder, or a bundle"),
        ({"bundle": PROJECT / "models" / "x"}, "name a folder of BreakHis images with --data"),
        ({"bundle": PROJECT / "models" / "x", "data": SAMPLES, "precision": "fp64"}, "choose int8 or fp32"),
    ],
)
def test_what_to_judge_must_be_clear(arguments: dict[str, object], cause: str) -> None:
    """One thing to judge, and for a bundle the images."""
    with pytest.raises(ConfigurationError, match=cause):
        evaluate(**arguments)
