"""The committed bundle, the real compiler, and a device that says what the network said."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.bundle import Bundle, load_bundle, newest_bundle_folder
from core.settings import Settings
from tests.assets.gpu import FakeDevice
from tests.conftest import missing_part
from worker.engines.gate import read_canaries


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """What a release ships."""
    return load_bundle(newest_bundle_folder(Settings().models))


@pytest.fixture(scope="session")
def compiler() -> None:
    """TensorRT-RTX, which builds without a GPU."""
    if find_spec("tensorrt_rtx") is None:
        missing_part("tensorrt_rtx")


@pytest.fixture
def engines_settings(tmp_path: Path) -> Settings:
    """Engines lie in the test's own folder."""
    return Settings(data_dir=tmp_path)


def network_device(bundle: Bundle, strays_by: float = 0.0) -> FakeDevice:
    """A device that gives the canaries the network's answers, and any other image 0.5; or strays from them."""
    canaries = read_canaries(bundle)
    assert canaries is not None
    known = {image.tobytes(): value for image, value in zip(canaries.images, canaries.expected, strict=True)}

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array([known.get(image.tobytes(), 0.5) + strays_by for image in images], np.float32)

    return FakeDevice(answer)
