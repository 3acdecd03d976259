"""What the driver is asked, by its own interface: a library that answers as NVIDIA's does stands in for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from worker.engines.driver import ask_driver

# Attributes 75 and 76 are the compute capability.
_SOURCE = """
#include <string.h>
int cuInit(unsigned flags) { return flags ? 1 : STATUS; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device ? "NVIDIA L4" : "NVIDIA H200 MIG 1g.18gb", size);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device ? 8 : 9) : attribute == 76 ? (device ? 9 : 0) : -1;
    return 0;
}
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuGetErrorName(int error, const char **name) {
    *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : 0;
    return error != 100;
}
"""


@pytest.fixture(scope="module")
def driver_that_says(tmp_path_factory: pytest.TempPathFactory):
    """Build a driver with a status of cuInit and a number of GPUs."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(_SOURCE)

    def build(status: int, count: int) -> str:
        library: Path = folder / f"libcuda-{status}-{count}.so"
        arguments = ["-shared", "-fPIC", f"-DSTATUS={status}", f"-DCOUNT={count}", "-o", str(library)]
        subprocess.run([compiler, *arguments, str(folder / "driver.c")], check=True)
        return str(library)

    return build


def test_gpus_are_named_with_their_capability(driver_that_says) -> None:
    """A slice of a GPU has a name of its own, so engines of the whole and of slices are told apart."""
    driver = ask_driver(driver_that_says(0, 2))
    assert [gpu.label for gpu in driver.gpus] == ["sm_90 NVIDIA H200 MIG 1g.18gb", "sm_89 NVIDIA L4"]
    assert driver.obstacle == ""
    assert driver.version


@pytest.mark.parametrize(
    ("status", "obstacle"),
    [
        (100, "the NVIDIA driver finds no GPU (CUDA_ERROR_NO_DEVICE)"),
        (7, "the NVIDIA driver finds no GPU (error 7)"),
        (0, "CUDA_VISIBLE_DEVICES leaves this process no GPU"),
    ],
)
def test_a_driver_without_gpus_says_why(driver_that_says, status: int, obstacle: str) -> None:
    """The name of the error is what people search for."""
    driver = ask_driver(driver_that_says(status, 0))
    assert (driver.gpus, driver.obstacle) == ((), obstacle)
