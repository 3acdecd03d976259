"""The cache of engines: an equal key finds, anything else builds, and nothing altered is trusted."""

import json
import multiprocessing
from pathlib import Path

import pytest

from tests.assets.programs import wait_until
from tests.unit.worker.engines.builds import KEY, CountingBuild, build_in_a_process
from worker.engines.cache import BUILD_LOG, MANIFEST, PLAN, EngineCache
from worker.engines.key import Compatibility, EngineKey, Profile


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_an_equal_key_finds_what_was_built(cache: EngineCache) -> None:
    """The second time nothing is built, and the bytes are the same."""
    build = CountingBuild()
    first, second = cache.provide(KEY, build), cache.provide(KEY, build)
    assert (first.plan, second.plan) == (b"plan", b"plan")
    assert first.why_built == "no engine is there"
    assert second.why_built is None
    assert len(build.told) == 1
    assert (second.folder / BUILD_LOG).read_text() == "INFO built\n"


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "b" * 64},
        {"flavour": "tensorrt-rtx"},
        {"version": "11.4.1"},
        {"gpu": "sm_90 NVIDIA H200 MIG 1g.18gb"},
        {"driver": "580.95.05"},
        {"profile": Profile(opt_batch=64, max_batch=256)},
        {"compatibility": Compatibility(hardware=True)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_part_of_the_key_tells_engines_apart(cache: EngineCache, change: dict[str, object]) -> None:
    """An engine of another graph, library, GPU, driver or profile is another engine."""
    cache.provide(KEY, CountingBuild(b"one"))
    other = KEY.model_copy(update=change)
    assert cache.provide(other, CountingBuild(b"other")).plan == b"other"
    assert cache.provide(KEY, CountingBuild(b"wrong")).plan == b"one"


def test_precision_is_part_of_the_key() -> None:
    """There is one today; a second must not find engines of the first."""
    assert EngineKey.model_fields["precision"].default == "fp16"
    assert KEY.model_construct(**(dict(KEY) | {"precision": "int8"})).name != KEY.name


def _flip(folder: Path) -> None:
    (folder / PLAN).write_bytes(b"plaX")


def _cut(folder: Path) -> None:
    (folder / PLAN).write_bytes(b"pl")


def _lose_plan(folder: Path) -> None:
    (folder / PLAN).unlink()


def _lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _garble_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def _put_foreign_engine(folder: Path) -> None:
    """An engine of another key, whole in itself, under this name."""
    other = EngineCache(folder.parent / "elsewhere").provide(
        KEY.model_copy(update={"gpu": "sm_75 Tesla T4"}), CountingBuild(b"foreign")
    )
    for name in (PLAN, MANIFEST):
        (folder / name).write_bytes((other.folder / name).read_bytes())


DAMAGES = [_flip, _cut, _lose_plan, _lose_manifest, _garble_manifest, _put_foreign_engine]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_what_is_not_as_it_was_written_is_built_again(cache: EngineCache, damage) -> None:
    """A corrupt, cut or foreign file never reaches the GPU, and heals by itself."""
    damage(cache.provide(KEY, CountingBuild()).folder)
    build = CountingBuild(b"anew")
    provided = cache.provide(KEY, build)
    assert (provided.plan, len(build.told)) == (b"anew", 1)
    assert provided.why_built
    assert cache.provide(KEY, build).why_built is None


def test_a_build_that_fails_leaves_nothing_that_serves(cache: EngineCache) -> None:
    """The next one builds; the lock is free."""

    def fail(_: bytes) -> None:
        raise RuntimeError("the builder failed")

    with pytest.raises(RuntimeError):
        cache.provide(KEY, fail)  # type: ignore[arg-type]
    assert not cache.has(KEY)
    assert cache.provide(KEY, CountingBuild()).plan == b"plan"
    assert cache.has(KEY)


def test_what_the_builder_learnt_serves_later_builds_on_the_same_gpu(cache: EngineCache) -> None:
    """Another graph on the same GPU begins with the timings; another GPU begins with none."""
    cache.provide(KEY, CountingBuild(timing_cache=b"timings"))
    same_gpu, other_gpu = CountingBuild(), CountingBuild()
    cache.provide(KEY.model_copy(update={"onnx_sha256": "c" * 64}), same_gpu)
    cache.provide(KEY.model_copy(update={"gpu": "sm_75 Tesla T4"}), other_gpu)
    assert (same_gpu.told, other_gpu.told) == ([b"timings"], [b""])


def test_entries_are_listed_with_their_faults_and_can_be_removed(cache: EngineCache) -> None:
    """`engines list` and `prune` see the broken ones too."""
    cache.provide(KEY, CountingBuild())
    other = KEY.model_copy(update={"onnx_sha256": "d" * 64})
    _flip(cache.provide(other, CountingBuild()).folder)
    lost = cache.provide(KEY.model_copy(update={"driver": "1"}), CountingBuild()).folder
    _garble_manifest(lost)
    found = {entry.folder.name: entry for entry in cache.entries()}
    assert {name: bool(entry.fault) for name, entry in found.items()} == {
        KEY.name: False, other.name: True, lost.name: True
    }  # fmt: skip
    cache.remove(found[KEY.name])
    assert not cache.has(KEY)


def test_the_manifest_is_written_last(cache: EngineCache) -> None:
    """No part file is left, and the manifest names the plan's own hash."""
    folder = cache.provide(KEY, CountingBuild()).folder
    assert sorted(path.name for path in folder.iterdir()) == sorted([PLAN, MANIFEST, BUILD_LOG])
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["bytes"] == 4
    assert manifest["key"]["gpu"] == KEY.gpu


def _start(cache: EngineCache, marks: Path, *, dies: bool = False) -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=build_in_a_process, args=(cache.folder, marks), kwargs={"dies": dies})
    process.start()
    return process


def test_one_process_builds_and_the_others_wait_for_it(cache: EngineCache, tmp_path: Path) -> None:
    """A host that starts eight workers builds once."""
    marks = tmp_path / "marks"
    marks.mkdir()
    processes = [_start(cache, marks) for _ in range(3)]
    wait_until(lambda: len(list(marks.glob("engine_awaited-*"))) == 2, "two wait", 60)
    assert len(list(marks.glob("build-*"))) == 1
    (marks / "go").touch()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(marks.glob("built-*"))) == 1
    assert len(list(marks.glob("found-*"))) == 2


def test_a_builder_that_dies_frees_the_lock(cache: EngineCache, tmp_path: Path) -> None:
    """SIGKILL in the middle of a build: the next process builds, and finds nothing half made."""
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "go").touch()
    dead = _start(cache, marks, dies=True)
    dead.join(60)
    assert dead.exitcode == -9
    heir = _start(cache, marks)
    heir.join(60)
    assert heir.exitcode == 0
    assert len(list(marks.glob("build-*"))) == 2
    assert cache.has(KEY)
