"""Runs that are killed, stopped or out of room, through the real command line."""

import csv
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.settings import PROJECT
from tests.assets.training import (
    same_tensors,
    train,
    train_command,
    training_environment,
    write_images,
    write_weights,
)
from trainer.network import read_tensors

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Two folds of six steps; the state is saved every two."""
    folder = tmp_path_factory.mktemp("inputs")
    images = folder / "images"
    images.mkdir()
    weights = write_weights(folder / "weights.safetensors")
    numbers = ("--folds", 2, "--steps", 6, "--batch", 4, "--save-steps", 2)
    return [write_images(images), "--recipe", "smoke", "--weights", weights, *numbers]


def _train_until(condition: Callable[[], bool], number: int, options: list[object]) -> tuple[int, str]:
    """Train in a process, send it a signal once a condition holds, and return its status and what it said."""
    program = subprocess.Popen(
        train_command(*options), cwd=PROJECT, env=training_environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        while not condition():
            assert program.poll() is None, "the training ended before the signal"
            time.sleep(0.02)
        program.send_signal(number)
        _, stderr = program.communicate(timeout=300)
    finally:
        program.kill()
        program.wait()
    return program.returncode, stderr


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def _has_row(path: Path, start: list[str]) -> Callable[[], bool]:
    return lambda: path.exists() and start in [row[: len(start)] for row in _rows(path)]


def test_a_killed_run_ends_with_the_same_weights(options: list[object], tmp_path: Path) -> None:
    """SIGKILL in the second fold: --resume repeats no finished fold and ends with every weight equal to the bit."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = train(*options, "--out", whole)
    assert done.returncode == 0, done.stderr
    status, _ = _train_until(_has_row(killed / "log.csv", ["1", "5"]), signal.SIGKILL, [*options, "--out", killed])
    assert status == -signal.SIGKILL
    assert not (killed / "config.json").exists()
    first_fold = (killed / "fold-0.safetensors").stat()

    resumed = train(*options, "--out", killed, "--resume")

    assert resumed.returncode == 0, resumed.stderr
    assert (killed / "fold-0.safetensors").stat().st_ino == first_fold.st_ino
    for name in ("fold-0", "fold-1", "checkpoint"):
        first, second = (read_tensors(run / f"{name}.safetensors") for run in (whole, killed))
        assert same_tensors(first, second), name
    assert (whole / "oof.csv").read_text() == (killed / "oof.csv").read_text()
    assert (whole / "metrics.json").read_text() == (killed / "metrics.json").read_text()
    for name in ("log.csv", "curves.csv"):  # but for the speed, row for row
        assert [row[:-1] for row in _rows(killed / name)] == [row[:-1] for row in _rows(whole / name)], name
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    board = EventAccumulator(str(killed / "tensorboard" / "fold-1"))
    board.Reload()
    assert [event.step for event in board.Scalars("step/loss")] == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def stopped(options: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that SIGTERM stopped in its first fold, and what it said."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    status, stderr = _train_until(_has_row(out / "log.csv", ["0", "1"]), signal.SIGTERM, [*options, "--out", out])
    assert status == 1
    return out, stderr


def test_a_stopped_run_says_how_to_go_on(stopped: tuple[Path, str]) -> None:
    """SIGTERM finishes the step, saves it, and ends with one line that names --resume."""
    out, stderr = stopped
    assert "stopped as asked at step" in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "curves.csv",
        "log.csv",
        "plan.json",
        "state.safetensors",
        "tensorboard",
    ]


def test_an_interrupted_run_is_not_begun_anew(options: list[object], stopped: tuple[Path, str]) -> None:
    """Without --resume nothing is touched, and the message names it."""
    done = train(*options, "--out", stopped[0])
    assert done.returncode == 1
    assert "interrupted run: go on with --resume" in done.stderr


def test_another_recipe_does_not_resume(options: list[object], stopped: tuple[Path, str]) -> None:
    """Each difference is named, and the saved state stays as it was."""
    before = (stopped[0] / "state.safetensors").stat()
    done = train(*options, "--out", stopped[0], "--resume", "--batch", 8, "--seed", 3)
    assert done.returncode == 1
    assert "recipe.batch was 4, is 8" in done.stderr
    assert "seed was 0, is 3" in done.stderr
    assert "Traceback" not in done.stderr
    after = (stopped[0] / "state.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_images_do_not_resume(options: list[object], stopped: tuple[Path, str], tmp_path: Path) -> None:
    """The fingerprint of the images is part of what was begun."""
    done = train(write_images(tmp_path, patients=3), *options[1:], "--out", stopped[0], "--resume")
    assert done.returncode == 1
    assert "fingerprint was" in done.stderr


def test_a_full_disk_ends_with_one_line(options: list[object], tmp_path: Path) -> None:
    """A state that does not fit is named; what is written stays whole, and --resume can go on once there is room."""
    out = tmp_path / "run"
    small = 50_000_000  # bytes a file: logs fit, networks do not
    done = subprocess.run(
        train_command(*options, "--out", out),
        cwd=PROJECT,
        env=training_environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
    )
    assert done.returncode == 1
    assert f"{out / 'state.safetensors'} cannot be written" in done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.part"))
    assert not (out / "config.json").exists()
    assert (out / "plan.json").exists()
