"""The engine on a real GPU: it says what the network says, in calls of any size and from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.bundle import Bundle
from core.settings import Settings
from tests.gpu.pictures import pictures
from worker.engines.cache import EngineCache
from worker.engines.driver import Driver
from worker.engines.flavours import Flavour
from worker.engines.gate import MAX_DIFFERENCE, MIN_AGREEMENT, judge_engine, read_canaries
from worker.engines.gpu import open_gpu_engine
from worker.engines.openvino import OpenVinoEngine
from worker.engines.place import engines_folder
from worker.engines.streams import StreamedEngine


def test_the_engine_passes_the_gate(engine: StreamedEngine, bundle: Bundle) -> None:
    """Built, loaded, and equal to the network on the canaries."""
    canaries = read_canaries(bundle)
    assert canaries is not None
    assert judge_engine(engine, canaries).passed


def test_half_precision_says_what_float32_says(engine: StreamedEngine, bundle: Bundle) -> None:
    """99.9 % of the labels, and no probability off by two hundredths."""
    images = pictures(1000)
    cpu = OpenVinoEngine(bundle, "fp32")
    expected = np.concatenate([cpu.classify(images[first : first + 50]) for first in range(0, 1000, 50)])
    cpu.close()
    answers = engine.classify(images)
    threshold = bundle.manifest.decision.threshold
    assert np.abs(answers - expected).max() < MAX_DIFFERENCE
    assert np.mean((answers >= threshold) == (expected >= threshold)) >= MIN_AGREEMENT


@pytest.mark.parametrize("number", [1, 2, 63, 64, 65, 255, 256, 257, 600])
def test_the_size_of_a_call_does_not_matter(engine: StreamedEngine, number: int) -> None:
    """Kernels for other sizes may round otherwise; nothing more."""
    images = pictures(number)
    few = np.concatenate([engine.classify(images[first : first + 32]) for first in range(0, number, 32)])
    np.testing.assert_allclose(engine.classify(images), few, atol=MAX_DIFFERENCE / 4)


def test_streams_do_not_disturb_each_other(engine: StreamedEngine) -> None:
    """The same call gives the same bits, whatever runs in the other streams at that moment."""
    images = pictures(128)
    alone = engine.classify(images)
    with ThreadPoolExecutor(engine.parallel_calls) as threads:
        answers = list(threads.map(lambda _: engine.classify(images), range(64)))
    assert all(np.array_equal(answer, alone) for answer in answers)


def test_an_engine_that_is_there_is_not_built_again(
    engine: StreamedEngine, bundle: Bundle, gpu_settings: Settings, flavour: Flavour, driver: Driver
) -> None:
    """A hot restart takes seconds: the file stays as it is, and passes the gate again."""
    (entry,) = EngineCache(engines_folder(gpu_settings)).entries()
    again = open_gpu_engine(bundle, gpu_settings, flavour, driver)
    images = pictures(64)
    np.testing.assert_array_equal(again.classify(images), engine.classify(images))
    again.close()
    (same,) = EngineCache(engines_folder(gpu_settings)).entries()
    assert entry.manifest is not None
    assert same.manifest == entry.manifest
