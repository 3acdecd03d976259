"""A model bundle loads only when every file is the one that its manifest names."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.bundle import (
    DataSet,
    DecisionRule,
    InputGeometry,
    Manifest,
    Metrics,
    describe_file,
    iter_bundle_folders,
    load_bundle,
    newest_bundle_folder,
    write_manifest,
)
from core.errors import BundleError

_RULE = DecisionRule(threshold=0.5, abstain_low=0.4, abstain_high=0.6)


def write_bundle(folder: Path, version: str = "1.2.3", **changes: object) -> Path:
    """Write a small bundle with two files."""
    (folder / "report").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph of " + version.encode())
    (folder / "report" / "metrics.json").write_text("{}")
    values: dict[str, object] = {
        "name": "test-model",
        "version": version,
        "created_at": datetime(2026, 11, 23, tzinfo=UTC),
        "files": (
            describe_file(folder, folder / "model.onnx", "onnx", "fp16"),
            describe_file(folder, folder / "report" / "metrics.json", "report"),
        ),
        "decision": _RULE,
        "metrics": (Metrics(protocol="none", shares_patients=False, values={"auc": 0.8}),),
        "dataset": DataSet(name="d", images=1, patients=1, fingerprint="f", licence="l", attribution="a"),
        "git_commit": "0" * 40,
        "licence": "MIT",
        "attribution": "someone",
    }
    write_manifest(folder, Manifest(**(values | changes)))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_was_written_loads(tmp_path):
    """Writing and loading are each other's inverse."""
    bundle = load_bundle(write_bundle(tmp_path / "b"))
    assert bundle.model_version == "test-model@1.2.3"
    assert bundle.file("onnx", "fp16") == tmp_path / "b" / "model.onnx"
    assert bundle.file("openvino", "int8") is None
    assert bundle.manifest.decision == _RULE
    assert "not for diagnosis" in bundle.manifest.notice


def test_writing_leaves_no_half_manifest(tmp_path):
    """The manifest appears in a single step, and nothing else stays behind."""
    folder = write_bundle(tmp_path / "b")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "report"]


def test_an_altered_byte_is_refused(tmp_path):
    """One byte of one file is enough."""
    folder = write_bundle(tmp_path / "b")
    data = bytearray((folder / "model.onnx").read_bytes())
    data[3] ^= 1
    (folder / "model.onnx").write_bytes(data)
    assert "model.onnx" in refusal(folder)


def test_a_missing_file_is_named(tmp_path):
    """The message says which file to fetch again."""
    folder = write_bundle(tmp_path / "b")
    (folder / "report" / "metrics.json").unlink()
    assert "lacks report/metrics.json" in refusal(folder)


@pytest.mark.parametrize("path", ["../model.onnx", "report/../../model.onnx", "/etc/hostname"])
def test_a_path_that_leaves_the_bundle_is_refused(path, tmp_path):
    """A manifest from elsewhere cannot make us read other files."""
    folder = write_bundle(tmp_path / "b")
    edit(folder, lambda manifest: manifest["files"][0].update(path=path))
    assert "outside itself" in refusal(folder)


def test_another_preprocessing_is_refused(tmp_path):
    """A model sees what it was trained on, or does not serve."""
    folder = write_bundle(tmp_path / "b", input=InputGeometry(preprocessing="bgr-lanczos-224"))
    assert "bgr-lanczos-224" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("decision"),
        lambda manifest: manifest.update(surprise=1),
        lambda manifest: manifest.update(version="1.2"),
        lambda manifest: manifest.update(schema_version=2),
        lambda manifest: manifest.update(created_at="2026-11-23T00:00:00"),
        lambda manifest: manifest["files"][0].update(sha256="abc"),
    ],
    ids=["missing", "unknown", "version", "schema", "naive-time", "hash"],
)
def test_a_malformed_manifest_is_refused_in_one_line(change, tmp_path):
    """What is not understood is not served."""
    folder = write_bundle(tmp_path / "b")
    edit(folder, change)
    assert "malformed at" in refusal(folder)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    """The message says what was expected."""
    assert "is this a model bundle?" in refusal(tmp_path)


def test_the_highest_version_is_the_newest(tmp_path):
    """0.10.0 is newer than 0.9.0, whatever the folders are called."""
    write_bundle(tmp_path / "z", "0.9.0")
    write_bundle(tmp_path / "a", "0.10.0")
    write_bundle(tmp_path / "m", "0.2.11")
    assert newest_bundle_folder(tmp_path) == tmp_path / "a"
    assert [path.name for path in iter_bundle_folders(tmp_path)] == ["a", "m", "z"]


def test_without_bundles_the_way_out_is_named(tmp_path):
    """The message names the variable that helps."""
    with pytest.raises(BundleError, match="HISTOBATCH_MODEL"):
        newest_bundle_folder(tmp_path)


@pytest.mark.parametrize(
    ("probability", "decision"),
    [
        (0.0, "benign"),
        (0.399999, "benign"),
        (0.4, "uncertain"),
        (0.5, "uncertain"),
        (0.6, "uncertain"),
        (0.600001, "malignant"),
        (1.0, "malignant"),
    ],
)
def test_the_abstain_band_includes_its_edges(probability, decision):
    """Below the band benign, above it malignant, in it a person must look."""
    assert _RULE.decide(probability) == decision


@given(st.floats(0, 1))
def test_an_empty_band_leaves_nothing_uncertain(probability):
    """Without a band the threshold alone decides, itself counting as malignant."""
    rule = DecisionRule(threshold=0.5, abstain_low=0.5, abstain_high=0.5)
    assert rule.decide(probability) == ("malignant" if probability >= 0.5 else "benign")


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -0.01, 1.01])
def test_what_is_no_probability_is_not_decided_on(nonsense):
    """A broken engine's NaN must never read as benign."""
    with pytest.raises(ValueError, match="no probability"):
        _RULE.decide(nonsense)


@pytest.mark.parametrize("band", [(0.6, 0.7), (0.2, 0.3), (0.7, 0.3)])
def test_a_band_beside_the_threshold_is_refused(band):
    """low <= threshold <= high."""
    with pytest.raises(ValidationError):
        DecisionRule(threshold=0.5, abstain_low=band[0], abstain_high=band[1])
