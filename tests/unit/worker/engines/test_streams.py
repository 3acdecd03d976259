"""The GPU engine's own decisions: splitting, rotating streams, halving out of memory, and what a fault means."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from core.errors import EngineError
from tests.assets.gpu import FakeDevice, redness
from tests.assets.programs import wait_until
from worker.engines.device import DeviceFault, DeviceOutOfMemory, fault_of
from worker.engines.key import Profile
from worker.engines.streams import StreamedEngine

STICKY = DeviceFault("cuStreamSynchronize failed: an illegal memory access was encountered")
PASSING = DeviceFault("inference failed: some tactic")
OUT_OF_MEMORY = DeviceOutOfMemory("cuMemAlloc failed: out of memory")


def images(number: int) -> NDArray[np.uint8]:
    """Images that differ in their red, so that each answer names its image."""
    made = np.zeros((number, 96, 144, 3), np.uint8)
    made[..., 0] = (np.arange(number) % 251).astype(np.uint8)[:, None, None]
    return made


def expected(number: int) -> NDArray[np.float32]:
    """The answers to images()."""
    return ((np.arange(number) % 251) / 255).astype(np.float32)


def engine_on(device: FakeDevice, max_batch: int = 8, streams: int = 2) -> StreamedEngine:
    return StreamedEngine(device, "tensorrt-fp16", Profile(opt_batch=max_batch, max_batch=max_batch), streams)


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 16, 43])
def test_a_call_of_any_size_is_answered_in_order(number: int) -> None:
    """What is larger than the profile is split; each image gets its own answer."""
    device = FakeDevice()
    answers = engine_on(device).classify(images(number))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected(number), atol=1e-6)
    assert sum(device.calls) == number
    assert max(device.calls, default=0) <= 8


def test_parts_of_one_call_are_under_way_at_once() -> None:
    """Two streams: copies of one part overlap with the inference of the other."""
    device = FakeDevice()
    engine_on(device).classify(images(40))
    assert device.most_under_way == 2


def test_many_threads_share_the_streams() -> None:
    """More callers than streams, with split calls: none waits forever, none gets another's answers."""
    device = FakeDevice()
    engine = engine_on(device, streams=3)
    sizes = [1, 9, 17, 30] * 12
    with ThreadPoolExecutor(engine.parallel_calls) as threads:
        answers = list(threads.map(lambda size: engine.classify(images(size)), sizes))
    for size, answer in zip(sizes, answers, strict=True):
        np.testing.assert_allclose(answer, expected(size), atol=1e-6)


def test_there_are_more_callers_than_streams() -> None:
    """A caller stores its results before it comes again; meanwhile another uses the stream."""
    assert engine_on(FakeDevice()).parallel_calls > 2


def test_a_small_device_gets_smaller_calls() -> None:
    """Where the profile does not fit, the streams are opened for half as many, and all is answered."""
    device = FakeDevice(memory=9)
    engine = engine_on(device, max_batch=16)
    assert [channel.capacity for channel in device.open] == [8, 1]
    np.testing.assert_allclose(engine.classify(images(30)), expected(30), atol=1e-6)
    assert max(device.calls) == 8


def test_a_device_without_memory_for_one_image_is_refused() -> None:
    """Then no halving helps."""
    with pytest.raises(EngineError, match="no memory for one image"):
        engine_on(FakeDevice(memory=0))


@pytest.mark.parametrize("where", ["begin_errors", "finish_errors"])
def test_out_of_memory_halves_the_call_and_goes_on(where: str) -> None:
    """Another process took memory: nothing is lost, and later calls stay small in that stream."""
    device = FakeDevice()
    engine = engine_on(device)
    getattr(device, where).extend([None, OUT_OF_MEMORY, None, OUT_OF_MEMORY])
    np.testing.assert_allclose(engine.classify(images(50)), expected(50), atol=1e-6)
    assert sorted(channel.capacity for channel in device.open) in ([2, 8], [4, 4])
    np.testing.assert_allclose(engine.classify(images(50)), expected(50), atol=1e-6)


def test_memory_that_is_gone_while_a_stream_is_opened_anew_halves_further() -> None:
    """The smaller stream may not fit either."""
    device = FakeDevice()
    engine = engine_on(device)
    device.begin_errors.append(OUT_OF_MEMORY)
    device.memory = 10  # eight of the other stream, and two
    np.testing.assert_allclose(engine.classify(images(20)), expected(20), atol=1e-6)
    assert sorted(channel.capacity for channel in device.open) == [2, 8]


def test_out_of_memory_for_one_image_fails_the_call_and_not_the_next() -> None:
    """The error is the engine's, not the image's; memory may come back."""
    device = FakeDevice()
    engine = engine_on(device, max_batch=1, streams=1)
    device.begin_errors.append(OUT_OF_MEMORY)
    with pytest.raises(EngineError, match="out of memory"):
        engine.classify(images(1))
    np.testing.assert_allclose(engine.classify(images(3)), expected(3), atol=1e-6)


@pytest.mark.parametrize("where", ["begin_errors", "finish_errors"])
def test_a_sticky_error_ends_the_use_of_the_device(where: str) -> None:
    """The context is lost: later calls fail at once, so that the worker sees that the engine is broken, and ends."""
    device = FakeDevice()
    engine = engine_on(device)
    getattr(device, where).append(STICKY)
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.classify(images(30))
    calls = len(device.calls)
    with pytest.raises(EngineError, match="lost to this process"):
        engine.classify(images(1))
    assert len(device.calls) == calls


def test_another_error_fails_one_call_and_leaves_the_streams_whole() -> None:
    """What was under way in the other stream is waited for, and its answers go to nobody else."""
    device = FakeDevice()
    engine = engine_on(device)
    device.begin_errors.extend([None, PASSING])
    with pytest.raises(EngineError, match="some tactic"):
        engine.classify(images(30))
    assert all(channel.under_way is None for channel in device.open)
    device.most_under_way = 0
    np.testing.assert_allclose(engine.classify(images(30)), expected(30), atol=1e-6)
    assert device.most_under_way == 2


def test_who_waits_for_a_stream_that_is_lost_does_not_wait_for_ever() -> None:
    """The only stream cannot be opened again: both calls fail, the one that had it and the one that waits."""
    other_came = threading.Event()

    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        other_came.wait(30)
        return redness(pixels)

    device = FakeDevice(answer)
    engine = engine_on(device, streams=1)
    device.begin_errors.extend([None, OUT_OF_MEMORY])
    device.memory = 0

    def other() -> None:
        other_came.set()
        engine.classify(images(3))

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(engine.classify, images(16))
        wait_until(lambda: device.calls, "the first call has the stream")
        for call in (first, threads.submit(other)):
            with pytest.raises(EngineError):
                call.result(60)
    engine.close()
    assert device.is_closed


def test_warming_up_runs_every_stream_alone_and_full() -> None:
    """Kernels are loaded for one image, the usual number and the most."""
    device = FakeDevice()
    engine = StreamedEngine(device, "tensorrt-fp16", Profile(opt_batch=4, max_batch=8))
    engine.warm_up()
    assert device.calls == [1, 4, 8, 8]


def test_closing_frees_every_stream_and_the_device() -> None:
    """A worker that is asked to end leaves nothing on the GPU."""
    device = FakeDevice()
    engine_on(device, streams=3).close()
    assert device.open == []
    assert device.is_closed


@pytest.mark.parametrize(
    ("message", "kind", "is_sticky"),
    [
        ("cuMemAlloc failed: out of memory", DeviceOutOfMemory, False),
        ("making a context failed: Error Code 2: OutOfMemory (no details)", DeviceOutOfMemory, False),
        ("cuStreamSynchronize failed: an illegal memory access was encountered", DeviceFault, True),
        ("cuEventSynchronize failed: unspecified launch failure", DeviceFault, True),
        ("cuMemcpyHtoDAsync failed: uncorrectable ECC error encountered", DeviceFault, True),
        ("inference failed: Error Code 1: Cuda Runtime (misaligned address)", DeviceFault, True),
        ("inference failed: cudaErrorLaunchFailure after OutOfMemory", DeviceFault, True),
        ("cuMemcpyHtoDAsync failed: invalid argument", DeviceFault, False),
        ("setting the batch size failed: TensorRT does not say why", DeviceFault, False),
    ],
)  # fmt: skip
def test_what_libraries_say_is_sorted(message: str, kind: type, is_sticky: bool) -> None:
    """Memory can be had with fewer images; a lost context cannot be had again; the rest is tried again."""
    error = fault_of(message)
    assert type(error) is kind
    assert getattr(error, "is_sticky", False) == is_sticky
