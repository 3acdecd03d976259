"""The model that ships."""

import csv

import numpy as np
import pytest

from core.bundle import NOTICE, Bundle, load_bundle, newest_bundle_folder
from core.settings import PROJECT
from worker.engines.openvino import OpenVinoEngine

# No trainer mark: users' machines without torch must be able to check the model too.


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(newest_bundle_folder(PROJECT / "models"))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.01), ("int8", 0.05)])
def test_the_engine_says_what_it_said_when_released(bundle: Bundle, precision: str, tolerance: float) -> None:
    """On every machine the canary images get the recorded probabilities, up to the arithmetic of its processor."""
    canaries = np.load(bundle.folder / "report" / "canaries.npz")
    recorded = canaries["openvino_int8" if precision == "int8" else "onnx_fp32"]
    engine = OpenVinoEngine(bundle, "int8" if precision == "int8" else "fp32")
    actual = engine.classify(canaries["images"])
    engine.close()
    assert np.abs(actual - recorded).max() <= tolerance
    assert np.ptp(recorded) > 0.3  # canaries that all sound alike would prove little


def test_the_onnx_is_the_trained_network(bundle: Bundle) -> None:
    """What engines compile and what was trained differ by rounding only."""
    canaries = np.load(bundle.folder / "report" / "canaries.npz")
    assert np.abs(canaries["onnx_fp32"] - canaries["torch_fp32"]).max() <= 0.01


def test_the_bundle_is_small_enough_to_be_cloned(bundle: Bundle) -> None:
    """Less than 80 MB, manifest included, and nothing in the folder that the manifest does not name."""
    files = [path for path in bundle.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 80_000_000
    named = {entry.path for entry in bundle.manifest.files} | {"manifest.json"}
    assert {path.relative_to(bundle.folder).as_posix() for path in files} == named


def test_the_bundle_tells_the_truth_about_itself(bundle: Bundle) -> None:
    """Patients apart, its protocol in words, an interval beside the estimate, its notice and its sources."""
    first = bundle.manifest.metrics[0]
    assert not first.shares_patients
    assert "cross-validation" in first.protocol
    assert first.values["auc_low"] < first.values["auc"] < first.values["auc_high"]
    card = (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert NOTICE in card
    for source in ("BreakHis", "Spanhol", "VRI", "UFPR", "CC BY 4.0"):
        assert source in card
        assert source in bundle.manifest.attribution


def test_the_recorded_metrics_are_those_of_the_recorded_predictions(bundle: Bundle) -> None:
    """Whoever doubts the accuracy can count it in oof.csv."""
    with (bundle.folder / "report" / "oof.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    threshold = bundle.manifest.decision.threshold
    right = [(float(row["calibrated_probability"]) >= threshold) == (row["label"] == "1") for row in rows]
    assert len(rows) == bundle.manifest.dataset.images
    assert np.mean(right) == pytest.approx(bundle.manifest.metrics[0].values["accuracy"], abs=1e-6)
