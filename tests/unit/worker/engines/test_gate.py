"""The parity gate lets through what says the same as the network, and nothing else."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.assets.gpu import FakeDevice, redness
from worker.engines.gate import Canaries, EngineRefused, judge_engine, pass_gate, read_gate_report
from worker.engines.key import Profile
from worker.engines.streams import StreamedEngine

IMAGES = np.zeros((6, 96, 144, 3), np.uint8)
IMAGES[..., 0] = np.array([20, 90, 126, 129, 200, 250], np.uint8)[:, None, None]
CANARIES = Canaries(IMAGES, redness(IMAGES), threshold=0.5)


def engine_that_says(change) -> StreamedEngine:
    """An engine whose answers stray from the network's."""
    return StreamedEngine(FakeDevice(lambda images: change(redness(images))), "tensorrt-fp16", Profile())


def test_an_engine_that_agrees_passes_and_its_report_is_kept(tmp_path: Path) -> None:
    """Rounding to half precision is no reason to refuse."""
    engine = engine_that_says(lambda answers: answers.astype(np.float16).astype(np.float32))
    pass_gate(engine, CANARIES, tmp_path)
    report = read_gate_report(tmp_path)
    assert report is not None
    assert report.passed
    assert (report.images, report.label_agreement) == (6, 1.0)
    assert 0 < report.largest_difference < 0.001


def _one_label(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """0.494 becomes 0.501: a small step over the threshold."""
    return np.where(np.abs(answers - 126 / 255) < 1e-3, np.float32(0.501), answers)


def _one_outlier(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(answers > 0.95, answers - np.float32(0.03), answers)


def _not_a_number(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(answers > 0.95, np.float32(math.nan), answers)


def _last_alone(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Wrong only where a call holds one image."""
    return answers + np.float32(0.1) if len(answers) == 1 else answers


@pytest.mark.parametrize("change", [_one_label, _one_outlier, _not_a_number, _last_alone])
def test_an_engine_that_strays_is_refused_with_the_numbers(change, tmp_path: Path) -> None:
    """One label of a thousand, or two hundredths, or an answer that is no number, in a call of any size."""
    with pytest.raises(EngineRefused, match=r"the parity gate refuses.*% of 6 canaries.*largest difference"):
        pass_gate(engine_that_says(change), CANARIES, tmp_path)
    report = read_gate_report(tmp_path)
    assert report is not None
    assert not report.passed


def test_answers_in_another_order_are_refused() -> None:
    """A mistake in splitting or in the streams shows here, too."""
    assert not judge_engine(engine_that_says(lambda answers: answers[::-1].copy()), CANARIES).passed


def test_what_cannot_be_judged_does_not_serve() -> None:
    """A bundle without canaries proves nothing."""
    with pytest.raises(EngineRefused, match="no canaries"):
        pass_gate(engine_that_says(lambda answers: answers), None)


def test_a_report_that_is_damaged_is_none(tmp_path: Path) -> None:
    """The report is for people; the gate judges again at each start."""
    (tmp_path / "gate.json").write_text("{")
    assert read_gate_report(tmp_path) is None
