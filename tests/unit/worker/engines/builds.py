"""Keys and builders for tests of the cache; a process of its own imports this, so it is a module."""

import os
import signal
import time
from pathlib import Path

from worker.engines.building import BuiltEngine
from worker.engines.cache import EngineCache
from worker.engines.key import EngineKey, Profile

KEY = EngineKey(
    onnx_sha256="a" * 64,
    flavour="tensorrt",
    version="11.4.0",
    gpu="sm_90 NVIDIA H200",
    driver="580.65.06",
    profile=Profile(opt_batch=64, max_batch=128),
)


def built(plan: bytes = b"plan", timing_cache: bytes | None = None) -> BuiltEngine:
    """What a builder returns."""
    return BuiltEngine(plan=plan, log="INFO built\n", seconds=0.1, timing_cache=timing_cache)


class CountingBuild:
    """A builder that counts its builds, and remembers what it was told of earlier ones."""

    def __init__(self, plan: bytes = b"plan", timing_cache: bytes | None = None) -> None:
        self.plan = plan
        self.timing_cache = timing_cache
        self.told: list[bytes] = []

    def __call__(self, timing_cache: bytes) -> BuiltEngine:
        self.told.append(timing_cache)
        return built(self.plan, self.timing_cache)


def build_in_a_process(cache: Path, marks: Path, *, dies: bool) -> None:
    """Provide the engine, leaving one mark a build; a builder that dies does so inside the build."""

    def build(_: bytes) -> BuiltEngine:
        (marks / f"build-{os.getpid()}").touch()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not (marks / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return built()

    def observe(event: str, *_: object) -> None:
        (marks / f"{event}-{os.getpid()}").touch()

    provided = EngineCache(cache, observe).provide(KEY, build)
    (marks / f"{'built' if provided.why_built else 'found'}-{os.getpid()}").touch()
