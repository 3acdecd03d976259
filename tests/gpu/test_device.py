"""Beneath the engine: streams that overlap, memory that runs out, and a context that is lost."""

import subprocess
import sys

import numpy as np
import pytest

from core.bundle import Bundle
from core.settings import PROJECT, Settings
from tests.gpu.pictures import pictures
from worker.engines.cache import EngineCache
from worker.engines.device import Channel
from worker.engines.driver import Driver
from worker.engines.flavours import Flavour
from worker.engines.key import EXACT, Profile
from worker.engines.place import engines_folder, gpu_profile
from worker.engines.provision import Wanted, provide_engine
from worker.engines.streams import StreamedEngine

_PROFILE = Profile(opt_batch=64, max_batch=256)


@pytest.fixture
def device(bundle: Bundle, gpu_settings: Settings, flavour: Flavour, driver: Driver):
    """The engine on the GPU, with no stream yet."""
    from worker.engines.tensorrt import TensorRtDevice

    graph = bundle.file("onnx", "fp16")
    assert graph is not None
    wanted = Wanted(graph=graph.read_bytes(), flavour=flavour, driver=driver, profile=gpu_profile(gpu_settings))
    cache = EngineCache(engines_folder(gpu_settings))
    opened = TensorRtDevice(flavour, provide_engine(cache, wanted, wanted.key()).plan, EXACT)
    yield opened
    opened.close()


def test_calls_in_two_streams_are_under_way_at_once(device) -> None:
    """The second is begun, its copy too, before the first is done: without streams it never would be."""
    images = pictures(256)
    with device.entered():
        channels: list[Channel] = [device.open_channel(256) for _ in range(2)]
        overlaps = 0
        for _ in range(20):
            for channel in channels:
                channel.begin(images)
            overlaps += not channels[0]._done.query()  # type: ignore[attr-defined]
            answers = [channel.finish() for channel in channels]
            np.testing.assert_array_equal(*answers)
        for channel in channels:
            channel.close()
    assert overlaps > 0


def test_a_gpu_without_memory_gets_smaller_calls(device) -> None:
    """Another process has nearly all of it: calls become smaller, and every image is answered."""
    import pycuda.driver as cuda

    images = pictures(300)
    with device.entered():
        free, _ = cuda.mem_get_info()
        hoard = cuda.mem_alloc(free - 64 * 2**20)
        try:
            engine = StreamedEngine(device, "test", _PROFILE)
            short = engine.classify(images)
        finally:
            hoard.free()
        tight = _idle(engine)
        roomy = StreamedEngine(device, "test", _PROFILE)
        np.testing.assert_allclose(short, roomy.classify(images), atol=0.005)
        for channel in (*tight, *_idle(roomy)):
            channel.close()
    assert min(channel.capacity for channel in tight) < 256


def _idle(engine: StreamedEngine) -> list[Channel]:
    """Take the streams of an engine that is not used any more."""
    return [engine._idle.get() for _ in range(engine._streams)]


_LOSE_THE_CONTEXT = """
import sys
import numpy as np
import pycuda.driver as cuda
from core.bundle import load_bundle, newest_bundle_folder
from core.errors import EngineError
from core.settings import Settings
from pathlib import Path
from worker.engines.driver import ask_driver
from worker.engines.flavours import find_flavour
from worker.engines.gpu import open_gpu_engine

PTX = b'''.version 6.0
.target sm_70
.address_size 64
.visible .entry poke() {
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 4096;
    st.global.u32 [%rd1], 1;
    ret;
}
'''
settings = Settings(data_dir=Path(sys.argv[1]), gpu_opt_batch=64, gpu_max_batch=256)
bundle = load_bundle(newest_bundle_folder(settings.models))
engine = open_gpu_engine(bundle, settings, find_flavour(sys.argv[2]), ask_driver())
image = np.zeros((1, 96, 144, 3), np.uint8)
engine.classify(image)
with engine._device.entered():
    cuda.module_from_buffer(PTX).get_function("poke")(block=(1, 1, 1), grid=(1, 1))
for _ in range(2):
    try:
        engine.classify(image)
    except EngineError as error:
        print("failed:", error, flush=True)
import os
os._exit(0)
"""


def test_a_lost_context_is_noticed_and_never_used_again(gpu_settings: Settings, flavour: Flavour) -> None:
    """After an illegal access every call fails, the second at once: the worker then ends, with status 75."""
    done = subprocess.run(
        [sys.executable, "-c", _LOSE_THE_CONTEXT, str(gpu_settings.data_dir), flavour.name],
        cwd=PROJECT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    failures = [line for line in done.stdout.splitlines() if line.startswith("failed:")]
    assert len(failures) == 2, done.stderr[-2000:]
    assert "lost to this process" in failures[1]
