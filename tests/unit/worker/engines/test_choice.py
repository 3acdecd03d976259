"""Which engine serves, that the choice says why, and what follows when one is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from core.errors import EngineError
from core.settings import Settings
from worker.engines.choice import (
    EngineChoice,
    Machine,
    candidates,
    choose_engine,
    fall_back,
    load_engine,
)
from worker.engines.driver import Driver, Gpu, ask_driver
from worker.engines.fake import FakeEngine
from worker.engines.refusals import clear_refusal, read_refusal

H200 = Driver("580.65.06", (Gpu("NVIDIA H200", (9, 0)),))
NO_DRIVER = Driver(obstacle="no NVIDIA driver is here (libcuda.so.1 does not load)")
EVERYTHING = frozenset({"openvino", "pycuda", "tensorrt", "tensorrt_rtx"})


def test_the_fake_serves_only_when_named() -> None:
    """A hospital never gets made-up results by accident."""
    assert choose_engine(Settings(engine="fake")).kind == "fake"
    assert choose_engine(Settings()).kind != "fake"


def test_auto_says_what_it_picked_and_why() -> None:
    """The reason is a sentence for the log and the doctor."""
    choice = choose_engine(Settings())
    assert choice.kind in ("openvino", "tensorrt")
    assert len(choice.why) > 20


def test_auto_takes_the_gpu_where_driver_packages_and_device_are_there() -> None:
    """And names those that follow: the CPU, and where it computes eight bits otherwise, the CPU in float32."""
    kinds = [choice.kind for choice in candidates(Settings(), Machine(H200, EVERYTHING))]
    assert kinds == ["tensorrt", "tensorrt-rtx", "openvino", "openvino-fp32"]
    assert "sm_90 NVIDIA H200" in choose_engine(Settings(), Machine(H200, EVERYTHING)).why


@pytest.mark.parametrize(
    ("driver", "lacking", "why"),
    [
        (NO_DRIVER, set(), "no NVIDIA driver is here"),
        (Driver("580.65.06", obstacle="the NVIDIA driver finds no GPU (CUDA_ERROR_NO_DEVICE)"), set(), "finds no GPU"),
        (H200, {"pycuda"}, "pycuda cannot be imported"),
        (H200, {"tensorrt", "tensorrt_rtx"}, "tensorrt cannot be imported"),
        (NO_DRIVER, {"pycuda"}, "driver is here .*, and pycuda cannot"),
    ],
)
def test_each_obstacle_is_named(driver: Driver, lacking: set[str], why: str) -> None:
    """`auto` serves on the CPU and says what is missing; who named tensorrt gets the same words as an error."""
    machine = Machine(driver, EVERYTHING - lacking)
    choice = choose_engine(Settings(), machine)
    assert choice.kind == "openvino"
    with pytest.raises(EngineError, match=f"names tensorrt, but .*{why}"):
        choose_engine(Settings(engine="tensorrt"), machine)
    assert re.search(why, choice.why)


def test_a_named_cpu_is_taken_although_a_gpu_is_there() -> None:
    """The setting decides."""
    assert [choice.kind for choice in candidates(Settings(engine="openvino"), Machine(H200, EVERYTHING))] == [
        "openvino"
    ]


def test_no_engine_at_all_is_an_error() -> None:
    """With the cure."""
    with pytest.raises(EngineError, match=r"install histobatch\[cpu\]"):
        choose_engine(Settings(), Machine(NO_DRIVER, frozenset()))


def test_auto_falls_back_to_the_next_engine_and_notes_why(tmp_path: Path) -> None:
    """The note is there for the doctor, until a GPU engine serves."""
    settings = Settings(data_dir=tmp_path)
    refused = EngineChoice("tensorrt", "test")
    machine = Machine(H200, EVERYTHING - {"tensorrt_rtx"})
    following = fall_back(refused, EngineError("the parity gate refuses the engine"), settings, machine)
    assert following.kind == "openvino"
    assert following.why == "tensorrt was refused: the parity gate refuses the engine"
    noted = read_refusal(tmp_path / "engines")
    assert noted is not None
    assert (noted.engine, noted.why) == ("tensorrt", "the parity gate refuses the engine")
    clear_refusal(tmp_path / "engines")
    assert read_refusal(tmp_path / "engines") is None


def test_a_named_engine_that_is_refused_stays_down(tmp_path: Path) -> None:
    """Who named the GPU does not want the CPU; the last candidate's error is the worker's."""
    settings = Settings(data_dir=tmp_path, engine="tensorrt")
    machine = Machine(H200, EVERYTHING - {"tensorrt_rtx"})
    with pytest.raises(EngineError, match="out of memory"):
        fall_back(EngineChoice("tensorrt", "test"), EngineError("out of memory"), settings, machine)
    with pytest.raises(EngineError, match="cannot compile"):
        fall_back(
            EngineChoice("openvino-fp32", "test"), EngineError("cannot compile"), Settings(data_dir=tmp_path), machine
        )


def test_a_library_that_is_no_driver_is_an_obstacle_and_no_crash() -> None:
    """Machines without a GPU have no libcuda."""
    driver = ask_driver("libnothing-of-the-kind.so.1")
    assert driver.gpus == ()
    assert "libnothing-of-the-kind.so.1 does not load" in driver.obstacle


def test_a_real_engine_needs_a_bundle() -> None:
    """Without a model nothing serves."""
    with pytest.raises(EngineError, match="needs a model bundle"):
        load_engine(EngineChoice("openvino", "test"), None, Settings())


def test_the_fake_answers_like_an_engine() -> None:
    """float32 (N,) in [0, 1], in the order of the images."""
    images = np.zeros((3, 96, 144, 3), np.uint8)
    images[1, ..., 0] = 255
    images[2, ..., 1] = 255
    answer = FakeEngine().classify(images)
    assert answer.dtype == np.float32
    assert answer.tolist() == [0.0, 1.0, 0.0]
