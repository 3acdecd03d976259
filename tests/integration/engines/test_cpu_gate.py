"""The CPU engine passes the gate that GPU engines must pass, on this very processor."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle, describe_file, load_bundle, write_manifest
from core.settings import Settings
from worker.engines.choice import EngineChoice, fall_back, load_engine
from worker.engines.gate import CANARIES, EngineRefused, judge_engine, read_canaries

OPENVINO = EngineChoice("openvino", "test")


@pytest.mark.parametrize(("precision", "reference"), [("int8", "openvino_int8"), ("fp32", "torch_fp32")])
def test_the_cpu_engine_says_what_the_bundle_recorded(bundle: Bundle, precision: str, reference: str) -> None:
    """Eight bits are compared with the record of eight bits, float32 with the network."""
    engine = load_engine(OPENVINO, bundle, Settings(precision=precision))
    canaries = read_canaries(bundle, reference)
    assert canaries is not None
    report = judge_engine(engine, canaries)
    engine.close()
    assert report.passed
    assert report.images == len(canaries.images)


def test_a_graph_that_says_something_else_does_not_serve(bundle: Bundle, tmp_path: Path) -> None:
    """A processor or a library that computes wrongly is found before the first patient; float32 takes its place."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    with np.load(folder / CANARIES) as stored:
        changed = dict(stored) | {"openvino_int8": 1 - stored["openvino_int8"]}
    np.savez(folder / CANARIES, **changed)
    files = tuple(
        describe_file(folder, folder / entry.path, entry.role, entry.precision) if entry.path == CANARIES else entry
        for entry in bundle.manifest.files
    )
    write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    altered = load_bundle(folder)
    with pytest.raises(EngineRefused, match="openvino-int8 gives") as refusal:
        load_engine(OPENVINO, altered, Settings())
    following = fall_back(OPENVINO, refusal.value, Settings())
    engine = load_engine(following, altered, Settings())
    assert engine.name == "openvino-fp32"
    engine.close()
