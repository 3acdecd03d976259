"""Building with the real compiler: progress, interruptions, and the keys that engines are looked for by."""

import pytest

from core.bundle import Bundle
from core.errors import EngineError
from worker.engines.building import BuildRequest, build_engine
from worker.engines.driver import Driver, Gpu
from worker.engines.flavours import TENSORRT_RTX, Flavour
from worker.engines.key import ANY, EXACT, USUAL_PROFILE, Compatibility
from worker.engines.provision import Wanted

H200 = Driver("580.65.06", (Gpu("NVIDIA H200", (9, 0)),))
T4 = Driver("580.65.06", (Gpu("Tesla T4", (7, 5)),))
# TensorRT is not here: its sibling stands in where only its version is asked.
TIED = Flavour("tensorrt", "tensorrt_rtx", is_portable=False, install="")


@pytest.fixture
def graph(compiler: None, bundle: Bundle) -> bytes:
    path = bundle.file("onnx", "fp16")
    assert path is not None
    return path.read_bytes()


def test_a_build_tells_how_far_it_is(graph: bytes) -> None:
    """From nothing to all, never back, with the names of phases."""
    told: list[tuple[float, str]] = []
    built = build_engine(
        BuildRequest(flavour=TENSORRT_RTX, graph=graph, profile=USUAL_PROFILE), lambda *what: told.append(what)
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1.0
    assert len({phase for _, phase in told}) > 3
    assert built.timing_cache is None  # it would ask for a GPU


def test_a_signal_in_the_middle_of_a_build_ends_it_in_order(graph: bytes) -> None:
    """SIGTERM's SystemExit comes up inside a callback: it must come out after the build, and not end the process."""
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise SystemExit(0)

    with pytest.raises(SystemExit):
        build_engine(BuildRequest(flavour=TENSORRT_RTX, graph=graph, profile=USUAL_PROFILE), interrupt)
    assert calls == 5


def test_a_portable_engine_is_for_any_gpu(compiler: None) -> None:
    """So one that was compiled elsewhere serves here."""
    for driver in (H200, T4, Driver(obstacle="none is here")):
        (key,) = Wanted(graph=b"graph", flavour=TENSORRT_RTX, driver=driver).usable_keys()
        assert (key.gpu, key.driver, key.compatibility) == (ANY, ANY, EXACT)


def test_an_engine_of_its_own_comes_before_compatible_ones(compiler: None) -> None:
    """They are slower; hardware-compatible ones run from Ampere on only, and name no GPU or driver."""
    keys = Wanted(graph=b"graph", flavour=TIED, driver=H200).usable_keys()
    assert [key.compatibility for key in keys] == [
        EXACT,
        Compatibility(version=True),
        Compatibility(hardware=True),
        Compatibility(hardware=True, version=True),
    ]
    assert (keys[0].gpu, keys[0].driver) == ("sm_90 NVIDIA H200", "580.65.06")
    assert keys[1].version == ANY
    assert (keys[2].driver, "H200" in keys[2].gpu) == (ANY, False)
    assert len({key.name for key in keys}) == 4
    assert not any(key.compatibility.hardware for key in Wanted(graph=b"graph", flavour=TIED, driver=T4).usable_keys())


def test_an_engine_that_is_tied_to_a_gpu_needs_one(compiler: None) -> None:
    """The error names the way without."""
    with pytest.raises(EngineError, match=r"none is here; --target tensorrt-rtx builds without one"):
        Wanted(graph=b"graph", flavour=TIED, driver=Driver(obstacle="none is here")).usable_keys()
