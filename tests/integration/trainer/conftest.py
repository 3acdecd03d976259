"""The trainer's tests need the trainer extra; CI always has it."""

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

from cli.main import main

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


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in this process, which has torch already, and return the one line with which it ends."""

    def refuse(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["histobatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return str(ended.value.code)

    return refuse
