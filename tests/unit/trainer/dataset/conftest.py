"""Tiny images with BreakHis names."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.assets.images import plain
from tests.conftest import SAMPLES

MakeFolder = Callable[[Path, int], Path]

if find_spec("torch") is None:  # the conftest above has seen to it that this is not CI
    collect_ignore = ["test_preparation.py", "test_splits.py"]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Real images side by side."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in SAMPLES.glob("SOB_*"):
        shutil.copy(path, folder)
    return folder


def name_of(number: int) -> str:
    """The name of a made image: benign and malignant in turn, two images a patient."""
    kind = "B_A" if number % 2 == 0 else "M_DC"
    return f"SOB_{kind}-14-{1000 + number // 4 * 2 + number % 2}-100-{number:03}.png"


@pytest.fixture
def make_folder() -> MakeFolder:
    """Write so many different small PNGs."""

    def make(folder: Path, count: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / name_of(number)).write_bytes(plain(seed=number))
        return folder

    return make
