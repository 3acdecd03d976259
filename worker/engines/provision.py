"""Which engine a machine needs, and getting it: from the cache, or built."""

from dataclasses import dataclass
from hashlib import sha256

from core.errors import EngineError
from worker.engines.build_progress import Listener, ignore
from worker.engines.building import BuildRequest, BuiltEngine, build_engine
from worker.engines.cache import EngineCache, Provided
from worker.engines.driver import Driver
from worker.engines.flavours import Flavour
from worker.engines.key import ANY, EXACT, USUAL_PROFILE, Compatibility, EngineKey, Profile

# From this compute capability on, hardware-compatible engines run.
_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be had: an engine of this graph, by this flavour, for the machine whose driver was asked."""

    graph: bytes
    flavour: Flavour
    driver: Driver
    profile: Profile = USUAL_PROFILE

    def key(self, compatibility: Compatibility = EXACT) -> EngineKey:
        """Name the engine.

        Raises:
            EngineError: the flavour is missing, or builds on its GPU only and there is none.
        """
        version = str(self.flavour.load().__version__)
        gpu = driver = ANY
        if not self.flavour.is_portable:
            if not self.driver.gpus:
                raise EngineError(
                    f"{self.flavour.name} builds on the GPU that the engine is for, but {self.driver.obstacle}; "
                    "--target tensorrt-rtx builds without one"
                )
            gpu, driver = self.driver.gpus[0].label, self.driver.version
        return EngineKey(
            onnx_sha256=sha256(self.graph).hexdigest(),
            flavour=self.flavour.name,
            version=ANY if compatibility.version else version,
            gpu="sm_80 and later" if compatibility.hardware else gpu,
            driver=ANY if compatibility.hardware else driver,
            profile=self.profile,
            compatibility=compatibility,
        )

    def usable_keys(self) -> list[EngineKey]:
        """Name every engine that serves here, the fastest first; the first is what is built where none is there."""
        choices = [Compatibility()]
        if not self.flavour.is_portable:
            choices.append(Compatibility(version=True))
            if self.driver.gpus and self.driver.gpus[0].capability >= _AMPERE:
                choices += [Compatibility(hardware=True), Compatibility(hardware=True, version=True)]
        return [self.key(choice) for choice in choices]


def provide_engine(cache: EngineCache, wanted: Wanted, key: EngineKey, listener: Listener = ignore) -> Provided:
    """Return the engine of this key, building it where it is not there.

    Raises:
        EngineError: the build failed, or the cache's folder cannot be used.
    """

    def build(timing_cache: bytes) -> BuiltEngine:
        request = BuildRequest(
            flavour=wanted.flavour,
            graph=wanted.graph,
            profile=wanted.profile,
            compatibility=key.compatibility,
            timing_cache=timing_cache,
        )
        return build_engine(request, listener)

    try:
        return cache.provide(key, build)
    except OSError as error:
        raise EngineError(
            f"the folder of engines {cache.folder} cannot be used ({error.strerror}): grant this user write access"
        ) from error
