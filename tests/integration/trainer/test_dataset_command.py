"""`histobatch dataset`, as a process."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.bundle import NOTICE
from tests.assets.programs import run_histobatch
from tests.conftest import SAMPLES

pytestmark = pytest.mark.trainer


def test_a_zip_is_described_and_its_images_are_cached(tmp_path: Path) -> None:
    """Card and pictures are written; decoded images go to the user's cache; the folder beside the zip stays clean."""
    archive = tmp_path / "set" / "BreaKHis.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as stream:
        for path in SAMPLES.glob("SOB_*"):
            stream.write(path, f"BreaKHis_v1/{path.name}")
    done = run_histobatch("dataset", archive, "--out", tmp_path / "out", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(NOTICE)
    assert "12 images of 11 patients" in done.stdout
    assert "left out: 0 doubles, 0 contradictory, 0 broken, 0 of unknown name" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "DATASET.md",
        "augmented.png",
        "counts.png",
        "samples.png",
    ]
    card = (tmp_path / "out" / "DATASET.md").read_text()
    assert "12 of the 7,909 published images" in card
    assert list((tmp_path / "cache" / "histobatch").glob("*/*/pixels.bin"))
    assert list(archive.parent.iterdir()) == [archive]


def test_what_cannot_be_described_says_why(refusal: Callable[..., str], tmp_path: Path) -> None:
    """One line with cause and fix, and nothing written."""
    message = refusal("dataset", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "nowhere is not a folder and no file: name the folder" in message
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    message = refusal("dataset", SAMPLES, "--out", tmp_path / "file")
    assert "cannot be made (File exists): name another folder with --out" in message
