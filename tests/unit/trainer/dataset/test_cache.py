"""Decoded images on disk: never wrong, whatever happens to the files, the process or the disk."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.imaging import decode_rgb
from core.settings import PROJECT
from tests.assets.images import plain
from tests.unit.trainer.dataset.conftest import MakeFolder, name_of
from trainer.dataset.cache import ArrayCache, default_cache
from trainer.dataset.images import DataSet, load_dataset
from trainer.errors import DatasetError

COUNT = 8
MARK = 77


@pytest.fixture
def folder(make_folder: MakeFolder, tmp_path: Path) -> Path:
    return make_folder(tmp_path / "set", COUNT)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files count as settled: their last change is more than two seconds ago."""
    now = time.time_ns
    monkeypatch.setattr("trainer.dataset.stamps.time.time_ns", lambda: now() + 10**10)
    return


def entries(cache: Path) -> list[Path]:
    return sorted(path.parent for path in cache.glob("*/[!.]*/entry.json"))


def load(folder: Path, cache: Path) -> tuple[DataSet, int]:
    """Load, and say how many files were read for it."""
    read: list[int] = []
    data = load_dataset(folder, cache, lambda done, files: read.append(files))
    return data, max(read, default=0)


def mark(entry: Path) -> None:
    """Overwrite cached pixels, so that what comes from the cache can be told from what was decoded."""
    (entry / "pixels.bin").write_bytes(bytes([MARK]) * (entry / "pixels.bin").stat().st_size)


def is_marked(data: DataSet) -> list[bool]:
    return [bool((pixels == MARK).all()) for pixels in data.pixels]


@pytest.mark.usefixtures("_later")
def test_a_second_start_reads_and_decodes_nothing(folder: Path, cache: Path) -> None:
    """Arrays come from the file, equal those decoded in memory, and no image is opened."""
    first, read_first = load(folder, cache)
    second, read_second = load(folder, cache)
    plainly = load_dataset(folder)
    assert (read_first, read_second) == (COUNT, 0)
    for data in (first, second):
        assert np.array_equal(data.pixels, plainly.pixels)
        assert np.array_equal(data.fields, plainly.fields)
        assert (data.fingerprint, data.names, data.hashes) == (plainly.fingerprint, plainly.names, plainly.hashes)
    mark(entries(cache)[0])
    assert all(is_marked(load(folder, cache)[0]))


def test_cached_pixels_are_those_of_serving(flat: Path, cache: Path) -> None:
    """PNG and JPEG, bit by bit."""
    load(flat, cache)
    data, _ = load(flat, cache)
    for path, pixels in zip(data.paths, data.pixels, strict=True):
        assert np.array_equal(pixels, decode_rgb(path.read_bytes()))


@pytest.mark.usefixtures("_later")
def test_a_changed_file_is_decoded_and_the_others_are_not(folder: Path, cache: Path) -> None:
    """Also where size and time of change are set back to what they were."""
    load(folder, cache)
    mark(entries(cache)[0])
    changed = folder / name_of(3)
    before = changed.stat()
    fresh = plain(seed=99)
    changed.write_bytes(fresh + bytes(max(0, before.st_size - len(fresh))))
    os.truncate(changed, max(before.st_size, len(fresh)))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    data, read = load(folder, cache)
    rows = {path.name: row for row, path in enumerate(data.paths)}
    assert read == 1
    assert is_marked(data).count(False) == 1
    assert np.array_equal(data.pixels[rows[name_of(3)]], decode_rgb(fresh))


@pytest.mark.usefixtures("_later")
def test_an_added_file_is_decoded_and_the_others_are_not(folder: Path, cache: Path) -> None:
    """The new entry holds copies of the rows that are known."""
    load(folder, cache)
    mark(entries(cache)[0])
    (folder / name_of(COUNT)).write_bytes(plain(seed=COUNT))
    data, read = load(folder, cache)
    assert (len(data), read, is_marked(data).count(False)) == (COUNT + 1, 1, 1)


def test_a_renamed_file_and_a_moved_folder_cost_no_decoding(folder: Path, cache: Path) -> None:
    """Content is what counts: rows follow their images to other names and places."""
    load(folder, cache)
    mark(entries(cache)[0])
    moved = folder.rename(folder.with_name("elsewhere"))
    assert all(is_marked(load(moved, cache)[0]))
    (moved / name_of(0)).rename(moved / "SOB_B_TA-14-9-400-001.png")
    data, _ = load(moved, cache)
    assert all(is_marked(data))
    assert "SOB_B_TA-14-9-400-001.png" in {path.name for path in data.paths}


def test_rows_follow_their_images(folder: Path, cache: Path) -> None:
    """When two files exchange their names, their pixels change places, without decoding."""
    load(folder, cache)
    first, second, aside = folder / name_of(0), folder / name_of(2), folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    data, _ = load(folder, cache)
    for path, pixels in zip(data.paths, data.pixels, strict=True):
        assert np.array_equal(pixels, decode_rgb(path.read_bytes()))


@pytest.mark.usefixtures("_later")
def test_broken_files_are_remembered(folder: Path, cache: Path) -> None:
    """They are named on the second start too, and not tried again until they change."""
    (folder / name_of(COUNT)).write_bytes(b"no image")
    for expected_read in (COUNT + 1, 0):
        data, read = load(folder, cache)
        assert [path.name for path, _ in data.broken] == [name_of(COUNT)]
        assert read == expected_read
    (folder / name_of(COUNT)).write_bytes(plain(seed=COUNT))
    data, _ = load(folder, cache)
    assert (len(data), data.broken) == (COUNT + 1, ())


def test_what_a_program_writes_into_arrays_stays_there(folder: Path, cache: Path) -> None:
    """The mapping is private: a bug of the trainer cannot spoil the cache."""
    data, _ = load(folder, cache)
    data.pixels[:] = 0
    assert load(folder, cache)[0].pixels.any()


@pytest.mark.parametrize("damage", ["shorter", "no json", "no file", "wrong json"])
def test_a_damaged_entry_is_built_again(folder: Path, cache: Path, damage: str) -> None:
    """An entry whose parts do not fit together is not believed."""
    expected = load(folder, cache)[0].pixels.copy()
    entry = entries(cache)[0]
    if damage == "shorter":
        os.truncate(entry / "fields.bin", 1000)
    elif damage == "no file":
        (entry / "pixels.bin").unlink()
    else:
        (entry / "entry.json").write_text("{" if damage == "no json" else json.dumps({"records": [{"x": 1}]}))
    assert np.array_equal(load(folder, cache)[0].pixels, expected)
    assert len(entries(cache)) == 1


def test_a_damaged_index_costs_reading_only(folder: Path, cache: Path) -> None:
    """It saves time and is never needed."""
    load(folder, cache)
    for index in cache.glob("index-*.json"):
        index.write_text("[1, 2")
    data, read = load(folder, cache)
    assert (len(data), read) == (COUNT, COUNT)


def test_files_that_changed_a_moment_ago_are_read_again(folder: Path, cache: Path) -> None:
    """Within the clock's step a file can change and keep its stamp, so its stamp is not trusted yet."""
    load(folder, cache)
    assert load(folder, cache)[1] == COUNT


def test_a_killed_build_leaves_nothing_that_is_believed(make_folder: MakeFolder, tmp_path: Path, cache: Path) -> None:
    """After SIGKILL in the middle of many images no entry is there; the next start is right and clears up."""
    folder = make_folder(tmp_path / "many", 90)
    process = start(folder, cache, stop_after=40)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "stopped"
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []  # they would wait for their dead parent for ever
    left = list(cache.glob("*/.building-*"))
    assert len(left) == 1
    assert entries(cache) == []
    os.utime(left[0], (0, 0))  # long enough ago that it is no build that has just begun
    data, read = load(folder, cache)
    assert (len(data), read) == (90, 90)
    assert np.array_equal(data.pixels, load_dataset(folder).pixels)
    assert list(cache.glob("*/.building-*")) == []


def test_the_build_of_a_living_process_is_left_alone(folder: Path, cache: Path) -> None:
    """However long it takes."""
    process = start(folder, cache, stop_after=4)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "stopped"
    building = next(cache.glob("*/.building-*"))
    os.utime(building, (0, 0))
    load(folder, cache)
    assert building.is_dir()
    process.kill()
    process.wait()


def test_processes_that_build_at_once_agree(folder: Path, cache: Path) -> None:
    """Each gets the right arrays, and one entry remains."""
    processes = [start(folder, cache) for _ in range(3)]
    answers = {process.communicate(timeout=120) for process in processes}
    plainly = load_dataset(folder)
    assert answers == {(f"{COUNT} {plainly.fingerprint} {plainly.pixels.sum()} {plainly.fields.sum()}\n", "")}
    assert len(entries(cache)) == 1
    assert list(cache.glob("*/.building-*")) == []


def test_a_full_disk_is_named_and_leaves_nothing(folder: Path, cache: Path) -> None:
    """The write that fails ends the build with the cause and the way out."""
    process = start(folder, cache, file_size=300_000)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cannot be written (File too large): make room, or name another folder" in error
    assert "Traceback" not in error
    assert list(cache.rglob("*.bin")) == []
    assert load(folder, cache)[1] == COUNT


def test_too_small_a_disk_is_seen_before_anything_is_decoded(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much is needed and how much is free."""
    nearly_full = shutil.disk_usage(folder)._replace(free=1_000_000)
    monkeypatch.setattr("trainer.dataset.cache.shutil.disk_usage", lambda path: nearly_full)
    with pytest.raises(DatasetError, match=r"needs 2 MB .* where 1 MB are free: make room"):
        load_dataset(folder, cache)
    assert list(cache.rglob("*.bin")) == []


def test_a_cache_that_cannot_be_made_is_named(folder: Path, tmp_path: Path) -> None:
    """A file in its place, for instance."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot be written .*: make room, or name another folder"):
        load_dataset(folder, tmp_path / "file" / "cache")


def test_entries_that_nobody_uses_are_removed(folder: Path, cache: Path) -> None:
    """A month after they were last opened, when something else is built."""
    load(folder, cache)
    old = entries(cache)[0]
    os.utime(old / "entry.json", (0, 0))
    load(folder, cache)
    assert (old / "entry.json").stat().st_mtime > 0  # opening it is using it
    os.utime(old / "entry.json", (0, 0))
    with ArrayCache(cache).building(1):
        pass
    assert entries(cache) == []


def test_many_images_are_decoded_in_processes_as_well(make_folder: MakeFolder, tmp_path: Path, cache: Path) -> None:
    """More than a few go to processes, and the outcome is the same as one by one."""
    folder = make_folder(tmp_path / "many", 70)
    (folder / name_of(70)).write_bytes(b"no image")
    data, _ = load(folder, cache)
    assert len(data) == 70
    assert [path.name for path, _ in data.broken] == [name_of(70)]
    for path, pixels in zip(data.paths, data.pixels, strict=True):
        assert np.array_equal(pixels, decode_rgb(path.read_bytes()))


def test_the_cache_lies_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$XDG_CACHE_HOME, or ~/.cache where it is unset, empty or relative."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache() == tmp_path / "x" / "histobatch"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_cache() == tmp_path / ".cache" / "histobatch"


def start(folder: Path, cache: Path, stop_after: int = -1, file_size: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.unit.trainer.dataset.building_process"]
    return subprocess.Popen(
        [*command, str(folder), str(cache), str(stop_after), str(file_size)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
