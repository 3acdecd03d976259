"""Which engine serves, and that the choice says why."""

import numpy as np
import pytest

from core.errors import EngineError
from core.settings import Settings
from worker.engines.choice import EngineChoice, choose_engine, load_engine
from worker.engines.fake import FakeEngine


def test_the_fake_serves_only_when_named():
    """A hospital never gets made-up results by accident."""
    assert choose_engine(Settings(engine="fake")).kind == "fake"
    assert choose_engine(Settings()).kind != "fake"


def test_auto_says_what_it_picked_and_why():
    """The reason is a sentence for the log and the doctor."""
    choice = choose_engine(Settings())
    assert choice.kind in ("openvino", "tensorrt")
    assert len(choice.why) > 20


def test_a_real_engine_needs_a_bundle():
    """Without a model nothing serves."""
    with pytest.raises(EngineError, match="needs a model bundle"):
        load_engine(EngineChoice("openvino", "test"), None, Settings())


def test_the_fake_answers_like_an_engine():
    """float32 (N,) in [0, 1], in the order of the images."""
    images = np.zeros((3, 96, 144, 3), np.uint8)
    images[1, ..., 0] = 255
    images[2, ..., 1] = 255
    answer = FakeEngine().classify(images)
    assert answer.dtype == np.float32
    assert answer.tolist() == [0.0, 1.0, 0.0]
