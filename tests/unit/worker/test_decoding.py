"""Processes that decode: one that dies takes one image with it, and none outlives the worker."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.errors import Reason, TransientError
from core.imaging import ImageLimits, decode_rgb
from core.settings import PROJECT
from core.storage.local import LocalStorage
from core.storage.reading import Content, hash_content
from worker.decoding import Decoded, DecodePool, DecodeTask, Refused

SAMPLES = sorted((PROJECT / "samples").glob("*.png"))


class Looper(ImageLimits):
    """Limits that hold the process which asks for them for ever, as an image does that a decoder runs in circles on."""

    def __getattribute__(self, name: str) -> object:
        while name == "max_pixels":
            pass
        return super().__getattribute__(name)


class Killer(ImageLimits):
    """Limits that end the process which receives them, as an image does that trips a fault in a decoder."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.abort, ()


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    """Two processes."""
    opened = DecodePool(2)
    yield opened
    opened.close()


@pytest.fixture
def tasks(tmp_path: Path) -> list[DecodeTask]:
    """Eight real images."""
    folder = tmp_path / "images"
    folder.mkdir()
    made = []
    for path in SAMPLES[:8]:
        shutil.copy(path, folder)
        storage = LocalStorage(os.fsencode(folder), (folder,))
        content = hash_content(storage, path.name, 10**9)
        made.append(DecodeTask(storage, path.name, content, 10**9, ImageLimits(), time_limit_s=60))
    return made


def test_pixels_are_those_of_the_shared_function_in_order(pool: DecodePool, tasks: list[DecodeTask]) -> None:
    """Each answer stands in its task's place and holds what decode_rgb makes of the file."""
    answers = list(pool.submit(tasks).results())
    for path, answer in zip(SAMPLES, answers, strict=True):
        assert isinstance(answer, Decoded)
        assert np.array_equal(answer.pixels, decode_rgb(path.read_bytes()))


def test_refusals_tell_the_content_from_the_file(pool: DecodePool, tasks: list[DecodeTask], tmp_path: Path) -> None:
    """Bytes that are no image condemn every copy of them; a file that is gone condemns only itself."""
    (tmp_path / "images" / "broken").write_bytes(b"no image")
    broken = replace(tasks[0], path="broken", content=hash_content(tasks[0].storage, "broken", 100))
    gone = replace(tasks[0], path="gone")
    first, second = pool.submit([broken, gone]).results()
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.reason, first.is_content) == (Reason.NOT_AN_IMAGE, True)
    assert (second.reason, second.is_content) == (Reason.VANISHED, False)


def test_bytes_that_were_kept_are_not_read_again(pool: DecodePool, tasks: list[DecodeTask], tmp_path: Path) -> None:
    """What is far is fetched once: the file may be gone by then."""
    kept = Content(tasks[0].content.content_hash, (tmp_path / "images" / tasks[0].path).read_bytes())
    (tmp_path / "images" / tasks[0].path).unlink()
    (answer,) = pool.submit([replace(tasks[0], content=kept)]).results()
    assert isinstance(answer, Decoded)


def test_storage_that_is_away_is_no_refusal(pool: DecodePool, tasks: list[DecodeTask], tmp_path: Path) -> None:
    """The batch must be tried again, so that the error reaches it."""
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(TransientError):
        list(pool.submit(tasks[:1]).results())


def test_an_image_that_kills_its_process_is_refused_alone(pool: DecodePool, tasks: list[DecodeTask]) -> None:
    """Its neighbours are decoded, and the pool goes on."""
    killer = replace(tasks[2], limits=Killer())
    answers = list(pool.submit([*tasks[:2], killer, *tasks[3:]]).results())
    assert [isinstance(answer, Decoded) for answer in answers] == [True, True, False, *[True] * 5]
    refused = answers[2]
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.KILLS_WORKER
    assert all(isinstance(answer, Decoded) for answer in pool.submit(tasks).results())


def test_an_image_that_takes_too_long_is_refused_alone(pool: DecodePool, tasks: list[DecodeTask]) -> None:
    """A decoder that runs in circles is killed by the kernel, and the neighbours are decoded."""
    looper = replace(tasks[1], limits=Looper(), time_limit_s=0.5)
    answers = list(pool.submit([tasks[0], looper, *tasks[2:]]).results())
    assert [isinstance(answer, Decoded) for answer in answers] == [True, False, *[True] * 6]
    refused = answers[1]
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.is_content) == (Reason.KILLS_WORKER, True)
    assert "ran out of time" in refused.detail


def test_two_batches_at_once_survive_the_death_that_one_brings(pool: DecodePool, tasks: list[DecodeTask]) -> None:
    """What another batch had in hand is decoded, too."""
    killer = replace(tasks[0], limits=Killer())
    mine, other = pool.submit([killer, *tasks[1:]]), pool.submit(tasks)
    assert [isinstance(answer, Decoded) for answer in mine.results()] == [False, *[True] * 7]
    assert all(isinstance(answer, Decoded) for answer in other.results())


def test_a_process_killed_from_outside_costs_no_image(pool: DecodePool, tasks: list[DecodeTask]) -> None:
    """The kernel's memory killer takes a process whose image is innocent: decoded alone, it passes."""
    pool.warm_up()
    children = psutil.Process().children(recursive=True)
    decoding = pool.submit(tasks * 4)
    killed = 0
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # of a pool that an earlier test closed
            if child.ppid() != os.getpid():  # the fork server's children are the ones that decode
                child.send_signal(signal.SIGKILL)
                killed += 1
    assert killed >= 2
    assert [answer for answer in decoding.results() if isinstance(answer, Refused)] == []


def test_no_process_outlives_a_killed_parent() -> None:
    """SIGKILL leaves the parent no chance to end them: they see that it is gone."""
    script = """
import sys, time
from worker.decoding import DecodePool
if __name__ == "__main__":
    pool = DecodePool(2)
    pool.warm_up()
    print("ready", flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 3
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [child for child in children if child.is_running()] == []


_CLOSE_IN_THE_MIDDLE = """
import os
from core.imaging import ImageLimits
from core.settings import PROJECT
from core.storage.local import LocalStorage
from core.storage.reading import hash_content
from worker.decoding import DecodePool, DecodeTask
if __name__ == "__main__":
    samples = PROJECT / "samples"
    storage = LocalStorage(os.fsencode(samples), (samples,))
    names = [path.name for path in sorted(samples.glob("*.png"))][:8]
    tasks = [DecodeTask(storage, n, hash_content(storage, n, 10**9), 10**9, ImageLimits(), 60.0) for n in names] * 8
    for _ in range(6):
        pool = DecodePool(2)
        pool.warm_up()
        next(pool.submit(tasks).results())
        pool.close()
"""


def test_a_program_ends_whose_decoders_were_killed_in_the_middle_of_a_result(tmp_path: Path) -> None:
    """Half a result in a pipe must not keep a worker from its end."""
    script = tmp_path / "program.py"
    script.write_text(_CLOSE_IN_THE_MIDDLE)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=30)
