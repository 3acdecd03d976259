"""From the bundle to a GPU engine that may serve: the real graph, builder, cache and gate; only the GPU is a fake."""

from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest

from core.bundle import Bundle
from core.errors import EngineError
from core.settings import Settings
from tests.assets.gpu import FakeDevice
from tests.integration.engines.conftest import network_device
from worker.engines.cache import PLAN, EngineCache
from worker.engines.device import DeviceFault
from worker.engines.driver import Driver, Gpu
from worker.engines.flavours import TENSORRT_RTX, Flavour
from worker.engines.gate import EngineRefused, read_gate_report
from worker.engines.gpu import open_gpu_engine
from worker.engines.key import Compatibility
from worker.engines.place import engines_folder

DRIVER = Driver("580.65.06", (Gpu("NVIDIA L4", (8, 9)),))


@dataclass
class Loader:
    """Loads engines onto fake devices, and refuses the first few."""

    bundle: Bundle
    strays_by: float = 0.0
    refusals: int = 0
    plans: list[bytes] = field(default_factory=list)
    devices: list[FakeDevice] = field(default_factory=list)

    def __call__(self, flavour: Flavour, plan: bytes, compatibility: Compatibility) -> FakeDevice:
        self.plans.append(plan)
        if len(self.plans) <= self.refusals:
            raise DeviceFault("loading the engine failed: the engine plan file is not compatible with this version")
        self.devices.append(network_device(self.bundle, self.strays_by))
        return self.devices[-1]


@pytest.fixture
def opened(compiler: None, bundle: Bundle, engines_settings: Settings):
    """Open an engine with a loader."""

    def run(loader: Loader):
        return open_gpu_engine(bundle, engines_settings, TENSORRT_RTX, DRIVER, loader)

    return run


def test_an_engine_is_built_judged_and_found_again(opened, bundle: Bundle, engines_settings: Settings) -> None:
    """The first start builds and keeps what the gate said; the next loads the same bytes; a damaged file is rebuilt."""
    loader = Loader(bundle)
    engine = opened(loader)
    assert engine.name == "tensorrt-rtx-fp16"
    engine.close()
    (entry,) = EngineCache(engines_folder(engines_settings)).entries()
    report = read_gate_report(entry.folder)
    assert report is not None
    assert (report.passed, report.images) == (True, 8)
    opened(loader).close()
    assert loader.plans[0] == loader.plans[1]
    assert 40e6 < len(loader.plans[0]) < 70e6
    plan = (entry.folder / PLAN).read_bytes()
    (entry.folder / PLAN).write_bytes(plan[:-1])
    opened(loader).close()
    assert (entry.folder / PLAN).read_bytes() == loader.plans[2]
    assert len(loader.plans[2]) > 40e6
    assert loader.plans[2] != plan[:-1]


def test_an_engine_that_strays_is_refused_and_the_device_freed(
    opened, bundle: Bundle, engines_settings: Settings
) -> None:
    """What disagrees with the network never serves, and says by how much."""
    loader = Loader(bundle, strays_by=0.05)
    with pytest.raises(EngineRefused, match=r"largest difference 0\.05"):
        opened(loader)
    assert loader.devices[0].is_closed
    (entry,) = EngineCache(engines_folder(engines_settings)).entries()
    report = read_gate_report(entry.folder)
    assert report is not None
    assert not report.passed


def test_without_pycuda_the_engine_is_refused(compiler: None, bundle: Bundle, engines_settings: Settings) -> None:
    """The real loader, on a machine that lacks what it needs."""
    if find_spec("pycuda") is not None:
        pytest.skip("pycuda is here")
    with pytest.raises(EngineError, match="pycuda cannot be imported"):
        open_gpu_engine(bundle, engines_settings, TENSORRT_RTX, DRIVER)


def test_a_library_with_another_interface_is_refused_like_an_engine(opened, bundle: Bundle) -> None:
    """A version that nobody has met must not keep the CPU from serving."""

    def load(*_: object) -> FakeDevice:
        raise AttributeError("'ICudaEngine' object has no attribute 'create_execution_context'")

    with pytest.raises(EngineError, match="tensorrt_rtx is not as expected: AttributeError"):
        opened(load)


def test_a_kept_engine_that_does_not_load_is_built_anew_once(opened, bundle: Bundle) -> None:
    """A file that was whole and is of no use all the same heals by itself; a device that refuses a new one does not."""
    opened(Loader(bundle)).close()
    healed = Loader(bundle, refusals=1)
    opened(healed).close()
    assert len(healed.plans) == 2
    hopeless = Loader(bundle, refusals=9)
    with pytest.raises(DeviceFault, match="not compatible"):
        opened(hopeless)
    assert len(hopeless.plans) == 2
