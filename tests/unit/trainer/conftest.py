"""The trainer's tests need the trainer extra; CI always has it."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    if os.environ.get("CI"):
        raise RuntimeError("torch is missing, and CI must have it")
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="package", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are not kept where the user keeps theirs, by the commands that tests start either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
