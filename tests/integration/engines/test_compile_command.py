"""`histobatch compile` and `engines` as users type them, with the real compiler on a machine without a GPU."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from core.bundle import Bundle
from core.settings import PROJECT
from tests.assets.programs import run_histobatch
from worker.engines.cache import BUILD_LOG, MANIFEST, PLAN
from worker.engines.driver import ask_driver

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(compiler: None, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one engine was compiled from the committed bundle."""
    made = tmp_path_factory.mktemp("engines")
    done = run_histobatch("compile", bundle.folder, "--target", "tensorrt-rtx", "--output", made, "--max-batch", 64,
                          "--opt-batch", 32)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 to 64 images, best with 32" in done.stdout
    assert "built, because no engine is there" in done.stdout
    return made


def entry_in(folder: Path) -> Path:
    """The one engine that lies there."""
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return entry


def compile_again(folder: Path, *arguments: object) -> CompletedProcess[str]:
    """The same again."""
    graph = sorted((PROJECT / "models").glob("*/model.onnx"))[-1]
    sizes = ("--max-batch", 64, "--opt-batch", 32)
    return run_histobatch("compile", graph, "--target", "tensorrt-rtx", "--output", folder, *sizes, *arguments)


def test_an_engine_lies_beside_its_manifest_and_its_build_log(folder: Path, bundle: Bundle) -> None:
    """Who carries the folder to another machine takes along what it was made from, and what the builder said."""
    entry = entry_in(folder)
    manifest = json.loads((entry / MANIFEST).read_text())
    graph = next(file for file in bundle.manifest.files if file.role == "onnx")
    assert manifest["key"]["onnx_sha256"] == graph.sha256
    assert manifest["key"]["precision"] == "fp16"
    assert manifest["bytes"] == (entry / PLAN).stat().st_size > 40e6
    assert "Engine generation completed" in (entry / BUILD_LOG).read_text()


def test_the_lone_graph_finds_the_engine_of_the_bundle(folder: Path) -> None:
    """The key is the graph's content, and a second compile builds nothing."""
    before = (entry_in(folder) / PLAN).stat().st_mtime_ns
    done = compile_again(folder)
    assert done.returncode == 0, done.stderr
    assert "was there already" in done.stdout
    assert (entry_in(folder) / PLAN).stat().st_mtime_ns == before


def test_a_corrupt_engine_is_listed_rebuilt_and_pruned(folder: Path, tmp_path: Path) -> None:
    """One byte changed: `list` says so, `compile` builds anew, `prune` deletes it and leaves whole ones."""
    copy = tmp_path / "engines"
    shutil.copytree(folder, copy)
    plan = bytearray((entry_in(copy) / PLAN).read_bytes())
    plan[len(plan) // 2] ^= 255
    (entry_in(copy) / PLAN).write_bytes(plan)
    listed = run_histobatch("engines", "list", "--folder", copy)
    assert "is not the one that was built" in " ".join(listed.stdout.replace("│", " ").split())
    pruned = run_histobatch("engines", "prune", "--folder", copy).stdout
    assert "deleted, its engine file is not the one that was built" in pruned
    assert run_histobatch("engines", "prune", "--folder", folder).stdout == ""
    done = compile_again(copy)
    assert "built, because no engine is there" in done.stdout
    assert "whole" in run_histobatch("engines", "list", "--folder", copy).stdout
    assert entry_in(folder).exists()


def test_tensorrt_without_a_gpu_says_what_is_missing(bundle: Bundle, tmp_path: Path) -> None:
    """In one line, with the way to build without one."""
    if ask_driver().gpus:
        pytest.skip("a GPU is here")
    done = run_histobatch("compile", bundle.folder, "--output", tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "tensorrt" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--hardware-compatible",), "leave out --hardware-compatible"),
        (("--opt-batch", 65), "--opt-batch must not be larger"),
        (("--target", "cuda"), "choose tensorrt or tensorrt-rtx"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, arguments: tuple[object, ...], complaint: str) -> None:
    """With the cure, and nothing is built."""
    done = compile_again(folder, *arguments)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_graph_of_another_kind_is_refused(compiler: None, tmp_path: Path) -> None:
    """A file that is no ONNX graph, and one that takes something else than our images."""
    onnx = pytest.importorskip("onnx")
    (tmp_path / "nonsense.onnx").write_bytes(b"nonsense")
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("in", "out")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["in"], ["out"])], "other", tensors[:1], tensors[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "other.onnx")
    for name, complaint in (("nonsense", "the ONNX graph cannot be compiled"), ("other", "this graph is none of ours")):
        done = run_histobatch(
            "compile", tmp_path / f"{name}.onnx", "--target", "tensorrt-rtx", "--output", tmp_path / "engines"
        )
        assert done.returncode == 1
        assert complaint in done.stderr
